"""How far a group is behind, and what the last minutes say about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from broadsheet_operator.api.consumer_group import PartitionLag, Verdict
from broadsheet_operator.api.quantities import format_duration
from broadsheet_operator.reconcilers.observed import GroupView, TopicPartition


@dataclass(frozen=True, slots=True)
class Sample:
    """What the verdict remembers of one observation."""

    time: datetime
    members: int
    committed: dict[TopicPartition, int]
    lag: dict[TopicPartition, int]
    reset: bool = False
    """A reset of this resource set the offsets since the sample before."""


class LagRow(NamedTuple):
    """How far a group is behind in one partition."""

    at: TopicPartition
    committed: int | None
    end: int | None
    lag: int | None
    """Records; None without a committed offset or an end."""
    seconds: int | None
    """Age of the first unread record; None where that is not known."""


def lag_rows(view: GroupView, now_ms: int) -> Iterator[LagRow]:
    """Lag of each partition. Records that retention has deleted are not counted; an uncommitted partition has none."""
    for at in sorted(set(view.committed) | set(view.ends)):
        committed, end = view.committed.get(at), view.ends.get(at)
        lag = seconds = None
        if committed is not None and end is not None:
            lag = max(0, end - max(committed, view.starts.get(at, 0)))
            written = view.record_times.get(at)
            if lag == 0:
                seconds = 0
            elif written is not None and written >= 0:
                seconds = max(0, now_ms - written) // 1000
        yield LagRow(at, committed, end, lag, seconds)


def partition_lag(view: GroupView, now: datetime) -> list[PartitionLag]:
    """The same for a status."""
    return [
        PartitionLag(
            topic=row.at.topic,
            partition=row.at.partition,
            committed=row.committed,
            end=row.end,
            lag=row.lag,
            lag_seconds=row.seconds,
        )
        for row in lag_rows(view, int(now.timestamp() * 1000))
    ]


def sample(view: GroupView, now: datetime, *, reset: bool = False) -> Sample:
    """The observation, reduced to what a verdict needs."""
    lags = {TopicPartition(p.topic, p.partition): p.lag for p in partition_lag(view, now) if p.lag is not None}
    return Sample(now, len(view.members), dict(view.committed), lags, reset)


def remember(history: Sequence[Sample], new: Sample, window_ms: int, limit: int = 64) -> list[Sample]:
    """The history with a new sample: as long as the window and one sample older, thinned to at most `limit`."""
    kept = [*history, new]
    while len(kept) > 2 and (new.time - kept[1].time).total_seconds() * 1000 >= window_ms:
        kept.pop(0)
    if len(kept) > limit:
        # Every other sample goes, but the first, the last, and those that mark a reset.
        kept = [s for i, s in enumerate(kept) if i % 2 == 0 or s.reset or i == len(kept) - 1]
    return kept


def verdict(history: Sequence[Sample], window_ms: int) -> tuple[Verdict, str]:
    """OK, Warning, Stalled, Stopped or Rewound, and why.

    Rewound: a committed offset went back, and not by a reset of this resource. Stopped: the group has no members
    and records wait. Stalled: there are members, and a partition had records to read all through a whole window
    while its committed offset did not move. Warning: the group reads, but fell further behind at every look of a
    whole window.
    """
    if not history:
        return Verdict.OK, ""
    last = history[-1]
    back = _rewound(history)
    if back:
        return Verdict.REWOUND, back
    waiting = {at: lag for at, lag in last.lag.items() if lag > 0}
    total = sum(waiting.values())
    if not waiting:
        return Verdict.OK, "everything committed up to the end" if last.committed else ""
    if last.members == 0:
        return Verdict.STOPPED, f"no member reads, and {total} {_records(total)} wait"
    if (last.time - history[0].time).total_seconds() * 1000 < window_ms or len(history) < 3:
        return Verdict.OK, ""
    window = format_duration(window_ms)
    still = sorted(at for at in waiting if _stood_still(history, at))
    if still:
        names = ", ".join(map(str, still[:5])) + (f" and {len(still) - 5} more" if len(still) > 5 else "")
        return Verdict.STALLED, f"committed offset of {names} did not move for {window}, though records wait"
    totals = [sum(s.lag.values()) for s in history]
    if all(b >= a for a, b in pairwise(totals)) and totals[-1] > totals[0]:
        return Verdict.WARNING, f"lag grew from {totals[0]} to {totals[-1]} in {window}"
    return Verdict.OK, ""


def _records(count: int) -> str:
    return "record" if count == 1 else "records"


def _rewound(history: Sequence[Sample]) -> str:
    for before, after in pairwise(history):
        if after.reset:
            continue
        for at, offset in after.committed.items():
            old = before.committed.get(at)
            if old is not None and offset < old:
                return f"committed offset of {at} went back from {old} to {offset}"
    return ""


def _stood_still(history: Sequence[Sample], at: TopicPartition) -> bool:
    first = history[0].committed.get(at)
    return first is not None and all(
        s.members > 0 and s.committed.get(at) == first and s.lag.get(at, 0) > 0 for s in history
    )
