"""Reading many partitions for one request, at once or when enough has arrived (KIP-74 limits, delayed fetch).

The first partition that has something returns at least one whole batch, whatever the limits say; the others share what
remains. If fewer than `min_bytes` are there, the fetch waits on its partitions and is finished by the append that
completes it or by its timer: nothing is polled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from broadsheet_broker.replication.sessions import FetchSession, Position
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.fetch_response import AbortedTransaction, EpochEndOffset, PartitionData

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition

Row = tuple[Position, PartitionData]
CONSUMER = -1
"""Replica id of readers that are not replicas."""
UNDEFINED_EPOCH = -1


class FetchHost(Protocol):
    """What reading needs of the ReplicaManager."""

    def locate(self, position: Position) -> Partition: ...
    def finish_soon(self, fetch: Fetch) -> None: ...
    def time_ms(self) -> int: ...
    def preferred_replica(self, partition: Partition, reader: Reader, fetch_offset: int) -> int: ...
    def may_send(self, partition: Partition, replica: int) -> bool: ...
    def sent_to_follower(self, partition: Partition, replica: int, size: int) -> None: ...


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


ANYBODY = Reader()


class Fetch:
    """One Fetch request while it is being served."""

    __slots__ = (
        "_answer",
        "_available",
        "_hosts",
        "_incremental",
        "_reader",
        "_rows",
        "_timer",
        "_waited",
        "done",
        "max_bytes",
        "min_bytes",
        "read_committed",
        "replica_id",
        "scheduled",
        "session",
    )

    def __init__(
        self,
        hosts: FetchHost,
        session: FetchSession,
        answer: Callable[[list[Row]], None],
        *,
        incremental: bool,
        read_committed: bool,
        min_bytes: int,
        max_bytes: int,
        reader: Reader = ANYBODY,
    ) -> None:
        self._reader = reader
        self._waited = False
        self._hosts = hosts
        self._answer = answer
        self._incremental = incremental
        self._timer: asyncio.TimerHandle | None = None
        self._available = 0
        self._rows: list[Row] = []
        self.session = session
        self.replica_id = reader.replica_id
        self.read_committed = read_committed
        self.min_bytes = min_bytes
        self.max_bytes = max_bytes
        self.scheduled = False
        """True once there is enough and the end of this loop turn will finish it."""
        self.done = False

    def start(self, loop: asyncio.AbstractEventLoop, max_wait_ms: int) -> None:
        """Answer now if there is enough, an error, or no time to wait; else wait."""
        session = self.session
        rows, size, urgent = self._read(list(session.changed))
        if urgent or size >= self.min_bytes or max_wait_ms <= 0 or not session.size:
            self._end(rows)
            return
        self._available = size
        self._rows = rows
        self._waited = True
        session.waiting = self
        if not self._incremental:
            session.changed = {}
        for position, _ in rows:
            if position.partition is not None:
                position.seen_bytes = self._readable_bytes(position.partition)
                position.partition.watch(position)
        self._timer = loop.call_later(max_wait_ms / 1000, self.complete)

    def progress(self, position: Position) -> None:
        """A partition that this fetch waits on has moved: finish at the end of this loop turn if that is enough."""
        partition = position.partition
        if self.scheduled or partition is None:
            return
        if self._must_answer(position, partition):
            self.scheduled = True
        elif self._limit(partition) > position.fetch_offset and (
            self.replica_id < 0 or self._hosts.may_send(partition, self.replica_id)
        ):
            gained = self._readable_bytes(partition) - position.seen_bytes
            self._available += min(gained, position.max_bytes)
            self.scheduled = self._available >= self.min_bytes
        if self.scheduled:
            self._hosts.finish_soon(self)
        else:
            position.seen_bytes = self._readable_bytes(partition)
            partition.watch(position)

    def _must_answer(self, position: Position, partition: Partition) -> bool:
        """The partition is not what it was when the reader began to wait: an error awaits it."""
        return (
            partition.retired is not None
            or (self._reader.leader_only and not partition.is_leader)
            or position.current_leader_epoch not in (UNDEFINED_EPOCH, partition.leader_epoch)
            or position.fetch_offset < partition.log.log_start_offset
        )

    def complete(self) -> None:
        """Answer with whatever there is now."""
        if self.done:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        session = self.session
        if session.waiting is self:
            session.waiting = None
        if self._incremental:
            rows, _, _ = self._read(list(session.changed))
        else:
            rows = self._read_again()
            session.changed = dict.fromkeys(session.positions(), True)
        self._end(rows)

    def _read_again(self) -> list[Row]:
        """Every row of a full fetch that has waited: only the positions that moved meanwhile are read again."""
        moved = self.session.changed
        kept = sum(len(row.records) for position, row in self._rows if row.records and position not in moved)
        fresh = dict(self._read([position for position, _ in self._rows if position in moved], kept)[0])
        return [(position, fresh.get(position) or row) for position, row in self._rows]

    def _end(self, rows: list[Row]) -> None:
        self.done = True
        for position, row in rows:
            partition = position.partition
            if partition is None:
                continue
            counters = partition.counters
            counters.fetch_requests += 1
            if row.error_code:
                counters.failed_fetch_requests += 1
            elif row.records:
                if self.replica_id < 0:
                    counters.bytes_out += len(row.records)
                else:
                    self._hosts.sent_to_follower(partition, self.replica_id, len(row.records))
        self._answer(rows)

    def _limit(self, partition: Partition) -> int:
        if self.replica_id >= 0:
            return partition.flushed_end_offset
        return partition.last_stable_offset if self.read_committed else partition.high_watermark

    def _readable_bytes(self, partition: Partition) -> int:
        return partition.bytes.written if self.replica_id >= 0 else partition.bytes.visible

    def _read(self, positions: Iterable[Position], size: int = 0) -> tuple[list[Row], int, bool]:
        """Rows, bytes of records in them, and whether one of them (an error, a truncation) must not wait.

        `size` bytes of the answer are taken already. Incremental: positions that have nothing new get no row; they
        leave the session's `changed` set and wait on their partitions instead.
        """
        rows: list[Row] = []
        urgent = False
        session = self.session
        incremental = self._incremental
        for position in positions:
            try:
                partition = position.partition
                if partition is None or partition.retired is not None:
                    partition = position.partition = self._hosts.locate(position)
                if incremental and self._is_quiet(position, partition):
                    del session.changed[position]
                    position.seen_bytes = self._readable_bytes(partition)
                    partition.watch(position)
                    continue
                row, taken = self._read_one(position, partition, max(0, self.max_bytes - size), not size)
            except KafkaError as error:
                row = error_row(position.index, error.code)
                urgent = True
            else:
                size += taken
                if row.diverging_epoch.end_offset >= 0 or row.preferred_read_replica >= 0:
                    urgent = True
            rows.append((position, row))
        return rows, size, urgent

    def _is_quiet(self, position: Position, partition: Partition) -> bool:
        """Nothing to read and nothing to tell: the common case of a consumer that has caught up."""
        return (
            (partition.is_leader or not self._reader.leader_only)
            and position.fetch_offset == self._limit(partition)
            and position.sent_high_watermark == partition.high_watermark
            and position.sent_log_start_offset == partition.log.log_start_offset
            and position.current_leader_epoch in (UNDEFINED_EPOCH, partition.leader_epoch)
            and (
                position.last_fetched_epoch in (UNDEFINED_EPOCH, partition.leader_epoch)
                or position.checked_epoch == partition.leader_epoch
            )
            and (self.replica_id < 0 or self._is_known(position, partition))
        )

    def _is_known(self, position: Position, partition: Partition) -> bool:
        """The leader has taken note of where this follower is."""
        follower = partition.followers.get(self.replica_id)
        return (
            follower is not None
            and self.replica_id in partition.maximal_isr
            and follower.log_end_offset == position.fetch_offset
            and follower.log_start_offset == position.log_start_offset
        )

    def _read_one(
        self, position: Position, partition: Partition, budget: int, min_one: bool
    ) -> tuple[PartitionData, int]:
        """The row of one partition and the bytes that it takes of the limits; errors are raised.

        Only whole batches are sent, so what the limit cut off is counted as taken: a client that asks for as much as
        it allows (`min_bytes` equal to `max_bytes`) would otherwise wait for what never fits.
        """
        epoch = position.current_leader_epoch
        if not partition.is_leader or (epoch != UNDEFINED_EPOCH and epoch != partition.leader_epoch):
            partition.check_leader(epoch, or_follower=not self._reader.leader_only)
        elif self.replica_id < 0 and partition.may_be_replaced:
            partition.check_leader(epoch)
        log = partition.log
        offset = position.fetch_offset
        high_watermark = partition.high_watermark
        stable = log.last_stable_offset(high_watermark)
        start = log.log_start_offset
        read_committed = self.read_committed
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
        if self.replica_id >= 0:
            limit = self._follow(position, partition, row)
            if not self._hosts.may_send(partition, self.replica_id):
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
        fetched = log.read(offset, max_bytes, limit_offset=limit, min_one=min_one)
        size = len(fetched.data)
        if size:
            row.records = fetched.data
            if read_committed:
                row.aborted_transactions = [
                    AbortedTransaction(producer_id=aborted.producer_id, first_offset=aborted.first_offset)
                    for aborted in log.aborted_transactions(offset, fetched.next_offset)
                ]
            if fetched.next_offset < limit:
                size = max(size, max_bytes)
        return row, size

    def _follow(self, position: Position, partition: Partition, row: PartitionData) -> int:
        """A replica fetches: its fetch offset shows what it has. It reads up to the end of the log."""
        end = partition.flushed_end_offset
        # What it asked before it waited is old: it may be behind now, or caught up since.
        if not self._waited and row.log_start_offset <= position.fetch_offset <= end:
            partition.update_follower(
                self.replica_id,
                position.fetch_offset,
                position.log_start_offset,
                self._hosts.time_ms(),
                self._reader.broker_epoch,
            )
            row.high_watermark = partition.high_watermark
        return end

    def _prefers_another(self, position: Position, partition: Partition, row: PartitionData) -> bool:
        """True if a replica in the consumer's rack can serve it: the response names it and has no records."""
        chosen = self._hosts.preferred_replica(partition, self._reader, position.fetch_offset)
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
