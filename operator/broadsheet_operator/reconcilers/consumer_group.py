"""The ConsumerGroup planner: how the group does, and the one reset that may be asked of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broadsheet_operator.api.consumer_group import (
    ConsumerGroup,
    ConsumerGroupStatus,
    ExactOffset,
    GroupMember,
    LagLimits,
    LastReset,
    PartitionLag,
    Reset,
    ResetTo,
)
from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.api.quantities import format_duration, parse_duration, parse_time
from broadsheet_operator.reconcilers.conditions import (
    Reason,
    Statement,
    conditions,
    format_time,
    ready,
    stuck,
    waiting,
    with_statements,
    working,
)
from broadsheet_operator.reconcilers.lag import Sample, partition_lag, verdict
from broadsheet_operator.reconcilers.observed import Failure, GroupQuery, GroupView, TopicPartition

DEFAULT_WINDOW_MS = 300_000
VOLATILE = frozenset({"lag", "lag_seconds", "partitions", "verdict_message"})
"""Fields of the status that change all the time."""


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """Set the offsets of a group without members."""

    group_id: str
    offsets: Mapping[TopicPartition, int]

    def words(self) -> str:
        """For events and logs."""
        return f"set the offsets of {len(self.offsets)} partitions"


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Delete a group and its offsets."""

    group_id: str

    def words(self) -> str:
        """For events and logs."""
        return "delete with its offsets"


