"""Reads one position of a fetch: what a consumer or a replica gets of a partition, without sessions and waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from broadsheet_broker.log.reading import NEVER_STORED
from broadsheet_broker.replication.sessions import Position
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.fetch_response import AbortedTransaction, EpochEndOffset, PartitionData

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition

CONSUMER: Final = -1
"""Replica id of readers that are not replicas."""
UNDEFINED_EPOCH: Final = -1


class ReadingHost(Protocol):
    """What reading needs of the ReplicaManager."""

    def time_ms(self) -> int: ...
    def preferred_replica(self, partition: Partition, reader: Reader, fetch_offset: int) -> int: ...
    def may_send(self, partition: Partition, replica: int) -> bool: ...


class Reader(NamedTuple):
    """Who fetches, as far as it matters where and how."""

    replica_id: int = CONSUMER
    broker_epoch: int = -1
    """Of the follower's present life (KIP-903); -1 when it does not say."""
    rack: str = ""
    """The consumer's `client.rack` (KIP-392)."""
    listener: str = ""
    leader_only: bool = True
    """Consumers that know of KIP-392 (Fetch 11 on) may read from any replica."""


ANYBODY: Final = Reader()


class PositionReader:
    """One reader's way to read. Knows nothing of the other positions of a request."""

    __slots__ = ("_host", "_read_committed", "_reader", "_replica_id")

    def __init__(self, host: ReadingHost, reader: Reader, *, read_committed: bool) -> None:
        self._host = host
        self._reader = reader
        self._replica_id = reader.replica_id
        self._read_committed = read_committed

    def must_answer(self, position: Position, partition: Partition) -> bool:
        """The partition is not what it was when the reader began to wait: an error awaits it."""
        return (
            partition.retired is not None
            or (self._reader.leader_only and not partition.is_leader)
            or position.current_leader_epoch not in (UNDEFINED_EPOCH, partition.leader_epoch)
            or position.fetch_offset < partition.log.log_start_offset
        )

    def limit(self, partition: Partition) -> int:
        """Where the reader stops: the end of the log for a replica, what is committed for a consumer."""
        if self._replica_id >= 0:
            return partition.flushed_end_offset
        return partition.last_stable_offset if self._read_committed else partition.high_watermark

    def readable_bytes(self, partition: Partition) -> int:
        """Of all that was ever written: readers compare it with what it was."""
        return partition.bytes.written if self._replica_id >= 0 else partition.bytes.visible

    def is_quiet(self, position: Position, partition: Partition) -> bool:
        """Nothing to read and nothing to tell: the common case of a consumer that has caught up."""
        return (
            (partition.is_leader or not self._reader.leader_only)
            and position.fetch_offset == self.limit(partition)
            and position.sent_high_watermark == partition.high_watermark
            and position.sent_log_start_offset == partition.log.log_start_offset
            and position.current_leader_epoch in (UNDEFINED_EPOCH, partition.leader_epoch)
            and (
                position.last_fetched_epoch in (UNDEFINED_EPOCH, partition.leader_epoch)
                or position.checked_epoch == partition.leader_epoch
            )
            and (self._replica_id < 0 or self._is_known(position, partition))
        )

    def _is_known(self, position: Position, partition: Partition) -> bool:
        """The leader has taken note of where this follower is."""
        follower = partition.followers.get(self._replica_id)
        return (
            follower is not None
            and self._replica_id in partition.maximal_isr
            and follower.log_end_offset == position.fetch_offset
            and follower.log_start_offset == position.log_start_offset
        )

    def read(
        self,
        position: Position,
        partition: Partition,
        budget: int,
        min_one: bool,
        *,
        waited: bool = False,
        stored_from: int = NEVER_STORED,
    ) -> tuple[PartitionData, int]:
        """The row of one partition and the bytes that it takes of the limits; errors are raised.

        Only whole batches are sent, so what the limit cut off is counted as taken: a client that asks for as much as
        it allows (`min_bytes` equal to `max_bytes`) would otherwise wait for what never fits. `waited`: the position is
        from before the fetch waited, and no news of a follower. `stored_from`: see `Log.read`; the row's records may be
        `StoredBytes` then.
        """
        epoch = position.current_leader_epoch
        if not partition.is_leader or (epoch != UNDEFINED_EPOCH and epoch != partition.leader_epoch):
            partition.check_leader(epoch, or_follower=not self._reader.leader_only)
        elif self._replica_id < 0 and partition.may_be_replaced:
            partition.check_leader(epoch)
        log = partition.log
        offset = position.fetch_offset
        high_watermark = partition.high_watermark
        stable = log.last_stable_offset(high_watermark)
        start = log.log_start_offset
        read_committed = self._read_committed
        row = PartitionData(
            partition_index=position.index,
            high_watermark=high_watermark,
            last_stable_offset=stable,
            log_start_offset=start,
            aborted_transactions=[] if read_committed else None,
            records=b"",
        )
        if position.last_fetched_epoch >= 0 and self._diverges(position, partition, row):
            return row, 0
        if self._replica_id >= 0:
            limit = self._follow(position, partition, row, waited)
            if not self._host.may_send(partition, self._replica_id):
                return row, 0
        elif self._reader.rack and partition.is_leader and self._prefers_another(position, partition, row):
            return row, 0
        else:
            limit = stable if read_committed else high_watermark
        if offset >= limit or offset < start:
            if offset < start or offset > log.log_end_offset:
                raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
            return row, 0
        max_bytes = max(0, min(position.max_bytes, budget))
        if max_bytes <= 0 and not min_one:
            return row, 0
        fetched = log.read(offset, max_bytes, limit_offset=limit, min_one=min_one, stored_from=stored_from)
        records = fetched.data if fetched.stored is None else cast(Any, fetched.stored)
        size = len(records)
        if size:
            row.records = records
            if read_committed:
                row.aborted_transactions = [
                    AbortedTransaction(producer_id=aborted.producer_id, first_offset=aborted.first_offset)
                    for aborted in log.aborted_transactions(offset, fetched.next_offset)
                ]
            if fetched.next_offset < limit:
                size = max(size, max_bytes)
        return row, size

    def _follow(self, position: Position, partition: Partition, row: PartitionData, waited: bool) -> int:
        """A replica fetches: its fetch offset shows what it has. It reads up to the end of the log."""
        end = partition.flushed_end_offset
        # What it asked before it waited is old: it may be behind now, or caught up since.
        if not waited and row.log_start_offset <= position.fetch_offset <= end:
            partition.update_follower(
                self._replica_id,
                position.fetch_offset,
                position.log_start_offset,
                self._host.time_ms(),
                self._reader.broker_epoch,
            )
            row.high_watermark = partition.high_watermark
        return end

    def _prefers_another(self, position: Position, partition: Partition, row: PartitionData) -> bool:
        """True if a replica in the consumer's rack can serve it: the response names it and has no records."""
        chosen = self._host.preferred_replica(partition, self._reader, position.fetch_offset)
        row.preferred_read_replica = chosen
        return chosen >= 0

    def _diverges(self, position: Position, partition: Partition, row: PartitionData) -> bool:
        """True if the reader's log parted from ours before its fetch offset (KIP-595): it has to truncate first."""
        epoch, end_offset = partition.log.end_offset_for_epoch(position.last_fetched_epoch)
        if epoch == UNDEFINED_EPOCH or end_offset < 0 or position.fetch_offset < partition.log.log_start_offset:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        if epoch < position.last_fetched_epoch or end_offset < position.fetch_offset:
            row.diverging_epoch = EpochEndOffset(epoch=epoch, end_offset=end_offset)
            return True
        position.checked_epoch = partition.leader_epoch
        return False


def error_row(index: int, code: int) -> PartitionData:
    """What a Fetch answers for a partition that it cannot read."""
    return PartitionData(
        partition_index=index,
        error_code=code,
        high_watermark=-1,
        last_stable_offset=-1,
        log_start_offset=-1,
        records=b"",
    )
