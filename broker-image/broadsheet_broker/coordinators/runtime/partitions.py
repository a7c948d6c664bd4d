"""The partitions of a coordinator's topic that this broker leads, and which of them a key belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic

from broadsheet_broker.coordinators.runtime.partition import AnyShard, CoordinatedPartition, PartitionState
from broadsheet_broker.coordinators.runtime.settings import RuntimeSettings
from broadsheet_broker.coordinators.runtime.storage import Storage
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode

_REMEMBERED_KEYS = 10_000
_REFUSAL = {
    PartitionState.LOADING: ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    PartitionState.FAILED: ErrorCode.NOT_COORDINATOR,
    PartitionState.CLOSED: ErrorCode.NOT_COORDINATOR,
}


def java_hash(text: str) -> int:
    """java.lang.String.hashCode: the choice of partition by which all brokers of a cluster must agree."""
    value = 0
    for unit in memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H"):
        value = (31 * value + unit) & 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def partition_of(key: str, partitions: int) -> int:
    """The partition of the topic whose leader coordinates a key (Kafka's Utils.abs, then modulo)."""
    value = java_hash(key)
    return 0 if value == -(1 << 31) else abs(value) % partitions


class CoordinatedPartitions(Generic[AnyShard]):
    """What this broker coordinates of one topic. Iterates over the partitions, in whatever state they are."""

    def __init__(
        self,
        environment: Environment,
        settings: RuntimeSettings,
        storage: Storage,
        new_shard: Callable[[], AnyShard],
    ) -> None:
        self.may_be_replaced: Callable[[int], bool] = lambda index: False
        """Whether another broker may coordinate a partition already, although this one has not heard of it."""
        self._environment = environment
        self._settings = settings
        self._storage = storage
        self._new_shard = new_shard
        self._partitions: dict[int, CoordinatedPartition[AnyShard]] = {}
        self._indexes: dict[str, int] = {}
        """Partitions of the keys asked for last; at most `_REMEMBERED_KEYS`."""
        self._indexes_of = 0
        """For how many partitions `_indexes` holds."""

    def __iter__(self) -> Iterator[CoordinatedPartition[AnyShard]]:
        return iter(self._partitions.values())

    # Leadership

    def on_leadership_change(self, topic: str, partition: int, leader_epoch: int | None) -> None:
        """This broker leads a partition from now on, or no longer (None). Partitions of other topics are ignored."""
        if topic != self._storage.topic:
            return
        if leader_epoch is None:
            self.on_resign(partition)
        else:
            self.on_leader(partition, leader_epoch)

    def on_leader(self, index: int, epoch: int) -> None:
        """Load a partition. Its keys answer COORDINATOR_LOAD_IN_PROGRESS until it is read to its end."""
        current = self._partitions.get(index)
        if current is not None and current.state is not PartitionState.FAILED:
            current.epoch = max(current.epoch, epoch)
            return
        loading = CoordinatedPartition(
            self._environment, self._settings, self._storage, self._new_shard(), index, epoch
        )
        self._partitions[index] = loading
        loading.load()

    def on_resign(self, index: int) -> None:
        """Forget a partition. Waiting requests are answered NOT_COORDINATOR, so that clients find the new one."""
        current = self._partitions.pop(index, None)
        if current is not None:
            current.close(ErrorCode.NOT_COORDINATOR)

    def close(self) -> None:
        """The broker stops."""
        for index in list(self._partitions):
            self.on_resign(index)

    # Which partition, and does this broker lead it

    def index_of(self, key: str) -> int:
        """The partition of the topic that a key lives in."""
        count = self._storage.partition_count() or self._settings.topic_partitions
        if count != self._indexes_of or len(self._indexes) >= _REMEMBERED_KEYS:
            self._indexes.clear()
            self._indexes_of = count
        index = self._indexes.get(key)
        if index is None:
            index = self._indexes[key] = partition_of(key, count)
        return index

    def find(self, key: str) -> CoordinatedPartition[AnyShard] | ErrorCode:
        """The active partition of a key, or why this broker cannot answer for it."""
        index = self.index_of(key)
        partition = self._partitions.get(index)
        if partition is None or self.may_be_replaced(index):
            return ErrorCode.NOT_COORDINATOR
        return partition if partition.state is PartitionState.ACTIVE else _REFUSAL[partition.state]

    def active(self) -> Iterator[CoordinatedPartition[AnyShard]]:
        """The partitions that serve requests."""
        return (partition for partition in self._partitions.values() if partition.state is PartitionState.ACTIVE)
