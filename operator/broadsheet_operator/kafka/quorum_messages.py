"""Messages that kafka-python has no classes for: AddRaftVoter (80), RemoveRaftVoter (81), UnregisterBroker (64).

The library makes a class from a description of Kafka's by the class's name; here the description is given instead.
"""

from __future__ import annotations

from typing import Any

from kafka.protocol.api_message import ApiMessage

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


def _message(key: int, name: str, kind: str, fields: list[dict[str, Any]], versions: str = "0") -> Any:
    description = {
        "apiKey": key,
        "type": kind,
        "name": name,
        "validVersions": versions,
        "flexibleVersions": "0+",
        "fields": fields,
    }

    class DescribeQuorumRequest(ApiMessage):  # type: ignore[misc]  # a name that the library finds a description for
        @classmethod
        def json_patch(cls, json: Any) -> Any:
            return description

    DescribeQuorumRequest.__name__ = DescribeQuorumRequest.__qualname__ = name
    return DescribeQuorumRequest


AddRaftVoterRequest = _message(
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
AddRaftVoterResponse = _message(80, "AddRaftVoterResponse", "response", _ERROR, "0-1")
RemoveRaftVoterRequest = _message(81, "RemoveRaftVoterRequest", "request", [_CLUSTER_ID, *_VOTER])
RemoveRaftVoterResponse = _message(81, "RemoveRaftVoterResponse", "response", _ERROR)
UnregisterBrokerRequest = _message(
    64, "UnregisterBrokerRequest", "request", [{"name": "BrokerId", "type": "int32", "versions": "0+"}]
)
UnregisterBrokerResponse = _message(64, "UnregisterBrokerResponse", "response", _ERROR)