GroupAction = CommitOffsets | DeleteGroup


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What is to be done, and what can be said."""

    actions: tuple[GroupAction, ...]
    status: ConsumerGroupStatus
    reset: LastReset | None = None
    """What `status.lastReset` is to be once the actions have worked."""
    release: bool = False
    parting_words: str = ""


@dataclass(frozen=True, slots=True)
class _ResetPlan:
    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)
    refused: str = ""
    waits: bool = False
    """Refused for now only: it is done as soon as the group is empty."""


def window_ms(desired: ConsumerGroup) -> int:
    """How much of the past a verdict looks at."""
    lag = desired.spec.lag
    return parse_duration(lag.window) if lag and lag.window else DEFAULT_WINDOW_MS


def pending_reset(desired: ConsumerGroup) -> Reset | None:
    """The reset that is asked for and was not done yet."""
    reset = desired.spec.reset
    last = desired.status.last_reset if desired.status else None
    if reset is None or (last is not None and last.request == reset.request()):
        return None
    return reset


def query_of(desired: ConsumerGroup) -> GroupQuery:
    """What the gateway is to find out for this resource."""
    reset = pending_reset(desired)
    if reset is None:
        return GroupQuery()
    topics = set(reset.topics or ()) | {o.topic for o in reset.offsets or ()}
    time_ms = int(parse_time(reset.time).timestamp() * 1000) if reset.time else None
    return GroupQuery(tuple(sorted(topics)), time_ms)


def plan_group(
    desired: ConsumerGroup,
    observed: GroupView | Failure,
    history: Sequence[Sample],
    now: datetime,
    *,
    rival: str | None = None,
    failures: Sequence[Failure] = (),
) -> GroupPlan:
    """Actions and status for one ConsumerGroup. `history` ends with the sample of this observation.

    `rival` names an older ConsumerGroup for the same group: only that one resets or deletes.
    """
    if desired.metadata.deletion_timestamp is not None:
        return _plan_deletion(desired, observed, now, failures, rival)
    if rival is not None:
        message = f"{rival} declares the group {desired.group_id} already and is older; delete one of the two"
        return GroupPlan((), _said(desired, now, stuck(Reason.RESOURCE_CONFLICT, message)))
    if isinstance(observed, Failure):
        return GroupPlan((), _said(desired, now, waiting(observed.reason, observed.message)))
    reset = pending_reset(desired)
    plan = _plan_reset(reset, observed) if reset else None
    actions: tuple[GroupAction, ...] = ()
    done: LastReset | None = None
    if reset and plan and not plan.refused:
        done = _record(desired, reset, plan, observed, now)
        if not reset.dry_run:
            actions = (CommitOffsets(desired.group_id, dict(plan.offsets)),)
    status = _status(desired, observed, history, now, _tell(desired, observed, reset, plan, failures))
    if done is not None and not actions:
        status = status.model_copy(update={"last_reset": done})
    return GroupPlan(actions, status, done)


def _said(desired: ConsumerGroup, now: datetime, statements: list[Statement]) -> ConsumerGroupStatus:
    empty = ConsumerGroupStatus(group_id=desired.group_id)
    return with_statements(desired.status, empty, statements, desired.metadata.generation, now)


def _plan_reset(reset: Reset, view: GroupView) -> _ResetPlan:
    """Where each partition would go, or why the reset is refused."""
    if view.members and not reset.dry_run:
        count = len(view.members)
        members = "1 member reads" if count == 1 else f"{count} members read"
        return _ResetPlan(refused=f"reset waits: {members}; stop them, then it is done", waits=True)
    if view.state not in ("Empty", "Dead", "") and not reset.dry_run:
        return _ResetPlan(refused=f"reset waits: the group is {view.state}, not Empty", waits=True)
    targets = _targets(reset, view)
    if not targets:
        if reset.topics:
            return _ResetPlan(refused=f"nothing to reset: no partition of {', '.join(reset.topics)} was found")
        return _ResetPlan(refused="nothing to reset: the group has no offsets yet; name the topics under reset.topics")
    unknown = [at for at in targets if at not in view.ends]
    if unknown:
        return _ResetPlan(refused=f"there is no partition {unknown[0]}")
    offsets = {at: min(max(o, view.starts.get(at, 0)), view.ends[at]) for at, o in targets.items()}
    return _ResetPlan(offsets=offsets)


def _targets(reset: Reset, view: GroupView) -> dict[TopicPartition, int]:
    """Partition to its new offset, before it is fitted between the ends of the log."""
    if reset.to is ResetTo.OFFSETS:
        return {TopicPartition(o.topic, o.partition): o.offset for o in reset.offsets or ()}
    if reset.topics:
        partitions = sorted(at for at in view.ends if at.topic in reset.topics)
    else:
        partitions = sorted(at for at in view.committed if at in view.ends)
    targets: dict[TopicPartition, int] = {}
    for at in partitions:
        start, end = view.starts.get(at, 0), view.ends[at]
        match reset.to:
            case ResetTo.EARLIEST:
                targets[at] = start
            case ResetTo.LATEST:
                targets[at] = end
            case ResetTo.TIME:
                targets[at] = view.offsets_at_time.get(at, end)
            case ResetTo.SHIFT:
                # A partition without an offset has nothing to be shifted from.
                if at in view.committed:
                    targets[at] = view.committed[at] + (reset.shift_by or 0)
            case _:
                targets[at] = reset.offset or 0
    return targets


def _record(desired: ConsumerGroup, reset: Reset, plan: _ResetPlan, view: GroupView, now: datetime) -> LastReset:
    return LastReset(
        generation=desired.metadata.generation,
        request=reset.request(),
        time=format_time(now),
        dry_run=reset.dry_run,
        replaced=[
            ExactOffset(topic=at.topic, partition=at.partition, offset=view.committed[at])
            for at in sorted(plan.offsets)
            if at in view.committed
        ][:1000],
        written=[
            ExactOffset(topic=at.topic, partition=at.partition, offset=o) for at, o in sorted(plan.offsets.items())
        ][:1000],
    )


def _tell(
    desired: ConsumerGroup,
    view: GroupView,
    reset: Reset | None,
    plan: _ResetPlan | None,
    failures: Sequence[Failure],
) -> list[Statement]:
    """Ready and why not; then the reset; then the limits."""
    last = desired.status.last_reset if desired.status else None
    reset_words: list[Statement] = []
    if failures:
        told = waiting(failures[0].reason, "; ".join(f.message for f in failures))
    elif reset and plan and plan.refused:
        reason = Reason.GROUP_NOT_EMPTY if plan.waits else Reason.RESET_REFUSED
        told = waiting(reason, plan.refused) if plan.waits else stuck(reason, plan.refused)
        reset_words = [Statement("Reset", "False", reason, plan.refused)]
    elif reset and plan and not reset.dry_run:
        told = working(Reason.UPDATING, f"set the offsets of {len(plan.offsets)} partitions")
    elif not view.exists:
        message = f"no consumer has joined as {view.group_id} or committed an offset yet"
        told = waiting(Reason.GROUP_NOT_FOUND, message)
    else:
        told = ready("The group is being watched")
    if not reset_words and desired.spec.reset and last and not reset:
        reason = Reason.RESET_PLANNED if last.dry_run else Reason.RESET_DONE
        words = "would set" if last.dry_run else "set"
        message = f"{words} the offsets of {len(last.written)} partitions; lastReset.replaced has the ones before"
        reset_words = [Statement("Reset", "False" if last.dry_run else "True", reason, message)]
    return [*told, *reset_words, *_limits(desired.spec.lag, view)]


def _limits(limits: LagLimits | None, view: GroupView) -> list[Statement]:
    """The condition LagWithinLimits, filled in by `_status` once the lag is known."""
    if limits is None or (limits.max_records is None and limits.max_time is None) or not view.exists:
        return []
    return [Statement("LagWithinLimits", "True", Reason.WITHIN_LIMITS)]


def _judge_limits(limits: LagLimits | None, lag: int, seconds: int | None) -> Statement:
    broken: list[str] = []
    if limits and limits.max_records is not None and lag > limits.max_records:
        broken.append(f"{lag} records behind, more than {limits.max_records}")
    if limits and limits.max_time and seconds is not None and seconds * 1000 > parse_duration(limits.max_time):
        broken.append(f"{format_duration(seconds * 1000)} behind, more than {limits.max_time}")
    if broken:
        return Statement("LagWithinLimits", "False", Reason.LAG_TOO_HIGH, "; ".join(broken))
    return Statement("LagWithinLimits", "True", Reason.WITHIN_LIMITS, "")


def _status(
    desired: ConsumerGroup, view: GroupView, history: Sequence[Sample], now: datetime, statements: list[Statement]
) -> ConsumerGroupStatus:
    partitions = partition_lag(view, now) if view.exists else []
    lag, seconds = totals(partitions)
    judged = [
        _judge_limits(desired.spec.lag, lag or 0, seconds) if s.type == "LagWithinLimits" else s for s in statements
    ]
    opinion, why = verdict(history, window_ms(desired)) if view.exists else (None, None)
    members = [
        GroupMember(
            client_id=m.client_id,
            host=m.host,
            instance_id=m.instance_id,
            partitions=[str(at) for at in sorted(m.assigned)][:1000],
        )
        for m in sorted(view.members, key=lambda m: (m.client_id, m.member_id))
    ]
    last = desired.status.last_reset if desired.status else None
    if last is not None and desired.spec.reset is None and last.request is not None:
        last = last.model_copy(update={"request": None})
    return ConsumerGroupStatus(
        observed_generation=desired.metadata.generation,
        conditions=conditions(desired.status, judged, desired.metadata.generation, now),
        group_id=view.group_id,
        state=view.state or None,
        members=len(members),
        member_list=members[:100],
        lag=lag,
        lag_seconds=seconds,
        uncommitted_partitions=sum(p.committed is None for p in partitions),
        partitions=partitions[:1000],
        verdict=opinion,
        verdict_message=why or None,
        last_reset=last,
    )


def totals(partitions: Sequence[PartitionLag]) -> tuple[int | None, int | None]:
    """Lag over all partitions, and the age of the oldest unread record; None when there is no offset to judge by."""
    lags = [p.lag for p in partitions if p.lag is not None]
    seconds = [p.lag_seconds for p in partitions if p.lag_seconds is not None]
    return (sum(lags) if lags else None), (max(seconds) if seconds else None)


def _plan_deletion(
    desired: ConsumerGroup,
    observed: GroupView | Failure,
    now: datetime,
    failures: Sequence[Failure],
    rival: str | None,
) -> GroupPlan:
    group = desired.group_id
    gone = _said(desired, now, working(Reason.DELETING, ""))
    if desired.spec.deletion_policy is DeletionPolicy.RETAIN:
        return GroupPlan((), gone, None, True, f"the group {group} and its offsets stay (deletionPolicy Retain)")
    if rival is not None:
        return GroupPlan((), gone, None, True, f"the group {group} stays: it belongs to {rival}")
    if isinstance(observed, Failure):
        told = waiting(observed.reason, f"cannot delete {group} yet: {observed.message}")
        return GroupPlan((), _said(desired, now, told))
    if not observed.exists:
        return GroupPlan((), gone, None, True, f"the group {group} is deleted with its offsets")
    if observed.members:
        count = len(observed.members)
        message = f"cannot delete {group} yet: it has {count} {'member' if count == 1 else 'members'}; stop them first"
        return GroupPlan((), _said(desired, now, waiting(Reason.GROUP_NOT_EMPTY, message)))
    action = DeleteGroup(group)
    told = (
        waiting(failures[0].reason, "; ".join(f.message for f in failures))
        if failures
        else working(Reason.DELETING, action.words())
    )
    return GroupPlan((action,), _said(desired, now, told))
