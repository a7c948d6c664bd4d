"""What a partition needs of its surroundings: its broker, its readers, and what the metadata say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from broadsheet_broker.replication.in_sync import ANY_EPOCH, IsrAnswered, IsrChange

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition


class LeadershipState(Protocol):
    """What the metadata image says of one partition (`PartitionImage`)."""

    @property
    def replicas(self) -> Sequence[int]: ...
    @property
    def isr(self) -> Sequence[int]: ...
    @property
    def leader(self) -> int: ...
    @property
    def leader_epoch(self) -> int: ...
    @property
    def partition_epoch(self) -> int: ...


class Watcher(Protocol):
    """A reader's place in a partition that waits for more."""

    def wake(self) -> None: ...


class AppendQueue(Protocol):
    """Where a partition says that it has bytes to write before the answers of this loop turn go out."""

    def needs_flush(self, partition: Partition) -> None: ...


class PartitionHost(Protocol):
    """What a partition asks of its broker."""

    lag_ms: int
    """`replica.lag.time.max.ms`"""
    last_fetch_ms: dict[int, int]
    """Wall clock of the last Fetch of each follower, by broker id."""

    def time_ms(self) -> int: ...

    def broker_epoch(self, broker_id: int) -> int:
        """Of the life of a broker that the metadata knows; -1 when it knows none."""
        ...

    def may_be_replaced(self) -> bool:
        """Others may lead what this broker leads, without its having heard of it."""
        ...

    def may_join_isr(self, broker_id: int, broker_epoch: int) -> bool:
        """The broker is active, and `broker_epoch` (-1: unknown) is that of its current registration."""
        ...

    def alter_partition(self, change: IsrChange, answered: IsrAnswered) -> None: ...

    def alter_partition_later(self, change: IsrChange, answered: IsrAnswered) -> None:
        """The same after a pause."""
        ...

    def isr_changed(self, grown: int) -> None:
        """The ISR of a partition led here has grown by this number of members (negative: shrunk)."""
        ...

    def isr_refused(self) -> None: ...


class Alone:
    """The surroundings of a broker that has no others."""

    lag_ms = 30_000

    def __init__(self) -> None:
        self.last_fetch_ms: dict[int, int] = {}

    def time_ms(self) -> int:
        return 0

    def broker_epoch(self, broker_id: int) -> int:
        return ANY_EPOCH

    def may_be_replaced(self) -> bool:
        return False

    def may_join_isr(self, broker_id: int, broker_epoch: int) -> bool:
        return False

    def alter_partition(self, change: IsrChange, answered: IsrAnswered) -> None:
        return

    def alter_partition_later(self, change: IsrChange, answered: IsrAnswered) -> None:
        return

    def isr_changed(self, grown: int) -> None:
        return

    def isr_refused(self) -> None:
        return
