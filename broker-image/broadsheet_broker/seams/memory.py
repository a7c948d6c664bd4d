"""When reference cycles are collected: by the memory that was taken, and not by the number of objects alone.

Python's collector counts objects. A broker makes few that could be part of a cycle, so its collector is made lazy; but
one cycle may hold a request of a megabyte, and then counting to twenty thousand is counting too far.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadsheet_broker.seams.files import Files

_PAGE = os.sysconf("SC_PAGE_SIZE")

TAKEN_BYTES = 32 * 1024 * 1024
"""Bytes of new buffers after which young objects are collected: what cycles among them may hold at most."""

GROWN_BYTES = 64 * 1024 * 1024
"""Growth of the process, by which all objects are collected."""

LOOK_SECONDS = 5.0
"""How often the size of the process is checked when no buffers are made."""

GROWN_RATIO = 1.5
"""The same relative to the size after the last time, so that a process that has reason to be large is left alone."""


def resident_bytes(files: Files) -> int:
    """Resident memory of this process; 0 where there is no /proc."""
    try:
        return int(files.read_bytes("/proc/self/statm").split()[1]) * _PAGE
    except OSError:
        return 0


class MemoryWatch:
    """Collects cycles when memory is taken. `took` is called for each new buffer, `look` from time to time."""

    __slots__ = ("_collect", "_limit", "_resident", "_taken")

    def __init__(self, resident: Callable[[], int], collect: Callable[[int], object] = gc.collect) -> None:
        """`resident` gives the size of the process in bytes; `collect` gets the oldest generation to collect."""
        self._resident = resident
        self._collect = collect
        self._taken = 0
        self._limit = self._next_limit()

    def _next_limit(self) -> float:
        resident = self._resident()
        return max(resident * GROWN_RATIO, resident + GROWN_BYTES)

    def took(self, size: int) -> None:
        """A buffer of `size` bytes was made."""
        self._taken += size
        if self._taken >= TAKEN_BYTES:
            self.look()

    def look(self) -> None:
        """Collect what has reason to be collected."""
        if self._taken:
            self._taken = 0
            self._collect(1)
        if self._resident() > self._limit:
            self._collect(2)
            self._limit = self._next_limit()
