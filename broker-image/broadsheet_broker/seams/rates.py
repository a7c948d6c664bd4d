"""Rates and means over the last minute, for what Kafka exports so; everything else is a counter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

SECONDS: Final = 60.0
"""Kafka looks back as long: two samples of `metrics.sample.window.ms`, 30 s each."""


class Window:
    """How much some growing numbers grew: since the last call, or over `SECONDS` if that was sooner."""

    def __init__(self, monotonic: Callable[[], float], totals: Callable[[], tuple[float, ...]]) -> None:
        self._monotonic = monotonic
        self._totals = totals
        self._samples: deque[tuple[float, tuple[float, ...]]] = deque([(monotonic(), totals())])

    def growth(self) -> tuple[float, tuple[float, ...]]:
        """Seconds, and the growth of each number in them."""
        now, totals = self._monotonic(), self._totals()
        samples = self._samples
        samples.append((now, totals))
        while len(samples) > 2 and samples[1][0] <= now - SECONDS:
            samples.popleft()
        if len(samples) > _MOST_SAMPLES:
            del samples[1]
        then, before = samples[0]
        return now - then, tuple(after - earlier for after, earlier in zip(totals, before, strict=True))


_MOST_SAMPLES: Final = 100
"""However often it is called."""
