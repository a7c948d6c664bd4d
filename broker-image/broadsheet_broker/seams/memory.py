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


_CGROUP = "/sys/fs/cgroup"
_NO_LIMIT = 2**60
"""Bytes from which on a limit of version 1 means that there is none."""


def memory_limit(files: Files) -> int | None:
    """Bytes that the cgroup of this process may use, of version 2 or 1; None where there is no limit.

    The lowest of the process's own group and of those above it, as far as they can be seen: in a container that is the
    container's limit. cgroups(7), and memory.rst of the kernel's documentation.
    """
    limits = []
    for line in _read(files, "/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            folder, name = _CGROUP, "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = f"{_CGROUP}/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):
            text = _read(files, "/".join((folder, *parts[:depth], name))).strip()
            if text.isdigit() and 0 < int(text) < _NO_LIMIT:
                limits.append(int(text))
    return min(limits, default=None)


def _read(files: Files, path: str) -> str:
    try:
        return files.read_bytes(path).decode()
    except OSError:
        return ""


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
