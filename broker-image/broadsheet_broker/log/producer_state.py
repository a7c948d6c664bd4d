"""What each idempotent or transactional producer wrote last to a partition (KIP-98): duplicates, gaps and zombies show.

Entries are never changed but replaced, so that appends which could not be written are undone by putting the old
entries back. A snapshot of all entries is written when a segment begins and at a clean stop; its format is Kafka's
`<offset>.snapshot`: version 1 (int16), CRC32C of what follows it (uint32), count (int32), entries of

    producer id int64, epoch int16, last sequence int32, last offset int64, offset delta int32, timestamp int64,
    coordinator epoch int32, first offset of the open transaction int64
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import CONTROL_ABORT, CONTROL_COMMIT, crc32c, decode_records

CACHED_BATCHES: Final = 5
"""Batches remembered per producer: as many as a client may have in flight (ProducerStateEntry in Kafka)."""

PRODUCER_ID_EXPIRATION_MS: Final = 24 * 3600 * 1000
"""Default of `producer.id.expiration.ms`."""

_SNAPSHOT_HEAD: Final = struct.Struct(">hIi")
_SNAPSHOT_ENTRY: Final = struct.Struct(">qhiqiqiq")
_SNAPSHOT_VERSION: Final = 1
_CRC_FROM: Final = 6

_MARKER_VALUE: Final = struct.Struct(">hi")

Batch = tuple[int, int, int, int, int]
"""First sequence, last sequence, first offset, last offset, timestamp (ms)."""


class SnapshotCorruptError(ValueError):
    """A producer snapshot that cannot be read."""


class ProducerEntry:
    """The state of one producer. Treat as immutable."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "last_timestamp", "producer_id", "transaction_first_offset")

    def __init__(
        self,
        producer_id: int,
        epoch: int,
        coordinator_epoch: int,
        last_timestamp: int,
        transaction_first_offset: int,
        batches: tuple[Batch, ...],
    ) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.coordinator_epoch = coordinator_epoch
        self.last_timestamp = last_timestamp
        self.transaction_first_offset = transaction_first_offset
        """-1 when no transaction is open."""
        self.batches = batches

    @property
    def last_sequence(self) -> int:
        return self.batches[-1][1] if self.batches else -1

    @property
    def last_offset(self) -> int:
        return self.batches[-1][3] if self.batches else -1


class CompletedTransaction:
    """A transaction that a marker just ended."""

    __slots__ = ("aborted", "first_offset", "last_offset", "last_stable_offset", "producer_id")

    def __init__(
        self, producer_id: int, first_offset: int, last_offset: int, last_stable_offset: int, *, aborted: bool
    ) -> None:
        self.producer_id = producer_id
        self.first_offset = first_offset
        self.last_offset = last_offset
        self.last_stable_offset = last_stable_offset
        self.aborted = aborted


