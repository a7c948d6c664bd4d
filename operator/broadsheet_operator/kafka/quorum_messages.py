"""Messages that kafka-python has no classes for: AddRaftVoter (80), RemoveRaftVoter (81), UnregisterBroker (64)."""

from __future__ import annotations

from typing import Any

from broadsheet_operator.kafka.message_class import message

_ERROR: list[dict[str, Any]] = [
    {"name": "ThrottleTimeMs", "type": "int32", "versions": "0+"},
    {"name": "ErrorCode", "type": "int16", "versions": "0+"},
    {"name": "ErrorMessage", "type": "string", "versions": "0+", "nullableVersions": "0+"},
]
_VOTER: list[dict[str, Any]] = [
    {"name": "VoterId", "type": "int32", "versions": "0+"},
    {"name": "VoterDirectoryId", "type": "uuid", "versions": "0+"},
]
_CLUSTER_ID: dict[str, Any] = {"name": "ClusterId", "type": "string", "versions": "0+", "nullableVersions": "0+"}


AddRaftVoterRequest = message(
    80,
    "AddRaftVoterRequest",
    "request",
    [
        _CLUSTER_ID,
        {"name": "TimeoutMs", "type": "int32", "versions": "0+"},
        *_VOTER,
        {
            "name": "Listeners",
            "type": "[]Listener",
            "versions": "0+",
            "fields": [
                {"name": "Name", "type": "string", "versions": "0+", "mapKey": True},
                {"name": "Host", "type": "string", "versions": "0+"},
                {"name": "Port", "type": "uint16", "versions": "0+"},
            ],
        },
        {"name": "AckWhenCommitted", "type": "bool", "versions": "1+", "default": "true"},
    ],
    "0-1",
)
AddRaftVoterResponse = message(80, "AddRaftVoterResponse", "response", _ERROR, "0-1")
RemoveRaftVoterRequest = message(81, "RemoveRaftVoterRequest", "request", [_CLUSTER_ID, *_VOTER])
RemoveRaftVoterResponse = message(81, "RemoveRaftVoterResponse", "response", _ERROR)
UnregisterBrokerRequest = message(
    64, "UnregisterBrokerRequest", "request", [{"name": "BrokerId", "type": "int32", "versions": "0+"}]
)
UnregisterBrokerResponse = message(64, "UnregisterBrokerResponse", "response", _ERROR)
