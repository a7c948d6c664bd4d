"""Reading many partitions for one request, at once or when enough has arrived (KIP-74 limits, delayed fetch).

The first partition that has something returns at least one whole batch, whatever the limits say; the others share what
remains. If fewer than `min_bytes` are there, the fetch waits on its partitions and is finished by the append that
completes it or by its timer: nothing is polled.

What is read in bulk is not in memory: the answer says where it is stored (`StoredBytes`), and the network reads it
piece by piece as the client takes it. So an answer may have as many bytes as `fetch.max.bytes` allows, and a client
that does not read holds none of them. A fetch that waits keeps no records either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from broadsheet_broker.replication.position_reader import ANYBODY, PositionReader, Reader, ReadingHost, error_row
from broadsheet_broker.replication.sessions import FetchSession, Position
from broadsheet_broker.seams.files import StoredBytes
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages.fetch_response import PartitionData

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition

Row = tuple[Position, PartitionData]

READ_AT_ONCE: Final = 256 * 1024
"""Bytes of records that are read while the request is handled, if the client has taken all earlier answers; more are
left where they are stored."""

LEAST_SHARE: Final = 64 * 1024
"""An answer to a consumer that has no room for all that its partitions have is shared by them equally, but in no
smaller parts: a client that asks in the same order each time (librdkafka) would not see the last ones for long."""

STORED_FROM: Final = 4 * 1024
"""Smaller pieces are always read: to name where they are would cost as much."""


class FetchHost(ReadingHost, Protocol):
    """What a fetch needs of the ReplicaManager."""

    def locate(self, position: Position) -> Partition: ...
    def finish_soon(self, fetch: Fetch) -> None: ...
    def sent_to_follower(self, partition: Partition, replica: int, size: int) -> None: ...


class Taker(Protocol):
    """What a fetch needs to know of the connection that its answer goes to."""

    @property
    def keeps_up(self) -> bool: ...


class Fetch:
    """One Fetch request while it is being served."""

    __slots__ = (
        "_answer",
        "_available",
        "_hosts",
        "_incremental",
        "_reading",
        "_rows",
        "_taker",
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
        taker: Taker | None = None,
    ) -> None:
        """`taker` is who gets the answer; None: who takes it at once."""
        self._reading = PositionReader(hosts, reader, read_committed=read_committed)
        self._taker = taker
        self._waited = False
        self._hosts = hosts
        self._answer = answer
        self._incremental = incremental
        self._timer: asyncio.TimerHandle | None = None
        self._available = 0
        self._rows: list[tuple[Position, PartitionData | None]] = []
        """Of a full fetch that waits. None: there were records, which are read again."""
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
        self._waited = True
        session.waiting = self
        if not self._incremental:
            session.changed = {}
            self._rows = [(position, None if row.records else row) for position, row in rows]
        for position, _ in rows:
            if position.partition is not None:
                position.seen_bytes = self._reading.readable_bytes(position.partition)
                position.partition.watch(position)
        self._timer = loop.call_later(max_wait_ms / 1000, self.complete)

    def progress(self, position: Position) -> None:
        """A partition that this fetch waits on has moved: finish at the end of this loop turn if that is enough."""
        partition = position.partition
        if self.scheduled or partition is None:
            return
        if self._reading.must_answer(position, partition):
            self.scheduled = True
        elif self._reading.limit(partition) > position.fetch_offset and (
            self.replica_id < 0 or self._hosts.may_send(partition, self.replica_id)
        ):
            gained = self._reading.readable_bytes(partition) - position.seen_bytes
            self._available += min(gained, position.max_bytes)
            self.scheduled = self._available >= self.min_bytes
        if self.scheduled:
            self._hosts.finish_soon(self)
        else:
            position.seen_bytes = self._reading.readable_bytes(partition)
            partition.watch(position)

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
        """Every row of a full fetch that has waited: what had nothing to read, and has not moved, is not read again."""
        kept, self._rows = self._rows, []
        moved = self.session.changed
        fresh = dict(self._read([position for position, row in kept if row is None or position in moved])[0])
        rows = ((position, fresh.get(position) or row) for position, row in kept)
        return [(position, row) for position, row in rows if row is not None]

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

    def _readable(self, positions: Sequence[Position]) -> int:
        """How many positions have something to read, if they could have more than the answer holds; else 0."""
        if self.replica_id >= 0 or sum(position.max_bytes for position in positions) <= self.max_bytes:
            return 0
        count = 0
        for position in positions:
            try:
                if position.partition is None:
                    position.partition = self._hosts.locate(position)
            except KafkaError:
                continue  # it gets a row with this error
            if self._reading.limit(position.partition) > position.fetch_offset:
                count += 1
        return count

    def _read(self, positions: Sequence[Position]) -> tuple[list[Row], int, bool]:
        """Rows, bytes of records in them, and whether one of them (an error, a truncation) must not wait.

        Incremental: positions that have nothing new get no row; they
        leave the session's `changed` set and wait on their partitions instead.
        """
        rows: list[Row] = []
        urgent = False
        size = at_once = 0
        most_at_once = READ_AT_ONCE if self._taker is None or self._taker.keeps_up else 0
        session = self.session
        sharing = self._readable(positions)
        incremental = self._incremental
        for position in positions:
            try:
                partition = position.partition
                if partition is None or partition.retired is not None:
                    partition = position.partition = self._hosts.locate(position)
                if incremental and self._reading.is_quiet(position, partition):
                    del session.changed[position]
                    position.seen_bytes = self._reading.readable_bytes(partition)
                    partition.watch(position)
                    continue
                budget = share = max(0, self.max_bytes - size)
                if sharing > 1 and self._reading.limit(partition) > position.fetch_offset:
                    share = min(budget, max(LEAST_SHARE, budget // sharing))
                    sharing -= 1
                stored_from = max(most_at_once - at_once, STORED_FROM)
                row, taken = self._reading.read(
                    position, partition, share, not size, waited=self._waited, stored_from=stored_from
                )
                if not taken and share < budget:  # not even the first batch fits into its share
                    row, taken = self._reading.read(position, partition, budget, False, stored_from=stored_from)
            except KafkaError as error:
                row = error_row(position.index, error.code)
                urgent = True
            else:
                size += taken
                records: Any = row.records
                if records and type(records) is not StoredBytes:
                    at_once += len(records)
                if row.diverging_epoch.end_offset >= 0 or row.preferred_read_replica >= 0:
                    urgent = True
            rows.append((position, row))
        return rows, size, urgent