class ProducerState:
    """All producers of one partition, as of `end_offset`."""

    __slots__ = ("_saved", "_saved_transactions", "_undo", "end_offset", "ongoing", "producers", "unreplicated")

    def __init__(self, end_offset: int = 0) -> None:
        self.producers: dict[int, ProducerEntry] = {}
        self.ongoing: dict[int, int] = {}
        """First offset of each open transaction -> producer id, in the order of the offsets."""
        self.unreplicated: dict[int, int] = {}
        """First offset -> marker offset of ended transactions whose marker may be above the high watermark."""
        self.end_offset = end_offset
        self._saved = end_offset
        self._undo: list[tuple[int, ProducerEntry | None]] | None = None
        self._saved_transactions: tuple[dict[int, int], dict[int, int]] | None = None

    @property
    def written_end_offset(self) -> int:
        """The end as of the last commit."""
        return self._saved

    # What is applied between two commits can be taken back.

    def commit(self) -> None:
        """Everything applied so far is written."""
        self._undo = None
        self._saved_transactions = None
        self._saved = self.end_offset

    def rollback(self) -> None:
        """Nothing applied since the last commit was written."""
        for producer_id, entry in reversed(self._undo or ()):
            if entry is None:
                self.producers.pop(producer_id, None)
            else:
                self.producers[producer_id] = entry
        if self._saved_transactions is not None:
            self.ongoing, self.unreplicated = self._saved_transactions
        self.end_offset = self._saved
        self._undo = None
        self._saved_transactions = None

    def _replace(self, entry: ProducerEntry) -> None:
        producer_id = entry.producer_id
        if self._undo is None:
            self._undo = []
        self._undo.append((producer_id, self.producers.get(producer_id)))
        self.producers[producer_id] = entry

    def _touch_transactions(self) -> None:
        if self._saved_transactions is None:
            self._saved_transactions = (dict(self.ongoing), dict(self.unreplicated))

    # Appends.

    def find_duplicate(self, producer_id: int, epoch: int, first_sequence: int, last_sequence: int) -> Batch | None:
        """The batch that was already written with these sequence numbers, if it is still remembered."""
        entry = self.producers.get(producer_id)
        if entry is not None and entry.epoch == epoch:
            for batch in entry.batches:
                if batch[0] == first_sequence and batch[1] == last_sequence:
                    return batch
        return None

    def check(self, producer_id: int, epoch: int, first_sequence: int, *, sequences: bool) -> None:
        """Refuse a zombie's batch; with `sequences` (batches of clients) refuse a gap as well."""
        entry = self.producers.get(producer_id)
        if entry is None:  # all its records may be gone by retention: any sequence starts it
            return
        if epoch < entry.epoch:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"epoch {epoch} of producer {producer_id} is older than the last seen epoch {entry.epoch}",
            )
        if not sequences:
            return
        if epoch != entry.epoch:
            if first_sequence != 0:
                raise KafkaError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"producer {producer_id} begins its epoch {epoch} with sequence {first_sequence} instead of 0",
                )
            return
        last = entry.last_sequence
        if first_sequence != last + 1 and not (first_sequence == 0 and last == 0x7FFFFFFF):
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"sequence {first_sequence} of producer {producer_id} does not follow its last sequence {last}, and is "
                f"none of the batches that are remembered: {_listed(entry.batches)}",
            )

    def check_transaction(self, producer_id: int, *, transactional: bool) -> None:
        entry = self.producers.get(producer_id)
        if entry is not None and entry.transaction_first_offset >= 0 and not transactional:
            raise KafkaError(
                ErrorCode.INVALID_TXN_STATE, f"producer {producer_id} has an open transaction and writes outside of it"
            )

    def apply(
        self,
        producer_id: int,
        epoch: int,
        first_sequence: int,
        last_sequence: int,
        first_offset: int,
        last_offset: int,
        timestamp: int,
        transactional: bool,
    ) -> None:
        """A data batch of this producer was appended."""
        entry = self.producers.get(producer_id)
        batch = (first_sequence, last_sequence, first_offset, last_offset, timestamp)
        coordinator_epoch = -1
        transaction = -1
        batches: tuple[Batch, ...] = (batch,)
        if entry is not None:
            coordinator_epoch = entry.coordinator_epoch
            transaction = entry.transaction_first_offset
            if entry.epoch == epoch:
                batches = (*entry.batches[1 - CACHED_BATCHES :], batch)
        if transactional and transaction < 0:
            transaction = first_offset
            self._touch_transactions()
            self.ongoing[first_offset] = producer_id
        self._replace(ProducerEntry(producer_id, epoch, coordinator_epoch, timestamp, transaction, batches))

    def apply_marker(
        self, producer_id: int, epoch: int, control_type: int, coordinator_epoch: int, offset: int, timestamp: int
    ) -> CompletedTransaction | None:
        """A commit or abort marker was appended; returns the transaction it ended, if one was open."""
        entry = self.producers.get(producer_id)
        completed = None
        batches: tuple[Batch, ...] = ()
        if entry is not None:
            first = entry.transaction_first_offset
            if entry.epoch == epoch:
                batches = entry.batches
            if first >= 0:
                self._touch_transactions()
                self.ongoing.pop(first, None)
                self.unreplicated[first] = offset
                stable = min(self.ongoing, default=offset + 1)
                completed = CompletedTransaction(
                    producer_id, first, offset, stable, aborted=control_type == CONTROL_ABORT
                )
        self._replace(ProducerEntry(producer_id, epoch, coordinator_epoch, timestamp, -1, batches))
        return completed

    # The last stable offset.

    def on_high_watermark(self, high_watermark: int) -> None:
        """Transactions whose marker is below the high watermark no longer hold back the last stable offset."""
        if self.unreplicated:
            for first, last in list(self.unreplicated.items()):
                if last < high_watermark:
                    del self.unreplicated[first]

    def first_unstable_offset(self) -> int | None:
        if not self.ongoing and not self.unreplicated:
            return None
        return min(*self.ongoing, *self.unreplicated, 2**63 - 1)

    # Life cycle.

    def remove_expired(self, now_ms: int, expiration_ms: int = PRODUCER_ID_EXPIRATION_MS) -> None:
        expired = [
            producer_id
            for producer_id, entry in self.producers.items()
            if entry.transaction_first_offset < 0 and now_ms - entry.last_timestamp >= expiration_ms
        ]
        for producer_id in expired:
            del self.producers[producer_id]

    def clear(self, end_offset: int) -> None:
        self.producers.clear()
        self.ongoing.clear()
        self.unreplicated.clear()
        self.end_offset = end_offset
        self.commit()

    def to_snapshot(self) -> bytes:
        output = bytearray(_SNAPSHOT_HEAD.pack(_SNAPSHOT_VERSION, 0, len(self.producers)))
        for entry in self.producers.values():
            last_sequence, last_offset, delta = -1, -1, 0
            if entry.batches:
                _, last_sequence, first_offset, last_offset, _ = entry.batches[-1]
                delta = last_offset - first_offset
            output += _SNAPSHOT_ENTRY.pack(
                entry.producer_id,
                entry.epoch,
                last_sequence,
                last_offset,
                delta,
                entry.last_timestamp,
                entry.coordinator_epoch,
                entry.transaction_first_offset,
            )
        struct.pack_into(">I", output, 2, crc32c(memoryview(output)[_CRC_FROM:]))
        return bytes(output)

    def load_snapshot(
        self,
        data: bytes,
        end_offset: int,
        now_ms: int | None = None,
        expiration_ms: int = PRODUCER_ID_EXPIRATION_MS,
    ) -> None:
        """Replace everything by a snapshot as of `end_offset`, without the producers that were silent for
        `expiration_ms`; raises SnapshotCorruptError."""
        entries = list(read_snapshot(data))
        self.clear(end_offset)
        for entry in entries:
            expired = now_ms is not None and now_ms - entry.last_timestamp >= expiration_ms
            if expired and entry.transaction_first_offset < 0:
                continue
            self.producers[entry.producer_id] = entry
            if entry.transaction_first_offset >= 0:
                self.ongoing[entry.transaction_first_offset] = entry.producer_id


