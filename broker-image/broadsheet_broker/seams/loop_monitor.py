"""Measures how long the event loop does nothing but one turn, and names what held it up.

A turn is what runs between two polls of the loop. While one lasts, no client is served, and no heartbeat is sent. A
thread asks the loop to run a callback and measures how long that takes: the rest of the turn in which it asked. So
the loop pays for a callback some ten times a second, and nothing per request. A turn that lasts is sampled while it
does: the thread reads the stack of the loop's thread, and `Work`, which names the request that was handled last.
Compiled functions have no frames, so there the request is all that is known.

The thread is started by the process (`__main__`) only; a simulated broker has no such thread.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Final

from broadsheet_broker.seams.metrics import Family, Latency

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from broadsheet_broker.seams.metrics import Metrics

logger = logging.getLogger(__name__)

WARN_SECONDS: Final = 10.0
"""Least time between two warnings; the turns between them are counted in the second one."""

_HALF_WINDOW: Final = 30.0
"""The longest turn is that of the last one or two of these, as Kafka's samples are."""

_PARTS: Final = 4
"""Ticks of the thread in the time from which a turn counts as slow."""

_SHORTEST_TICK: Final = 0.002
_LONGEST_TICK: Final = 0.25
"""Seconds between two ticks of a loop that has nothing to do."""

_IDLE_SHARE: Final = 0.02
"""Share of a core below which the loop's thread has nothing to do."""

_FRAMES: Final = 4
"""Frames of a stack that a warning has, innermost first."""

_PACKAGE: Final = "broadsheet_broker"


class Work:
    """What the loop is at work on, as far as it was noted: one assignment per request."""

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = ""
        """The request that was handled last, as `Produce`, or what else was begun last."""


class Turn:
    """A turn that took too long."""

    __slots__ = ("cpu", "request", "stack", "wall")

    def __init__(self, request: str, stack: str) -> None:
        self.request = request
        self.stack = stack
        self.wall = 0.0
        """Seconds from the question to the end of the turn: the turn lasted at least this long."""
        self.cpu = 0.0
        """Seconds of CPU of the loop's thread in them. Far fewer than `wall`: a disk, or a machine that is busy."""


