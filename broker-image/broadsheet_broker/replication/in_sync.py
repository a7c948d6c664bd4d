"""What a leader knows of its followers, and how it has the ISR changed (KIP-497, KIP-841, KIP-903).

The controller decides who is in sync; a leader proposes. A proposal is under way until the controller answers or the
metadata tells: meanwhile the leader must be right whether it was accepted or not, so its high watermark waits for every
replica that may be in the ISR: the committed one with a proposed member added, never with one taken away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from broadsheet_broker.wire.errors import ErrorCode

UNKNOWN_OFFSET = -1
ANY_EPOCH = -1
"""The broker epoch of a request that has none."""


class Member(NamedTuple):
    """A proposed ISR member, with the broker epoch seen in its fetches."""

    broker_id: int
    broker_epoch: int
    """-1: the controller need not compare."""


@dataclass(frozen=True, slots=True, eq=False)
class IsrChange:
    """A leader's proposal to the controller: one partition of an AlterPartition request."""

    topic_id: UUID
    index: int
    leader_epoch: int
    partition_epoch: int
    """Of the state that the proposal starts from."""
    isr: tuple[Member, ...]
    leader_recovery_state: int = 0


class IsrAnswer(NamedTuple):
    """The partition after the controller has changed it."""

    leader: int
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    leader_recovery_state: int = 0


IsrAnswered = Callable[[IsrAnswer | ErrorCode], None]


class IsrChanges(Protocol):
    """The way to the active controller for proposals."""

    def alter_partition(self, change: IsrChange, answered: IsrAnswered) -> None:
        """Have one partition changed; exactly one callback, never inside the call.

        The implementation gathers the proposals of a moment into one AlterPartition request (version 3), has one
        request in flight, and tries again by itself until a controller has answered for the partition: no leader of
        the quorum, a lost connection, NOT_CONTROLLER or STALE_BROKER_EPOCH are nothing that a partition hears of.
        """
        ...


class Follower:
    """What a leader knows of another replica of the partition."""

    __slots__ = (
        "_end_at_last_fetch",
        "_last_fetch_ms",
        "broker_epoch",
        "broker_id",
        "caught_up_ms",
        "log_end_offset",
        "log_start_offset",
    )

    def __init__(self, broker_id: int = -1, caught_up_ms: int = 0) -> None:
        self.broker_id = broker_id
        self.broker_epoch = ANY_EPOCH
        """Of the life in which it fetched last."""
        self.log_end_offset = UNKNOWN_OFFSET
        """-1 until it has fetched from this leader."""
        self.log_start_offset = UNKNOWN_OFFSET
        self.caught_up_ms = caught_up_ms
        """Wall clock of the last moment at which it had everything that the leader had."""
        self._last_fetch_ms = 0
        self._end_at_last_fetch = 0

    def fetched(self, log_end_offset: int, log_start_offset: int, leader_end_offset: int, now_ms: int) -> None:
        """It asked for what follows `log_end_offset`, so it has everything before.

        One that never quite reaches the end while the leader takes appends is still in step if it has all that was
        there when it fetched the last time (Kafka's Replica.updateFetchState).
        """
        if log_end_offset >= leader_end_offset:
            if now_ms > self.caught_up_ms:
                self.caught_up_ms = now_ms
        elif log_end_offset >= self._end_at_last_fetch and self._last_fetch_ms > self.caught_up_ms:
            self.caught_up_ms = self._last_fetch_ms
        self.log_end_offset = log_end_offset
        self.log_start_offset = log_start_offset
        self._last_fetch_ms = now_ms
        self._end_at_last_fetch = leader_end_offset

    def is_caught_up(self, leader_end_offset: int, now_ms: int, lag_ms: int) -> bool:
        """It has everything, or had so less than `replica.lag.time.max.ms` ago."""
        return self.log_end_offset == leader_end_offset or now_ms - self.caught_up_ms <= lag_ms
