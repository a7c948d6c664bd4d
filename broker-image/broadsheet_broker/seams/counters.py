"""The objects in which hot paths count: plain numbers in slots. `metrics` exports them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

Labels = tuple[tuple[str, str], ...]
"""Pairs of label name and value, in the order in which they are written."""

BUCKETS_SECONDS: Final[tuple[float, ...]] = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Upper bounds of the latency buckets; a last one without bound is implied."""

PHASE_BUCKETS_SECONDS: Final[tuple[float, ...]] = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the phases of a request, of which there are four times as many series."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int = 0


TOPIC_COUNTERS: Final[tuple[str, ...]] = (
    "bytes_in",
    "bytes_out",
    "failed_fetch_requests",
    "failed_produce_requests",
    "fetch_requests",
    "messages_in",
    "produce_requests",
)
"""The fields of `TopicCounters`."""


class TopicCounters:
    """What brokers count per topic (Kafka's BrokerTopicMetrics)."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "failed_fetch_requests",
        "failed_produce_requests",
        "fetch_requests",
        "messages_in",
        "produce_requests",
    )

    def __init__(self) -> None:
        self.messages_in = 0
        """Records appended by producers."""
        self.bytes_in = 0
        """Bytes of record batches appended by producers."""
        self.bytes_out = 0
        """Bytes of record batches sent to consumers (not to followers)."""
        self.produce_requests = 0
        """Partitions written: one per partition in a Produce request."""
        self.fetch_requests = 0
        """Partitions read: one per partition in a Fetch request."""
        self.failed_produce_requests = 0
        self.failed_fetch_requests = 0

    def add(self, other: TopicCounters) -> None:
        for name in TOPIC_COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Latency:
    """Counts of durations in buckets; `observe` costs a bisection and two additions."""

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS_SECONDS) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum = 0.0
        """Seconds."""

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def samples(self, labels: Labels) -> tuple[list[tuple[Labels, float]], list[str]]:
        """The Prometheus series of this histogram, and the suffix of each."""
        series: list[tuple[Labels, float]] = []
        total = 0
        for bound, count in zip((*self.bounds, None), self.buckets, strict=True):
            total += count
            series.append(((*labels, ("le", "+Inf" if bound is None else repr(bound))), total))
        series.append((labels, self.sum))
        series.append((labels, total))
        return series, ["_bucket"] * len(self.buckets) + ["_sum", "_count"]


class RequestTimes:
    """Where the time of the requests of one API went."""

    __slots__ = (
        "_local",
        "_local_sum",
        "_queue",
        "_queue_sum",
        "_remote",
        "_response",
        "_response_sum",
        "_total",
        "_total_sum",
    )

    def __init__(self) -> None:
        self._total = [0] * (len(BUCKETS_SECONDS) + 1)
        self._queue, self._local, self._response = ([0] * (len(PHASE_BUCKETS_SECONDS) + 1) for _ in range(3))
        self._total_sum = self._queue_sum = self._local_sum = self._response_sum = 0.0
        self._remote = Latency(PHASE_BUCKETS_SECONDS)
        """Only of requests that waited; a scrape counts the others with 0 s."""

    def observe(self, received: float, begun: float, waited: float, ready: float, sent: float) -> None:
        """One request, by the moments at which its phases began. `waited`: 0 or less if it waited for nothing.

        Called for every request, so it spares attributes, calls, and the bisection where the first bucket fits, as it
        does nearly always.
        """
        seconds = sent - received
        self._total[0 if seconds <= _FIRST else bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self._total_sum += seconds
        seconds = begun - received
        self._queue[0 if seconds <= _FIRST_OF_PHASES else bisect_left(PHASE_BUCKETS_SECONDS, seconds)] += 1
        self._queue_sum += seconds
        if waited > 0.0:
            seconds = waited - begun
            self._remote.observe(ready - waited)
        else:
            seconds = ready - begun
        self._local[0 if seconds <= _FIRST_OF_PHASES else bisect_left(PHASE_BUCKETS_SECONDS, seconds)] += 1
        self._local_sum += seconds
        seconds = sent - ready
        self._response[0 if seconds <= _FIRST_OF_PHASES else bisect_left(PHASE_BUCKETS_SECONDS, seconds)] += 1
        self._response_sum += seconds

    @property
    def count(self) -> int:
        """Requests."""
        return sum(self._total)

    @property
    def total(self) -> Latency:
        """From the last byte of a request until its answer is sent."""
        return _latency(BUCKETS_SECONDS, self._total, self._total_sum)

    def phases(self) -> Iterable[tuple[str, Latency]]:
        """The histogram of each phase; all have the same count."""
        remote = _latency(PHASE_BUCKETS_SECONDS, self._remote.buckets, self._remote.sum)
        remote.buckets[0] += self.count - remote.count
        return (
            ("queue", _latency(PHASE_BUCKETS_SECONDS, self._queue, self._queue_sum)),
            ("local", _latency(PHASE_BUCKETS_SECONDS, self._local, self._local_sum)),
            ("remote", remote),
            ("response", _latency(PHASE_BUCKETS_SECONDS, self._response, self._response_sum)),
        )


_FIRST: Final = BUCKETS_SECONDS[0]
_FIRST_OF_PHASES: Final = PHASE_BUCKETS_SECONDS[0]


def _latency(bounds: tuple[float, ...], buckets: Sequence[int], sum: float) -> Latency:
    latency = Latency(bounds)
    latency.buckets = list(buckets)
    latency.sum = sum
    return latency
