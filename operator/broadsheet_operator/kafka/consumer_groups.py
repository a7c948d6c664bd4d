"""Members of groups of the consumer protocol (KIP-848), which DescribeGroups does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.message_class import message
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import Failure, MemberView, TopicPartition

API_KEY = 69


def _field(name: str, type: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type, "versions": "0+", **more}


_NULLABLE = {"nullableVersions": "0+"}
_PARTITIONS = [
    _field(
        "TopicPartitions",
        "[]TopicPartitions",
        fields=[_field("TopicId", "uuid"), _field("TopicName", "string"), _field("Partitions", "[]int32")],
    )
]
_MEMBER = [
    _field("MemberId", "string"),
    _field("InstanceId", "string", **_NULLABLE),
    _field("RackId", "string", **_NULLABLE),
    _field("MemberEpoch", "int32"),
    _field("ClientId", "string"),
    _field("ClientHost", "string"),
    _field("SubscribedTopicNames", "[]string"),
    _field("SubscribedTopicRegex", "string", **_NULLABLE),
    _field("Assignment", "Assignment", fields=_PARTITIONS),
    _field("TargetAssignment", "Assignment", fields=_PARTITIONS),
]
_GROUP = [
    _field("ErrorCode", "int16"),
    _field("ErrorMessage", "string", **_NULLABLE),
    _field("GroupId", "string"),
    _field("GroupState", "string"),
    _field("GroupEpoch", "int32"),
    _field("AssignmentEpoch", "int32"),
    _field("AssignorName", "string"),
    _field("Members", "[]Member", fields=_MEMBER),
    _field("AuthorizedOperations", "int32"),
]
ConsumerGroupDescribeRequest = message(
    API_KEY,
    "ConsumerGroupDescribeRequest",
    "request",
    [_field("GroupIds", "[]string"), _field("IncludeAuthorizedOperations", "bool")],
)
ConsumerGroupDescribeResponse = message(
    API_KEY,
    "ConsumerGroupDescribeResponse",
    "response",
    [_field("ThrottleTimeMs", "int32"), _field("Groups", "[]DescribedGroup", fields=_GROUP)],
)

Described = tuple[str, list[MemberView]]
"""State and members of a group."""


def describe_consumer_groups(wire: Wire, by_node: Mapping[int, list[str]]) -> dict[str, Described | Failure]:
    """Each of these groups, asked of its coordinator."""
    nodes = [(node, groups) for node, groups in by_node.items() if groups]
    requests = [ConsumerGroupDescribeRequest(group_ids=g, include_authorized_operations=False) for _, g in nodes]
    calls = [Call(request, "look at groups", node) for (node, _), request in zip(nodes, requests, strict=True)]
    result: dict[str, Described | Failure] = {}
    for (_, groups), answer in zip(nodes, wire.ask(calls), strict=True):
        if isinstance(answer, Failure):
            result |= dict.fromkeys(groups, answer)
            continue
        for entry in answer.groups:
            what = f"look at the group {entry.group_id}"
            failure = failure_of_code(entry.error_code, entry.error_message, what)
            result[entry.group_id] = failure or (entry.group_state, [_member(member) for member in entry.members])
    return result


def _member(member: Any) -> MemberView:
    assigned = tuple(
        TopicPartition(topic.topic_name, partition)
        for topic in member.assignment.topic_partitions
        for partition in topic.partitions
    )
    return MemberView(
        member.member_id, member.client_id, member.client_host.lstrip("/"), member.instance_id or None, assigned
    )
