"""Resets: where each partition goes, and whether the reset in a manifest is done at all. Pure.

A manifest stays in Git with its reset in it, and a resource may be created from it again at any time: after a
namespace was deleted, or on another cluster. What was done before is then forgotten, so one rule decides: **a reset
is done when it appears in a resource that was reconciled without it**. A resource that is new with a reset in it
may only give a first position to a group that has none there; a group that has offsets is not moved.

`status.settledReset` remembers the reset that needs nothing more: empty while the spec has none, absent until the
group was reconciled for the first time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broadsheet_operator.api.consumer_group import ConsumerGroup, ExactOffset, LastReset, Reset, ResetTo
from broadsheet_operator.reconcilers.conditions import format_time
from broadsheet_operator.reconcilers.observed import GroupView, MemberView, TopicPartition


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What becomes of a reset that is not settled: offsets to set, or why not now, or neither: it is passed over."""

    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)
    refused: str = ""
    waits: bool = False
    """Refused for now only: it is done as soon as the group is empty."""


def open_reset(desired: ConsumerGroup) -> Reset | None:
    """The reset that is asked for and not settled yet."""
    reset = desired.spec.reset
    return None if reset is None or reset.request() == _settled_before(desired) else reset


def settled(desired: ConsumerGroup, plan: ResetPlan | None) -> str | None:
    """`status.settledReset` after the round that planned this."""
    if desired.spec.reset is None:
        return ""
    if plan is not None and not plan.offsets and not plan.refused:
        return desired.spec.reset.request()
    return _settled_before(desired)


def outcome(done: LastReset) -> dict[str, Any]:
    """What a status says when a reset has been done, as fields to change."""
    return {"last_reset": done, "settled_reset": done.request}


def _settled_before(desired: ConsumerGroup) -> str | None:
    return desired.status.settled_reset if desired.status else None


def plan_reset(desired: ConsumerGroup, reset: Reset, view: GroupView) -> ResetPlan:
    """Where each partition would go, or why the reset is refused or passed over."""
    targets = _targets(reset, view)
    if _settled_before(desired) is None and not reset.dry_run and any(at in view.committed for at in targets):
        return ResetPlan()
    if view.members and not reset.dry_run:
        count = len(view.members)
        members = f"{'1 member reads' if count == 1 else f'{count} members read'} ({names_of(view.members)})"
        return ResetPlan(refused=f"reset waits: {members}; stop them, then it is done", waits=True)
    if view.state not in ("Empty", "Dead", "") and not reset.dry_run:
        return ResetPlan(refused=f"reset waits: the group is {view.state}, not Empty", waits=True)
    if not targets:
        if reset.topics:
            return ResetPlan(refused=f"nothing to reset: no partition of {', '.join(reset.topics)} was found")
        return ResetPlan(refused="nothing to reset: the group has no offsets yet; name the topics under reset.topics")
    unknown = [at for at in targets if at not in view.ends]
    if unknown:
        return ResetPlan(refused=f"reset names {unknown[0]}, and there is no such partition")
    offsets = {at: min(max(o, view.starts.get(at, 0)), view.ends[at]) for at, o in targets.items()}
    return ResetPlan(offsets=offsets)


def names_of(members: Sequence[MemberView]) -> str:
    """Who the members are, by client id and host; the first three of many."""
    names = [f"{m.client_id or m.member_id}{f' at {m.host}' if m.host else ''}" for m in members[:3]]
    return ", ".join([*names, *(["..."] if len(members) > 3 else [])])


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


def record(desired: ConsumerGroup, reset: Reset, plan: ResetPlan, view: GroupView, now: datetime) -> LastReset:
    """What `status.lastReset` says of it, with the offsets that undo it."""
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
