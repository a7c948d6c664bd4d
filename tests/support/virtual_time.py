"""Time that only the test moves: a wall clock that stands, and a loop whose time passes when it is told to.

Whole brokers with sockets and tasks run on `tests.support.simulated_loop`; these are for a part that only plans calls.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

START_MS = 1_700_000_000_000
"""Wall time at the beginning of tests, in milliseconds since 1970."""


class HandClock:
    """A wall clock that is set by hand."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def time_ms(self) -> int:
        return self.now_ms


class VirtualHandle:
    """A planned call that can be cancelled."""

    def __init__(self, when: float, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.when = when
        self.callback = callback
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop:
    """The part of an event loop that plans calls."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now
        """Seconds, as `time` and `monotonic` say."""
        self._start = now
        self._order = itertools.count()
        self._timers: list[tuple[float, int, VirtualHandle]] = []

    def time(self) -> float:
        return self.now

    monotonic = time

    def time_ms(self) -> int:
        """The wall clock that goes with the loop."""
        return START_MS + round((self.now - self._start) * 1000)

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> VirtualHandle:
        return self.call_at(self.now, callback, *arguments)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> VirtualHandle:
        return self.call_at(self.now + delay, callback, *arguments)

    def call_at(self, when: float, callback: Callable[..., object], *arguments: Any) -> VirtualHandle:
        handle = VirtualHandle(when, callback, arguments)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def run_for(self, seconds: float) -> None:
        """Let time pass, and do what comes due in its order."""
        end = self.now + seconds
        for _ in range(100_000):
            if not self._timers or self._timers[0][0] > end + 1e-9:
                self.now = end
                return
            when, _, handle = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if not handle.cancelled:
                handle.callback(*handle.arguments)
        raise AssertionError("the loop does not come to rest")

    def settle(self) -> None:
        """Do what is due now."""
        self.run_for(0)

    @property
    def waiting(self) -> int:
        """Calls that are planned and not cancelled."""
        return sum(1 for _, _, handle in self._timers if not handle.cancelled)

    def asyncio(self) -> asyncio.AbstractEventLoop:
        """This, in the place of a whole loop."""
        return self  # type: ignore[return-value]
