"""The lag of all groups of a cluster, in few requests: none of them is for one group or one partition alone.

The order is that of `groups`: committed offsets first and the ends of the logs afterwards, so lag is never negative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

from kafka.protocol.admin import ListGroupsRequest

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.groups import Draft, describe, fetch_offsets, to_be_timed, topics_of, view_of
from broadsheet_operator.kafka.logs import Logs, look_at_logs, record_times
from broadsheet_operator.kafka.topics import batches, observe_cluster
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import (
    Failure,
    GroupQuery,
    GroupView,
    LagQuery,
    LagView,
    LogView,
    TopicPartition,
)
from broadsheet_operator.reconcilers.reasons import Reason

GROUPS_AT_ONCE = 200
"""Groups in one request."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """A group as its coordinator lists it."""

    id: str
    node: int
    state: str


def observe_lag(wire: Wire, query: LagQuery) -> LagView | Failure:
    """The groups of the cluster, as many as the query allows."""
    listed = _list_groups(wire)
    if isinstance(listed, Failure):
        return listed
    groups = [group for group in listed if not _is_left_alone(group.id, query)]
    drafts: dict[str, Draft] = {}
    rows = 0
    for some in batches(groups, GROUPS_AT_ONCE):
        if rows >= query.most_partitions:
            break
        found = _observe(wire, some)
        drafts |= found
        rows += sum(len(draft.committed) for draft in found.values())
    good = {group: draft for group, draft in drafts.items() if draft.failure is None and draft.exists}
    wanted = None if query.all_topics else set().union(*(topics_of(draft) for draft in good.values()))
    logs = look_at_logs(wire, wanted)
    if isinstance(logs, Failure):
        return logs
    fitting = _fitting(good, logs, query.most_partitions)
    times = _times(wire, fitting, logs, query)
    views = [view_of(wire, group, draft, logs, times) for group, draft in fitting.items()]
    return LagView(
        groups=tuple(view for view in views if isinstance(view, GroupView)),
        left_out=len(groups) - len(drafts) + len(good) - len(fitting),
        failed=sum(draft.failure is not None for draft in drafts.values()),
        logs=tuple(_log_views(logs)) if query.all_topics else (),
        times=times,
    )


def _is_left_alone(group: str, query: LagQuery) -> bool:
    return group in query.known or any(fnmatchcase(group, pattern) for pattern in query.excluded)


def _list_groups(wire: Wire) -> list[_Listed] | Failure:
    """All groups in the order of their ids; each broker lists those that it coordinates."""
    cluster = observe_cluster(wire)
    if isinstance(cluster, Failure):
        return cluster
    nodes = [broker.id for broker in cluster.alive]
    request = ListGroupsRequest(states_filter=[], types_filter=[])
    result: dict[str, _Listed] = {}
    answers = wire.ask([Call(request, "list groups", node) for node in nodes])
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, Failure):
            return answer  # the groups of a broker that does not answer would seem to be gone
        failure = failure_of_code(answer.error_code, None, "list groups")
        if failure is not None:
            return failure  # as would those of one that still loads them
        for group in answer.groups:
            if (getattr(group, "group_type", None) or "classic").lower() in ("classic", "consumer"):
                state = getattr(group, "group_state", None) or ""
                result[group.group_id] = _Listed(group.group_id, node, state)
    if not nodes:
        return Failure(Reason.UNREACHABLE, "list groups: the cluster has no broker that takes requests")
    return [result[group] for group in sorted(result)]


def _observe(wire: Wire, groups: Collection[_Listed]) -> dict[str, Draft]:
    drafts = {group.id: Draft(GroupQuery(), state=group.state) for group in groups}
    by_node: dict[int, list[str]] = defaultdict(list)
    for group in groups:
        by_node[group.node].append(group.id)
    describe(wire, by_node, drafts)
    fetch_offsets(wire, by_node, drafts)
    return drafts


def _fitting(drafts: Mapping[str, Draft], logs: Logs, most: int) -> dict[str, Draft]:
    """The first groups that have no more partitions together than that, each whole or not at all."""
    sizes: dict[str, int] = defaultdict(int)
    for at in logs.partitions:
        sizes[at.topic] += 1
    result: dict[str, Draft] = {}
    left = most
    for group, draft in sorted(drafts.items()):
        size = sum(sizes[topic] for topic in topics_of(draft))
        if size > left:
            continue
        left -= size
        result[group] = draft
    return result


def _times(
    wire: Wire, drafts: Mapping[str, Draft], logs: Logs, query: LagQuery
) -> dict[TopicPartition, dict[int, int]]:
    """When the records at committed offsets were written: what was known before, and some more."""
    wanted = to_be_timed(drafts.values(), logs)
    result: dict[TopicPartition, dict[int, int]] = defaultdict(dict)
    new: dict[TopicPartition, set[int]] = {}
    for at, offsets in wanted.items():
        start = logs.starts.get(at, 0)
        known = query.times.get(at, {})
        # What is known of an offset that retention has passed since is the time of a record that is gone.
        result[at] = {offset: known[offset] for offset in offsets if offset in known and offset >= start}
        missing = {offset for offset in offsets if offset not in result[at]}
        if missing:
            new[at] = missing
    for at, found in record_times(wire, dict(islice(new.items(), query.most_fetches)), logs).items():
        result[at] |= found
    return result


def _log_views(logs: Logs) -> Iterator[LogView]:
    for at, partition in sorted(logs.partitions.items()):
        yield LogView(at, partition, logs.starts.get(at), logs.ends.get(at))
