"""What the operator counts while it works; everything else that it exports is read from what is in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.reconcilers.observed import BrokerView

BUCKETS_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds; a last one without bound is implied."""


class ClusterFigures(NamedTuple):
    """What a round of a Cluster found."""

    reachable: bool
    """Its brokers answered."""
    rolling: bool
    """Brokers are restarted, added or drained, or are on their way back."""
    brokers: Sequence[BrokerView] = ()
    """As its metadata has them."""


class Counts:
    """Counters and histograms of one operator. Not for several threads."""

    def __init__(self) -> None:
        self.reconciliations: Counter[tuple[str, str]] = Counter()
        """By kind and result."""
        self.restarts: Counter[tuple[ResourceKey, str]] = Counter()
        """Brokers restarted, by Cluster and reason."""
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_SECONDS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def reconciled(self, kind: str, seconds: float, *, failed: bool) -> None:
        """A resource was reconciled. `failed`: it is tried again because something did not work."""
        self.reconciliations[kind, "failed" if failed else "success"] += 1
        self._buckets[kind][bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self._seconds[kind] += seconds

    def forget(self, cluster: ResourceKey) -> None:
        """The Cluster is gone."""
        for key in [key for key in self.restarts if key[0] == cluster]:
            del self.restarts[key]

    def histograms(self) -> Iterator[tuple[str, list[tuple[str, float]], float]]:
        """Kind, cumulative buckets and sum in seconds."""
        for kind, buckets in list(self._buckets.items()):
            rows: list[tuple[str, float]] = []
            total = 0
            for bound, count in zip((*map(str, BUCKETS_SECONDS), "+Inf"), buckets, strict=True):
                total += count
                rows.append((bound, total))
            yield kind, rows, self._seconds[kind]
