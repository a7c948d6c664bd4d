"""Groups: state, offsets, the ends of their logs and the times of the next records, in few calls for many groups.

The order matters: committed offsets are fetched first and the ends of the logs afterwards, so an end is never smaller
than a committed offset, and lag never negative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka.protocol.admin import DeleteGroupsRequest, DescribeGroupsRequest
from kafka.protocol.consumer import OffsetCommitRequest, OffsetFetchRequest
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment
from kafka.protocol.metadata import FindCoordinatorRequest

from broadsheet_operator.kafka.consumer_groups import describe_consumer_groups
from broadsheet_operator.kafka.failures import GROUP_ID_NOT_FOUND, failure_of_code
from broadsheet_operator.kafka.logs import Logs, list_offsets, look_at_logs, record_times
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.consumer_group import CommitOffsets, DeleteGroup, GroupAction
from broadsheet_operator.reconcilers.observed import Failure, GroupQuery, GroupView, MemberView, TopicPartition
from broadsheet_operator.reconcilers.reasons import Reason

OFFSET_VERSION = 8
"""Group and offset requests by topic name; 9 and later are for members of the new protocol, 10 for topic ids."""


@dataclass(slots=True)
class Draft:
    """A group while it is being observed."""

    query: GroupQuery
    failure: Failure | None = None
    state: str = ""
    members: list[MemberView] = field(default_factory=list)
    committed: dict[TopicPartition, int] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return bool(self.members or self.committed) or self.state not in ("", "Dead")


def observe_groups(wire: Wire, queries: Mapping[str, GroupQuery]) -> dict[str, GroupView | Failure]:
    """Each group by its id."""
    drafts = {group: Draft(query) for group, query in queries.items()}
    coordinators = _find_coordinators(wire, list(queries))
    by_node: dict[int, list[str]] = defaultdict(list)
    for group, node in coordinators.items():
        if isinstance(node, Failure):
            drafts[group].failure = node
        else:
            by_node[node].append(group)
    describe(wire, by_node, drafts)
    fetch_offsets(wire, by_node, drafts)
    good = {g: d for g, d in drafts.items() if d.failure is None}
    logs = look_at_logs(wire, set().union(*(topics_of(d) for d in good.values())))
    if isinstance(logs, Failure):
        return {g: d.failure or logs for g, d in drafts.items()}
    times = record_times(wire, to_be_timed(good.values(), logs), logs)
    result: dict[str, GroupView | Failure] = {}
    for group, draft in drafts.items():
        result[group] = draft.failure or view_of(wire, group, draft, logs, times)
    return result


def view_of(
    wire: Wire, group: str, draft: Draft, logs: Logs, times: Mapping[TopicPartition, Mapping[int, int]]
) -> GroupView | Failure:
    topics = topics_of(draft)
    ends = {at: end for at, end in logs.ends.items() if at.topic in topics}
    at_time: dict[TopicPartition, int] = {}
    if draft.query.time_ms is not None:
        found = _offsets_at(wire, logs, list(ends), draft.query.time_ms)
        if isinstance(found, Failure):
            return found
        at_time = {at: offset if offset >= 0 else ends[at] for at, offset in found.items()}
    return GroupView(
        group_id=group,
        exists=draft.exists,
        state=draft.state or ("Empty" if draft.committed else "Dead"),
        members=tuple(draft.members),
        # The group may still hold offsets of a topic that was deleted since.
        committed={at: o for at, o in draft.committed.items() if at in ends},
        starts={at: s for at, s in logs.starts.items() if at in ends},
        ends=ends,
        record_times={at: times[at][offset] for at, offset in draft.committed.items() if offset in times.get(at, {})},
        offsets_at_time=at_time,
    )


def _find_coordinators(wire: Wire, groups: Sequence[str]) -> dict[str, int | Failure]:
    answer = wire.ask_one(
        Call(FindCoordinatorRequest(key_type=0, coordinator_keys=list(groups), min_version=4), "find the coordinator")
    )
    if isinstance(answer, Failure):
        return dict.fromkeys(groups, answer)
    missing = Failure(Reason.COORDINATOR_NOT_AVAILABLE, "the cluster did not name the group's coordinator")
    result: dict[str, int | Failure] = dict.fromkeys(groups, missing)
    for found in answer.coordinators:
        what = f"find the coordinator of {found.key}"
        result[found.key] = failure_of_code(found.error_code, found.error_message, what) or found.node_id
    return result


def describe(wire: Wire, by_node: Mapping[int, list[str]], drafts: Mapping[str, Draft]) -> None:
    """Fill in states and members, of the classic protocol and of the consumer protocol."""
    nodes = list(by_node.items())
    answers = wire.ask(
        [
            Call(DescribeGroupsRequest(groups=g, include_authorized_operations=False), "look at groups", node)
            for node, g in nodes
        ]
    )
    not_classic: dict[int, list[str]] = defaultdict(list)
    for (node, groups), answer in zip(nodes, answers, strict=True):
        if isinstance(answer, Failure):
            for group in groups:
                drafts[group].failure = answer
            continue
        for entry in answer.groups:
            draft = drafts[entry.group_id]
            if entry.error_code == GROUP_ID_NOT_FOUND:
                draft.state = "Dead"
                if "not a classic group" in (getattr(entry, "error_message", None) or ""):
                    not_classic[node].append(entry.group_id)
                continue
            draft.failure = failure_of_code(entry.error_code, None, f"look at the group {entry.group_id}")
            draft.state = entry.group_state
            draft.members = [_member(m) for m in entry.members]
    for group, found in describe_consumer_groups(wire, not_classic).items():
        if isinstance(found, Failure):
            drafts[group].failure = found
        else:
            drafts[group].state, drafts[group].members = found


def _member(member: Any) -> MemberView:
    assigned: tuple[TopicPartition, ...] = ()
    try:
        decoded = ConsumerProtocolAssignment.decode(bytes(member.member_assignment or b""))
        assigned = tuple(
            TopicPartition(topic, partition)
            for topic, partitions in decoded.assigned_partitions
            for partition in partitions
        )
    except Exception:  # members of other kinds (Connect workers) have bytes of their own here
        assigned = ()
    host = (member.client_host or "").lstrip("/")
    return MemberView(
        member.member_id, member.client_id, host, getattr(member, "group_instance_id", None) or None, assigned
    )


def fetch_offsets(wire: Wire, by_node: Mapping[int, list[str]], drafts: dict[str, Draft]) -> None:
    group = OffsetFetchRequest.OffsetFetchRequestGroup
    nodes = list(by_node.items())
    answers = wire.ask(
        [
            Call(
                OffsetFetchRequest(
                    groups=[group(group_id=g, topics=None) for g in groups],
                    min_version=OFFSET_VERSION,
                    max_version=OFFSET_VERSION,
                ),
                "read committed offsets",
                node,
            )
            for node, groups in nodes
        ]
    )
    for (_, groups), answer in zip(nodes, answers, strict=True):
        if isinstance(answer, Failure):
            for name in groups:
                drafts[name].failure = drafts[name].failure or answer
            continue
        for entry in answer.groups:
            draft = drafts[entry.group_id]
            failure = failure_of_code(entry.error_code, None, f"read the offsets of {entry.group_id}")
            if failure is not None and entry.error_code != GROUP_ID_NOT_FOUND:
                draft.failure = draft.failure or failure
                continue
            draft.committed = {
                TopicPartition(t.name, p.partition_index): p.committed_offset
                for t in entry.topics
                for p in t.partitions
                if p.error_code == 0 and p.committed_offset >= 0
            }


def topics_of(draft: Draft) -> set[str]:
    assigned = {at.topic for m in draft.members for at in m.assigned}
    return assigned | {at.topic for at in draft.committed} | set(draft.query.topics)


def to_be_timed(drafts: Iterable[Draft], logs: Logs) -> dict[TopicPartition, set[int]]:
    """Committed offsets behind which there are records to read."""
    wanted: dict[TopicPartition, set[int]] = defaultdict(set)
    for draft in drafts:
        for at, offset in draft.committed.items():
            if max(offset, logs.starts.get(at, 0)) < logs.ends.get(at, 0):
                wanted[at].add(offset)
    return wanted


def _offsets_at(
    wire: Wire, logs: Logs, places: Sequence[TopicPartition], time_ms: int
) -> dict[TopicPartition, int] | Failure:
    found = list_offsets(wire, logs.leaders, [dict.fromkeys(places, time_ms)])
    return found if isinstance(found, Failure) else found[0]


def apply_groups(wire: Wire, actions: Sequence[GroupAction]) -> list[Failure | None]:
    """All actions; resets and deletions are rare, so each is a request of its own."""
    coordinators = _find_coordinators(wire, sorted({a.group_id for a in actions})) if actions else {}
    result: list[Failure | None] = []
    for action in actions:
        node = coordinators[action.group_id]
        if isinstance(node, Failure):
            result.append(node)
        elif isinstance(action, CommitOffsets):
            result.append(_commit(wire, action, node))
        else:
            result.append(_delete(wire, action, node))
    return result


def _commit(wire: Wire, action: CommitOffsets, node: int) -> Failure | None:
    topic = OffsetCommitRequest.OffsetCommitRequestTopic
    by_topic: dict[str, list[Any]] = defaultdict(list)
    for at, offset in action.offsets.items():
        by_topic[at.topic].append(
            topic.OffsetCommitRequestPartition(
                partition_index=at.partition, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=""
            )
        )
    request = OffsetCommitRequest(
        group_id=action.group_id,
        generation_id_or_member_epoch=-1,
        member_id="",
        group_instance_id=None,
        retention_time_ms=-1,
        topics=[topic(name=name, partitions=partitions) for name, partitions in by_topic.items()],
        max_version=OFFSET_VERSION,
    )
    what = f"set the offsets of {action.group_id}"
    answer = wire.ask_one(Call(request, what, node))
    if isinstance(answer, Failure):
        return answer
    failures = (failure_of_code(p.error_code, None, what) for t in answer.topics for p in t.partitions)
    return next((f for f in failures if f), None)


def _delete(wire: Wire, action: DeleteGroup, node: int) -> Failure | None:
    what = f"delete the group {action.group_id}"
    answer = wire.ask_one(Call(DeleteGroupsRequest(groups_names=[action.group_id]), what, node))
    if isinstance(answer, Failure):
        return answer
    failures = (failure_of_code(r.error_code, None, what) for r in answer.results if r.error_code != GROUP_ID_NOT_FOUND)
    return next((f for f in failures if f), None)
