"""Decides whether records pass through every broker as they should, with patience in both directions. Pure.

A complaint has to last before it counts, and has to be gone for a while before it is forgotten, so that a restart of a
broker or a slow moment does not flap. Its words are those of the moment in which it was made, until what it says about
which brokers changes: a status that quotes it is not written again for every figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broadsheet_operator.api.quantities import format_duration
from broadsheet_operator.canary.machine import Canary
from broadsheet_operator.canary.tally import Tally
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.reasons import Reason

UNAVAILABLE_SECONDS = 30.0
"""A broker that acknowledges nothing for so long is complained about: longer than a restart takes."""
SLOW_SECONDS = 15.0
"""Latency that is over the limit for so long is complained about."""
RECOVERED_SECONDS = 30.0
"""A complaint is forgotten when nothing was wrong for so long."""
LEAST_RECORDS = 20
"""Records of the window from which a percentile says something."""
SHARE = 0.99


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is wrong."""

    reason: Reason
    brokers: tuple[int, ...]
    words: str
    patience: float
    """Seconds that it must last."""

    @property
    def gist(self) -> tuple[Reason, tuple[int, ...]]:
        """What it says, without figures."""
        return self.reason, self.brokers


class Judge:
    """Forms the verdict; to be asked a few times a minute."""

    def __init__(self, topic: str, max_latency: float) -> None:
        """`max_latency`: seconds that 99 % of the records may take end to end."""
        self._topic = topic
        self._max_latency = max_latency
        self._began: dict[tuple[Reason, tuple[int, ...]], float] = {}
        """Since when each complaint has lasted."""
        self._standing: Complaint | None = None
        self._wrong_at: float | None = None
        """When a complaint counted last."""
        self.health = CanaryHealth(None, Reason.CANARY_STARTING, "the canary has just started")

    def judge(self, canary: Canary, now: float) -> CanaryHealth:
        """The verdict of this moment."""
        complaints = list(self._complaints(canary, now))
        self._began = {c.gist: self._began.get(c.gist, now) for c in complaints}
        lasting = next((c for c in complaints if now - self._began[c.gist] >= c.patience), None)
        if lasting is not None:
            self._wrong_at = now
            if self._standing is None or self._standing.gist != lasting.gist:
                self._standing = lasting
        elif complaints and self._standing is not None:
            self._wrong_at = now  # something is still wrong, if not for long
        elif self._wrong_at is None or now - self._wrong_at >= RECOVERED_SECONDS:
            self._standing = None
        self.health = self._verdict(canary)
        return self.health

    def _verdict(self, canary: Canary) -> CanaryHealth:
        if self._standing is not None:
            return CanaryHealth(False, self._standing.reason, self._standing.words)
        expected = canary.expected
        waiting = [b for b in sorted(expected) if not _has_passed(canary.tallies.brokers.get(b))]
        if not expected or waiting:
            words = canary.trouble or (f"no record has passed through {_names(waiting)} yet" if waiting else "")
            was_healthy = self.health.healthy
            if not was_healthy:
                return CanaryHealth(None, Reason.CANARY_STARTING, words or "the canary has just started")
        limit = format_duration(self._max_latency * 1000)
        count = "1 broker" if len(expected) == 1 else f"{len(expected)} brokers"
        words = f"records pass through {count}; 99 % of them within {limit}"
        return CanaryHealth(True, Reason.CANARY_HEALTHY, words)

    def _complaints(self, canary: Canary, now: float) -> Iterator[Complaint]:
        """The worst first."""
        if canary.trouble:
            words = f"the topic {self._topic} cannot be used: {canary.trouble}"
            yield Complaint(Reason.CANARY_FAILING, (), words, UNAVAILABLE_SECONDS)
            return
        tallies = {b: canary.tallies.brokers[b] for b in sorted(canary.expected) if b in canary.tallies.brokers}
        lossy = tuple(b for b, t in tallies.items() if t.losses)
        if lossy:
            yield Complaint(Reason.RECORDS_LOST, lossy, f"acknowledged records are lost at {_names(lossy)}", 0.0)
        silent = {b: _silence(canary, b, t, now) for b, t in tallies.items() if not canary.is_available(b, now)}
        if silent:
            words = "; ".join(silent.values())
            yield Complaint(Reason.CANARY_FAILING, tuple(silent), words, UNAVAILABLE_SECONDS)
        slow = {b: p for b, t in tallies.items() if (p := _percentile(t)) is not None and p > self._max_latency}
        if slow:
            limit = format_duration(self._max_latency * 1000)
            parts = [f"through broker {b} take {_seconds(p)}" for b, p in slow.items()]
            words = f"records {', '.join(parts)} at p99, the limit is {limit}"
            yield Complaint(Reason.CANARY_SLOW, tuple(slow), words, SLOW_SECONDS)


def _has_passed(tally: Tally | None) -> bool:
    return tally is not None and bool(tally.latencies)


def _percentile(tally: Tally) -> float | None:
    return tally.percentile(SHARE) if len(tally.latencies) >= LEAST_RECORDS else None


def _silence(canary: Canary, broker: int, tally: Tally, now: float) -> str:
    if not canary.leads(broker):
        return f"broker {broker} leads no partition of the canary's topic" + (
            f" ({tally.trouble})" if tally.trouble else ""
        )
    return f"broker {broker} takes no records: {tally.trouble or 'no acknowledgement'}"


def _names(brokers: Iterable[int]) -> str:
    numbers = [str(b) for b in brokers]
    return f"broker {numbers[0]}" if len(numbers) == 1 else f"brokers {', '.join(numbers)}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
