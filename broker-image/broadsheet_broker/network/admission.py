"""How much memory large requests may take while they arrive.

A request that turns out to be large gets room for all that it announces at once, or its connection is not read until
there is room: requests that each have a part of what they need would wait for each other for ever. One is always let
in. What is admitted and what is unanswered share one limit (`queued.max.request.bytes`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

LARGE = 2 * 1024 * 1024
"""Bytes that a request may have received before it needs room: none for what is announced and never sent."""

PATIENCE_SECONDS = 10.0
LEAST_RATE = 1024 * 1024
"""Bytes a second. Who sends a large request more slowly than this, and `PATIENCE_SECONDS`, makes room for those that
wait."""

C = TypeVar("C", bound=Hashable)


class Admission(Generic[C]):
    """Room for the large requests of one server, in the order in which they ask. `C` stands for a connection."""

    __slots__ = ("_admitted", "_now", "_total", "_waiting", "limit", "tight")

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self.tight = False
        """Memory is short: one at a time."""
        self._now = now
        self._admitted: dict[C, tuple[int, float]] = {}
        """Bytes, and when."""
        self._total = 0
        self._waiting: dict[C, None] = {}

    @property
    def admitted_bytes(self) -> int:
        return self._total

    @property
    def waiting(self) -> int:
        """How many connections wait for room."""
        return len(self._waiting)

    def admit(self, connection: C, size: int, unanswered_bytes: int) -> bool:
        """Whether the request that arrives on this connection has room for its `size` bytes; else it waits."""
        if connection in self._admitted:
            return True
        first = next(iter(self._waiting), connection)
        fits = not self.tight and self._total + size + unanswered_bytes <= self.limit
        if self._admitted and not (fits and first is connection):
            self._waiting[connection] = None
            return False
        if not self._admitted and first is not connection:
            self._waiting[connection] = None
            return False
        self._waiting.pop(connection, None)
        self._admitted[connection] = (size, self._now())
        self._total += size
        return True

    def release(self, connection: C | None) -> list[C]:
        """The request of a connection has arrived, or never will. Returns who may try again, in order."""
        if connection is not None:
            self._waiting.pop(connection, None)
            admitted = self._admitted.pop(connection, None)
            if admitted is not None:
                self._total -= admitted[0]
        return list(self._waiting)

    def too_slow(self) -> list[C]:
        """Who has had room for too long while others wait."""
        if not self._waiting:
            return []
        now = self._now()
        return [
            connection
            for connection, (size, since) in self._admitted.items()
            if now - since > PATIENCE_SECONDS + size / LEAST_RATE
        ]