def _listed(batches: tuple[Batch, ...]) -> str:
    """Sequences and offsets: what is needed to find a batch in the log."""
    return ", ".join(f"{first} to {last} at offset {offset}" for first, last, offset, _, _ in batches) or "none"


def read_snapshot(data: bytes) -> Iterator[ProducerEntry]:
    """The entries of a snapshot file; raises SnapshotCorruptError."""
    if len(data) < _SNAPSHOT_HEAD.size:
        raise SnapshotCorruptError(f"{len(data)} bytes are too few for a producer snapshot")
    version, crc, count = _SNAPSHOT_HEAD.unpack_from(data)
    if version != _SNAPSHOT_VERSION:
        raise SnapshotCorruptError(f"producer snapshot of unknown version {version}")
    if crc32c(data[_CRC_FROM:]) != crc:
        raise SnapshotCorruptError("the CRC of the producer snapshot is wrong")
    if count < 0 or _SNAPSHOT_HEAD.size + count * _SNAPSHOT_ENTRY.size != len(data):
        raise SnapshotCorruptError(f"producer snapshot of {count} entries in {len(data)} bytes")
    for row in _SNAPSHOT_ENTRY.iter_unpack(data[_SNAPSHOT_HEAD.size :]):
        producer_id, epoch, last_sequence, last_offset, delta, timestamp, coordinator_epoch, transaction = row
        batches: tuple[Batch, ...] = ()
        if last_offset >= 0:
            first_sequence = (last_sequence - delta) & 0x7FFFFFFF if last_sequence >= 0 else -1
            batches = ((first_sequence, last_sequence, last_offset - delta, last_offset, timestamp),)
        yield ProducerEntry(producer_id, epoch, coordinator_epoch, timestamp, transaction, batches)


def read_marker(batch: memoryview) -> tuple[int, int] | None:
    """(control type, coordinator epoch) of an end transaction marker; None for other control batches.

    The key holds a version and the type, the value a version (both int16) and the coordinator's epoch (int32).
    """
    for record in decode_records(batch):
        if record.key is None or len(record.key) < 4:
            raise KafkaError(ErrorCode.INVALID_RECORD, "control record without a type")
        (control_type,) = struct.unpack_from(">h", record.key, 2)
        if control_type not in (CONTROL_ABORT, CONTROL_COMMIT):
            return None
        if record.value is None or len(record.value) < _MARKER_VALUE.size:
            raise KafkaError(ErrorCode.INVALID_RECORD, "end transaction marker without a coordinator epoch")
        return control_type, int(_MARKER_VALUE.unpack_from(record.value)[1])
    return None
