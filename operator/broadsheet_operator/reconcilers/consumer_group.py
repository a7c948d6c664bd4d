"""The ConsumerGroup planner: how the group does, and the one reset that may be asked of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from broadsheet_operator.api.consumer_group import (
    ConsumerGroup,
    ConsumerGroupStatus,
    GroupMember,
    LagLimits,
    LastReset,
    PartitionLag,
)
from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.api.quantities import parse_duration, parse_time
from broadsheet_operator.reconcilers.conditions import (
    Figures,
    Statement,
    conditions,
    ready,
    stuck,
    waiting,
    with_statements,
    working,
)
from broadsheet_operator.reconcilers.lag import Sample, partition_lag, verdict
from broadsheet_operator.reconcilers.observed import Failure, GroupQuery, GroupView, TopicPartition
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.resets import ResetPlan, names_of, open_reset, outcome, plan_reset, record, settled

DEFAULT_WINDOW_MS = 300_000
FIGURES = Figures(
    dict.fromkeys(("lag", "lag_seconds", "partitions", "verdict_message"), True),
    # While nobody reads or writes, the age of the first unread record grows all the same: a tenth is written.
    slow={"lag_seconds": True, "partitions": {"__all__": {"lag_seconds"}}},
    slow_seconds=lambda status: (status.lag_seconds or 0) / 10,
)


def _setting(offsets: Mapping[TopicPartition, int]) -> str:
    """What a reset does, with the first of the offsets; `status.lastReset` has all."""
    first = ", ".join(f"{at} to {offset}" for at, offset in sorted(offsets.items())[:5])
    more = f" and {len(offsets) - 5} more" if len(offsets) > 5 else ""
    count = "1 partition" if len(offsets) == 1 else f"{len(offsets)} partitions"
    return f"set the offsets of {count}: {first}{more}"


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """Set the offsets of a group without members."""

    group_id: str
    offsets: Mapping[TopicPartition, int]

    def words(self) -> str:
        """For events and logs."""
        return _setting(self.offsets)


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


def window_ms(desired: ConsumerGroup) -> int:
    """The period that a verdict considers, in ms."""
    lag = desired.spec.lag
    return parse_duration(lag.window) if lag and lag.window else DEFAULT_WINDOW_MS


def query_of(desired: ConsumerGroup) -> GroupQuery:
    """What the gateway must read for this resource."""
    reset = open_reset(desired)
    if reset is None:
        return GroupQuery()
    topics = set(reset.topics or ()) | {o.topic for o in reset.offsets or ()}
    time_ms = int(parse_time(reset.time).timestamp() * 1000) if reset.time else None
    return GroupQuery(tuple(sorted(topics)), time_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSeen:
    """A group as it was seen, now and before."""

    group: GroupView | Failure
    history: Sequence[Sample] = ()
    """Ends with the sample of this observation."""
    rival: str | None = None
    """An older ConsumerGroup for the same group: only that one resets or deletes."""
    failures: Sequence[Failure] = ()
    """What went wrong when the actions of the previous plan were applied."""


def plan_group(desired: ConsumerGroup, seen: GroupSeen, now: datetime) -> GroupPlan:
    """Actions and status for one ConsumerGroup."""
    observed = seen.group
    if desired.metadata.deletion_timestamp is not None:
        return _plan_deletion(desired, seen, now)
    if seen.rival is not None:
        message = f"{seen.rival} declares the group {desired.group_id} already and is older; delete one of the two"
        return GroupPlan((), _said(desired, now, stuck(Reason.RESOURCE_CONFLICT, message)))
    if isinstance(observed, Failure):
        return GroupPlan((), _said(desired, now, waiting(observed.reason, observed.message)))
    reset = open_reset(desired)
    plan = plan_reset(desired, reset, observed) if reset else None
    actions: tuple[GroupAction, ...] = ()
    done: LastReset | None = None
    if reset and plan and plan.offsets:
        done = record(desired, reset, plan, observed, now)
        if not reset.dry_run:
            actions = (CommitOffsets(desired.group_id, dict(plan.offsets)),)
    status = _status(desired, observed, seen.history, now, _tell(desired, observed, plan, seen.failures))
    status = status.model_copy(update={"settled_reset": settled(desired, plan)})
    if done is not None and not actions:
        status = status.model_copy(update=outcome(done))
    return GroupPlan(actions, status, done)


def _said(desired: ConsumerGroup, now: datetime, statements: list[Statement]) -> ConsumerGroupStatus:
    empty = ConsumerGroupStatus(group_id=desired.group_id)
    return with_statements(desired.status, empty, statements, desired.metadata.generation, now)


def _tell(
    desired: ConsumerGroup, view: GroupView, plan: ResetPlan | None, failures: Sequence[Failure]
) -> list[Statement]:
    """Ready and why not; then the reset; then the limits."""
    about_reset = _tell_reset(desired, plan)
    if failures:
        told = waiting(failures[0].reason, "; ".join(f.message for f in failures))
    elif plan and plan.refused:
        told = (
            waiting(Reason.GROUP_NOT_EMPTY, plan.refused) if plan.waits else stuck(Reason.RESET_REFUSED, plan.refused)
        )
    elif plan and plan.offsets and not (desired.spec.reset and desired.spec.reset.dry_run):
        told = working(Reason.UPDATING, _setting(plan.offsets))
    elif not view.exists:
        # Ready: it is watched. Its consumers may come later in the same sync, and must not be waited for.
        message = f"no consumer has joined as {view.group_id} or committed an offset yet"
        told = [Statement("Ready", "True", Reason.GROUP_NOT_FOUND, message)]
    else:
        passed_over = next((s.message for s in about_reset if s.reason == Reason.RESET_PASSED_OVER), "")
        told = ready("The group is being watched" + (f"; {passed_over}" if passed_over else ""))
    return [*told, *about_reset, *_limits(desired.spec.lag, view)]


def _tell_reset(desired: ConsumerGroup, plan: ResetPlan | None) -> list[Statement]:
    """The condition Reset, while there is one in the spec and something can be said about it."""
    if desired.spec.reset is None:
        return []
    if plan is not None and plan.refused:
        return [
            Statement("Reset", "False", Reason.GROUP_NOT_EMPTY if plan.waits else Reason.RESET_REFUSED, plan.refused)
        ]
    if plan is not None and plan.offsets:
        return []
    last = desired.status.last_reset if desired.status else None
    if plan is not None or last is None or last.request != desired.spec.reset.request():
        message = (
            "the reset was there when this resource was new, and the group had offsets already, so it was not done; "
            "take it out of the spec and put it in again to have it done"
        )
        return [Statement("Reset", "False", Reason.RESET_PASSED_OVER, message)]
    words = "would set" if last.dry_run else "set"
    message = f"{words} the offsets of {len(last.written)} partitions; lastReset.replaced has the ones before"
    reason = Reason.RESET_PLANNED if last.dry_run else Reason.RESET_DONE
    return [Statement("Reset", "False" if last.dry_run else "True", reason, message)]


def _limits(limits: LagLimits | None, view: GroupView) -> list[Statement]:
    """The condition LagWithinLimits, filled in by `_status` once the lag is known."""
    if limits is None or (limits.max_records is None and limits.max_time is None) or not view.exists:
        return []
    return [Statement("LagWithinLimits", "True", Reason.WITHIN_LIMITS)]


def _judge_limits(limits: LagLimits | None, lag: int, seconds: int | None) -> Statement:
    """The figures are in the status: in the message each of them would be a status to write."""
    broken: list[str] = []
    if limits and limits.max_records is not None and lag > limits.max_records:
        broken.append(f"more than {limits.max_records} records behind")
    if limits and limits.max_time and seconds is not None and seconds * 1000 > parse_duration(limits.max_time):
        broken.append(f"more than {limits.max_time} behind")
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
        last_reset=desired.status.last_reset if desired.status else None,
    )


def totals(partitions: Sequence[PartitionLag]) -> tuple[int | None, int | None]:
    """Lag over all partitions, and the age of the oldest unread record; None without any committed offset."""
    lags = [p.lag for p in partitions if p.lag is not None]
    seconds = [p.lag_seconds for p in partitions if p.lag_seconds is not None]
    return (sum(lags) if lags else None), (max(seconds) if seconds else None)


def _plan_deletion(desired: ConsumerGroup, seen: GroupSeen, now: datetime) -> GroupPlan:
    observed, rival, failures = seen.group, seen.rival, seen.failures
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
        members = f"{count} {'member' if count == 1 else 'members'} ({names_of(observed.members)})"
        message = f"cannot delete {group} yet: it has {members}; stop them first"
        return GroupPlan((), _said(desired, now, waiting(Reason.GROUP_NOT_EMPTY, message)))
    action = DeleteGroup(group)
    told = (
        waiting(failures[0].reason, "; ".join(f.message for f in failures))
        if failures
        else working(Reason.DELETING, action.words())
    )
    return GroupPlan((action,), _said(desired, now, told))
