"""How far another replica has come, as its leader knows it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from broadsheet_broker.raft.voters import ReplicaKey


class Progress:
    """One replica's last fetch, and when it had everything that its leader had (KIP-836)."""

    __slots__ = ("_leader_end", "end_offset", "key", "last_caught_up_ms", "last_fetch_ms", "next_begin_ms")

    def __init__(self, key: ReplicaKey) -> None:
        self.key = key
        self.end_offset = -1
        """How far its log is known to be durable (if it votes); -1 before its first fetch."""
        self.last_fetch_ms = -math.inf
        self.last_caught_up_ms = -math.inf
        self.next_begin_ms = -math.inf
        """When it is to be notified (again) of the leader."""
        self._leader_end = -1
        """Where the leader's log ended at the last fetch."""

    def fetched(self, offset: int, leader_end: int, now_ms: float) -> None:
        """A fetch from `offset`. That may be less than before: a disk was replaced."""
        if offset >= leader_end:
            self.last_caught_up_ms = now_ms
        elif 0 < self._leader_end <= offset:
            self.last_caught_up_ms = max(self.last_fetch_ms, self.last_caught_up_ms)
        self._leader_end = max(leader_end, self._leader_end)
        self.end_offset = offset
        self.last_fetch_ms = now_ms

    def is_gone(self, now_ms: float, session_ms: float) -> bool:
        return now_ms - self.last_fetch_ms > session_ms


def majority_end(ends: Iterable[int], majority: int) -> int:
    """The offset that at least this number of logs has reached; -1 when there are fewer logs."""
    descending = sorted(ends, reverse=True)
    return descending[majority - 1] if 0 < majority <= len(descending) else -1