class LoopMonitor:
    """Watches the loop of the thread in which it is made."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slow_ms: int,
        work: Work,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`slow_ms`: from how many milliseconds on a turn is reported. `timer`: seconds, from the environment."""
        self._loop = loop
        self._slow = slow_ms / 1000
        self._work = work
        self._timer = timer
        self._thread_id = threading.get_ident()
        self._cpu_clock = time.pthread_getcpuclockid(self._thread_id)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        # The question under way: written by the thread, and its answer by the loop.
        self._asked = 0.0
        self._asked_cpu = 0.0
        self._answered = 0.0
        self._answered_cpu = 0.0
        self._sample: Turn | None = None
        self._longest = _Longest(timer)
        self._longest_cpu = _Longest(timer)
        self._waits = Latency()
        self.slow_turns = 0
        """Turns that took longer than allowed."""
        self.slowest: Turn | None = None
        """The slowest of them since the start."""
        self._unreported = 0
        self._reported = -WARN_SECONDS

    def register(self, metrics: Metrics) -> None:
        """Export what is measured."""
        metrics.collector(self._families)

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._run, name="loop-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; may take a tick."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(2 * _LONGEST_TICK)
            self._thread = None

    # -- the loop's side -----------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        self._answered_cpu = time.clock_gettime(self._cpu_clock)
        self._answered = self._timer()

    # -- the thread's side ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        shortest = tick = max(self._slow / _PARTS, _SHORTEST_TICK)
        if not self._ask():
            return
        while not self._stopped.wait(tick):
            if self._answered < self._asked:  # still in the turn in which it was asked
                self._look()
                tick = shortest
                continue
            busy = self._answered_cpu - self._asked_cpu
            self._note(self._answered - self._asked, busy)
            before, before_cpu = self._asked, self._asked_cpu
            if not self._ask():
                return
            idle = self._asked_cpu - before_cpu < (self._asked - before) * _IDLE_SHARE
            tick = min(2 * tick, max(_LONGEST_TICK, shortest)) if idle else shortest

    def _ask(self) -> bool:
        """Ask the loop for a callback; False when it is closed."""
        self._asked_cpu = time.clock_gettime(self._cpu_clock)
        self._asked = self._timer()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            return False
        return True

    def _look(self) -> None:
        """Take the stack of a turn that is becoming slow, once."""
        if self._sample is None and self._timer() - self._asked >= self._slow / 2:
            frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001
            self._sample = Turn(self._work.name, describe(frame))

    def _note(self, wall: float, cpu: float) -> None:
        """A question was answered."""
        self._waits.observe(wall)
        self._longest.note(wall)
        self._longest_cpu.note(cpu)
        turn, self._sample = self._sample, None
        if wall < self._slow:
            return
        self.slow_turns += 1
        turn = turn or Turn(self._work.name, "")
        turn.wall, turn.cpu = wall, cpu
        if self.slowest is None or wall > self.slowest.wall:
            self.slowest = turn
        now = self._timer()
        if now - self._reported < WARN_SECONDS:
            self._unreported += 1
            return
        self._reported, others, self._unreported = now, self._unreported, 0
        stack = turn.stack or "not known (compiled code, or it was over)"
        logger.warning(
            "the event loop was held up for %d ms (CPU %d ms); last request: %s; at: %s; slow turns since the last "
            "warning: %d. Clients waited. If the CPU time is short, check the disk and the load of the machine; "
            "otherwise report this line, or raise broadsheet.loop.slow.turn.ms",
            turn.wall * 1000, turn.cpu * 1000, turn.request or "none", stack, others,
        )  # fmt: skip

    def _families(self) -> Iterator[Family]:
        samples: list[tuple[tuple[tuple[str, str], ...], float]] = [
            ((("clock", "wall"),), self._longest.seconds()),
            ((("clock", "cpu"),), self._longest_cpu.seconds()),
        ]
        yield Family(
            "broadsheet_loop_longest_turn_seconds",
            "gauge",
            "Longest turn of the event loop in the last minute, by clock: wall, or CPU of its thread.",
            samples,
        )
        help = "Turns of the event loop that took longer than broadsheet.loop.slow.turn.ms."
        yield Family("broadsheet_loop_slow_turns_total", "counter", help, [((), self.slow_turns)])
        waits, suffixes = self._waits.samples(())
        help = "Seconds that a callback of another thread waited for the event loop, several times a second."
        yield Family("broadsheet_loop_wait_seconds", "histogram", help, waits, suffixes)


def describe(frame: FrameType | None) -> str:
    """The innermost frames of the package, as `log/append.py:12 append < ...`; empty if there is none but the start."""
    found: list[str] = []
    outside = ""
    while frame is not None and len(found) < _FRAMES:
        code = frame.f_code
        _, package, path = code.co_filename.rpartition(f"/{_PACKAGE}/")
        text = f"{path if package else code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_qualname}"
        if path == "__main__.py" or (not package and code.co_filename.endswith(("runners.py", "base_events.py"))):
            break
        if package:
            found.append(text)
        elif not found and not outside:
            outside = text
        frame = frame.f_back
    if outside:
        found.insert(0, outside)
    return " < ".join(found)


class _Longest:
    """The largest of what was noted in the last minute."""

    __slots__ = ("_before", "_current", "_since", "_timer")

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._since = timer()
        self._current = self._before = 0.0

    def note(self, seconds: float) -> None:
        self._roll()
        if seconds > self._current:
            self._current = seconds

    def seconds(self) -> float:
        self._roll()
        return max(self._current, self._before)

    def _roll(self) -> None:
        age = self._timer() - self._since
        if age >= _HALF_WINDOW:
            self._before = self._current if age < 2 * _HALF_WINDOW else 0.0
            self._current = 0.0
            self._since += age
