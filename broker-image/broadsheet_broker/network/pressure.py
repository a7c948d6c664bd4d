"""What a server does about its memory: nothing, take less in, or let connections go.

Decisions only: `Pressure` is told how large the process is, and answers. The target is below what the process may have
(`broadsheet.memory.target`); between the two is what is on its way when it is reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

LOOK_SECONDS = 0.1
"""How often the size of the process is checked."""

RELIEF = 0.95
"""Share of the target below which all is well again."""

CRITICAL = 1.1
"""Multiple of the target above which connections are closed."""

SHARE_OF_LIMIT = 0.8
"""The target where none is configured, as a share of the memory limit of the cgroup."""

SHARE_OF_REQUESTS = 1 / 3
"""Share of the target that requests may take, where `queued.max.request.bytes` is -1: to check a batch may take as much
again."""

_WORTH_CLOSING = 256 * 1024
"""Bytes that a connection holds at least if it is closed to make room."""

NONE: Final = 0
TIGHT: Final = 1
"""Nothing is read from connections that hold something, and large requests come one at a time."""
SHEDDING: Final = 2
"""Connections that hold much are closed; clients connect again and retry."""

C = TypeVar("C")


class Pressure:
    """The state of one process."""

    __slots__ = ("level", "target")

    def __init__(self, target: int) -> None:
        """`target` in bytes; 0: there is none."""
        self.target = target
        self.level = NONE

    def update(self, resident: int) -> bool:
        """Take note of the size of the process; True when the level has changed."""
        before = self.level
        if not self.target or resident < self.target * (RELIEF if before else 1.0):
            self.level = NONE
        elif resident >= self.target * CRITICAL:
            self.level = SHEDDING
        elif before == NONE or resident < self.target:
            self.level = TIGHT
        return self.level != before

    def victims(self, resident: int, holding: Iterable[tuple[int, C]]) -> list[tuple[int, C]]:
        """Which connections to close: those that hold the most bytes, until the process would be at its target."""
        excess = resident - self.target
        chosen = []
        for size, connection in sorted(holding, key=lambda item: item[0], reverse=True):
            if excess <= 0 or size < _WORTH_CLOSING:
                break
            chosen.append((size, connection))
            excess -= size
        return chosen


def target_of(limit: int | None) -> int:
    """The target in bytes where none is configured, from the limit of the cgroup; 0 where there is none."""
    return int(limit * SHARE_OF_LIMIT) if limit is not None else 0


def request_bytes(configured: int, target: int, largest: int) -> int:
    """Bytes that unanswered and arriving requests may have; one of the largest always fits. 0: no limit."""
    if configured >= 0:
        return max(configured, largest)
    return max(int(target * SHARE_OF_REQUESTS), largest) if target else 0
