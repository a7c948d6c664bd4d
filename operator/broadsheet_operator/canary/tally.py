"""What the canary has counted, for all its life and over the last minutes, by broker. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

from broadsheet_operator.canary.ledger import Fact, Kind

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the latency histograms, in seconds."""
WINDOW_SECONDS = 300.0
"""How much of the past the verdict is about."""
MOST_SAMPLES = 3000
"""Latencies of a broker that are kept: five minutes at ten records per second."""


@dataclass(slots=True)
class Histogram:
    """Latencies, counted."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    """By bucket, not added up; the last one is for what is longer than all bounds."""
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class Tally:
    """One broker."""

    totals: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    connect_errors: int = 0
    produce: Histogram = field(default_factory=Histogram)
    end_to_end: Histogram = field(default_factory=Histogram)
    last_success: float | None = None
    """When a record was acknowledged last (monotonic seconds)."""
    since: float = 0.0
    """When the canary began to expect records from it."""
    trouble: str = ""
    """Why the last record was not acknowledged; empty after a success."""
    latencies: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    """When, and seconds end to end, over the window."""
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    """When records were found to be lost, over the window; those that came late are taken off."""

    def add(self, fact: Fact, now: float) -> None:
        """Count a fact."""
        self.totals[fact.kind] += 1
        if fact.kind is Kind.PRODUCED:
            self.last_success, self.trouble = now, ""
            if fact.seconds is not None:
                self.produce.observe(fact.seconds)
        elif fact.kind is Kind.CONSUMED and fact.seconds is not None:
            self.end_to_end.observe(fact.seconds)
            self.latencies.append((now, fact.seconds))
        elif fact.kind is Kind.LOST:
            self.losses.append(now)
        elif fact.kind is Kind.LATE and self.losses:
            self.losses.popleft()

    def forget_before(self, moment: float) -> None:
        """Let the window begin at this time."""
        while self.latencies and self.latencies[0][0] < moment:
            self.latencies.popleft()
        while self.losses and self.losses[0] < moment:
            self.losses.popleft()

    def percentile(self, share: float) -> float | None:
        """The latency that this share of the window's records do not exceed; None without records."""
        if not self.latencies:
            return None
        ordered = sorted(seconds for _, seconds in self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Tallies:
    """All brokers that were ever seen and are still expected."""

    def __init__(self) -> None:
        self.brokers: dict[int, Tally] = {}
        self.recreated = 0
        """How often the topic was another one than before."""

    def of(self, broker: int, now: float) -> Tally:
        """The tally of a broker, new if need be."""
        found = self.brokers.get(broker)
        if found is None:
            found = self.brokers[broker] = Tally(since=now)
        return found

    def add(self, facts: list[Fact], now: float) -> None:
        """Count facts."""
        for fact in facts:
            self.of(fact.broker, now).add(fact, now)

    def keep_only(self, brokers: frozenset[int]) -> None:
        """Forget brokers that have left the cluster."""
        for broker in self.brokers.keys() - brokers:
            del self.brokers[broker]
