"""Compaction of one log: of every key only the last record stays (`cleanup.policy=compact`).

As in Kafka: the closed segments above the first dirty offset are read into a map key -> last offset; then all closed
segments up to the end of the map are copied, in groups that fit one segment, leaving out records whose key has a later
offset in the map. Offsets never change. A tombstone (null value) stays for delete.retention.ms after the first pass
that kept it as its key's last record: that pass writes the time when it may go into its batch as the delete horizon
(KIP-534). A batch may lose all of its records; the empty batch stays while it is the last of its producer, whose
sequence numbers live in it.

The copy is written to `.cleaned` files, made durable, renamed to `.swap`, then the old segments are renamed to
`.deleted` and the copy takes their place. A crash at any point leaves what recovery can finish or undo.

`clean` is work in steps (`seams.steps`): it yields after some thousand records or a megabyte of them, decompressed.

A batch whose records cannot be read (an older version took it, or its bytes are damaged) is copied as it is, and no
record is removed on its account. Apache Kafka gives up the whole partition until the next start.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from broadsheet_broker.log.batch_rows import PooledFile, StepCount, each_record
from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.log.segment import (
    CLEANED_SUFFIX,
    INDEX_SUFFIX,
    INDEX_SUFFIXES,
    LOG_SUFFIX,
    MAX_RELATIVE_OFFSET,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
)
from broadsheet_broker.log.transaction_index import AbortedTransaction, read_aborted
from broadsheet_broker.seams.steps import Room, Stepwise
from broadsheet_broker.wire.compressors import Compressor
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.record_rows import Row, copy_row
from broadsheet_broker.wire.records import (
    COMPRESSION_MASK,
    DELETE_HORIZON_FLAG,
    HEADER,
    BatchHeader,
    CorruptRecordError,
    decode_records,
    encode_record,
    frame_batch,
)

if TYPE_CHECKING:
    from broadsheet_broker.log.segments import Segments

logger = logging.getLogger(__name__)

_BATCH_RECORDS: Final = 10
"""Records that take as long as what a batch takes beside its records."""
_WRITE_BYTES: Final = 1024 * 1024
_LONG_KEY_BYTES: Final = 32
_ENTRY_OVERHEAD_BYTES: Final = 150
"""What a key and its offset cost in a dict, roughly."""


class CleaningAborted(Exception):
    """The log changed under the cleaner (truncation, deletion): the copy is thrown away."""


class OffsetMap:
    """Key -> its last offset, in bounded memory."""

    __slots__ = ("_bytes", "_limit", "_offsets", "end_offset")

    def __init__(self, limit_bytes: int) -> None:
        self._offsets: dict[bytes, int] = {}
        self._bytes = 0
        self._limit = limit_bytes
        self.end_offset = 0
        """The map knows everything below."""

    @property
    def full(self) -> bool:
        return self._bytes >= self._limit

    def __len__(self) -> int:
        return len(self._offsets)

    def put(self, key: bytes, offset: int) -> None:
        key = _short(key)
        if key not in self._offsets:
            self._bytes += len(key) + _ENTRY_OVERHEAD_BYTES
        self._offsets[key] = offset

    def get(self, key: bytes) -> int:
        """-1 for a key that is not in the map."""
        return self._offsets.get(_short(key), -1)


def _short(key: bytes) -> bytes:
    return key if len(key) <= _LONG_KEY_BYTES else hashlib.blake2b(key, digest_size=_LONG_KEY_BYTES).digest()


class Cleaning:
    """One pass over one log."""

    def __init__(
        self, segments: Segments, first_dirty_offset: int, end_offset: int, now_ms: int, map_bytes: int
    ) -> None:
        self.segments = segments
        self.first_dirty_offset = first_dirty_offset
        self.end_offset = end_offset
        """The first offset that may not be cleaned: at most the active segment's base."""
        self.now_ms = now_ms
        self.map = OffsetMap(map_bytes)
        self.generation = segments.generation
        self.open_transactions: set[int] = set()
        """Producers with transactional records since their last marker."""
        self.aborted: list[AbortedTransaction] = []
        self.unreadable: set[int] = set()
        """Base offsets of the batches whose records cannot be read."""
        self.count = StepCount()

    def clean(self) -> Stepwise[None]:
        """Do the pass; afterwards `map.end_offset` is the new first dirty offset. Raises CleaningAborted."""
        closed = [segment for segment in self.segments[:-1] if segment.base_offset < self.end_offset]
        for segment in closed:
            if segment.aborted:
                self.aborted += read_aborted(self.segments.files, segment.stem)
        try:
            yield from self.build_map(closed)
            self.open_transactions.clear()
            for group in self.groups([s for s in closed if s.base_offset < self.map.end_offset]):
                yield from self.clean_group(group)
        except BadBatchError as error:
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"a closed segment is damaged {error}") from error

    def check_unchanged(self) -> None:
        if self.segments.generation != self.generation or self.segments.offline is not None:
            raise CleaningAborted("the log was truncated or deleted meanwhile")

    # The map.

    def build_map(self, closed: list[Segment]) -> Stepwise[None]:
        self.map.end_offset = self.first_dirty_offset
        for number, segment in enumerate(closed):
            following = closed[number + 1].base_offset if number + 1 < len(closed) else self.end_offset
            if following <= self.first_dirty_offset:
                continue
            for _, header, batch in self.batches(segment):
                if header.last_offset >= self.end_offset:  # not replicated yet, or of an open transaction: it may go
                    return
                if header.last_offset >= self.first_dirty_offset and not header.is_control:
                    if self.map.full:
                        return
                    if not self.is_aborted(header):
                        whole = yield from self.map_batch(header, batch)
                        if not whole:
                            return
                self.map.end_offset = header.last_offset + 1
                if self.count.due(header.size, _BATCH_RECORDS):
                    yield None
            self.map.end_offset = max(self.map.end_offset, min(following, self.end_offset))

    def map_batch(self, header: BatchHeader, batch: memoryview) -> Stepwise[bool]:
        """Put the keys of one batch into the map. False when that is full before the end of the batch: what the map
        knows then is true, but not of all the batch, none of whose records are removed in this pass."""
        whole = True
        base, first, offsets = header.base_offset, self.first_dirty_offset, self.map

        def take(_: bytes, rows: list[Row]) -> bool:
            nonlocal whole
            if offsets.full:
                whole = False
                return False
            for row in rows:
                if row.key is not None and base + row.offset_delta >= first:
                    offsets.put(row.key, base + row.offset_delta)
            return True

        try:
            yield from each_record(header, batch, take, self.count)
        except CorruptRecordError as error:
            self.note_unreadable(header, error)
        return whole

    def note_unreadable(self, header: BatchHeader, error: CorruptRecordError) -> None:
        if header.base_offset not in self.unreadable:
            self.unreadable.add(header.base_offset)
            logger.warning(
                "%s: compaction leaves the records at offset %d to %d as they are, since they cannot be read: %s. "
                "Consumers cannot read them either: let them seek beyond, or delete them (kafka-delete-records.sh)",
                self.segments.name,
                header.base_offset,
                header.last_offset,
                error.message,
            )

    def batches(self, segment: Segment) -> Iterator[tuple[int, BatchHeader, memoryview]]:
        self.check_unchanged()
        file = PooledFile(self.segments, segment)
        for position, header in walk(file, 0, segment.size, segment.base_offset):
            self.check_unchanged()
            yield position, header, memoryview(file.read(position, header.size))

    def is_aborted(self, header: BatchHeader) -> bool:
        return header.is_transactional and any(
            entry.producer_id == header.producer_id and entry.first_offset <= header.base_offset <= entry.last_offset
            for entry in self.aborted
        )

    # The copy.

    def groups(self, segments: list[Segment]) -> Iterator[list[Segment]]:
        """Neighbours that together fit into one segment with its indexes, so that compaction does not leave ever
        smaller ones."""
        group: list[Segment] = []
        size = index = 0
        config = self.segments.config
        for segment in segments:
            own_index = self.index_bytes(segment)
            if group and (
                size + segment.size > config.segment_bytes
                or index + own_index > config.segment_index_bytes
                or self.segments[self.segments.index(segment) + 1].base_offset - group[0].base_offset
                > MAX_RELATIVE_OFFSET
            ):
                yield group
                group, size, index = [], 0, 0
            group.append(segment)
            size += segment.size
            index += own_index
        if group:
            yield group

    def index_bytes(self, segment: Segment) -> int:
        """Size of the larger of a closed segment's two indexes."""
        files = self.segments.files
        paths = (segment.stem + INDEX_SUFFIX, segment.stem + TIME_INDEX_SUFFIX)
        return max(files.size(path) if files.exists(path) else 0 for path in paths)

    def clean_group(self, group: list[Segment]) -> Stepwise[None]:
        files = self.segments.files
        first = group[0]
        copy = Segment(first.stem, first.base_offset, 0, created_ms=group[-1].created_ms, jitter_ms=first.jitter_ms)
        copy.begin_empty()
        copy.offsets.path += CLEANED_SUFFIX
        copy.times.path += CLEANED_SUFFIX
        path = copy.path + CLEANED_SUFFIX
        self.remove_copy(first.stem, CLEANED_SUFFIX)
        file = files.open(path, create=True)
        try:
            waiting: list[bytes | bytearray | memoryview] = []
            size = 0
            for segment in group:
                for _, header, batch in self.batches(segment):
                    kept = yield from self.filter(header, batch)
                    self.check_unchanged()
                    if kept is not None:
                        new = BatchHeader(*HEADER.unpack_from(kept))
                        copy.note(
                            new.last_offset, new.latest_timestamp, len(kept), self.segments.config.index_interval_bytes
                        )
                        waiting.append(kept)
                        size += len(kept)
                    if size >= _WRITE_BYTES:
                        file.append(waiting)
                        waiting, size = [], 0
                    if self.count.due(header.size, _BATCH_RECORDS):
                        yield None
            if waiting:
                file.append(waiting)
            copy.finish(files)
            for segment in group:
                for entry in read_aborted(files, segment.stem) if segment.aborted else ():
                    entry.append_to(files, copy.stem + TRANSACTION_INDEX_SUFFIX + CLEANED_SUFFIX)
                    copy.aborted = True
            yield Room(0, file.sync)
            self.check_unchanged()
        except BaseException:
            file.close()
            self.remove_copy(first.stem, CLEANED_SUFFIX)
            raise
        file.close()
        self.swap(group, copy)

    def remove_copy(self, stem: str, suffix: str) -> None:
        for part in (LOG_SUFFIX, *INDEX_SUFFIXES):
            self.segments.files.remove(stem + part + suffix)

    def swap(self, group: list[Segment], copy: Segment) -> None:
        """Put the copy in the place of its sources; runs without a pause."""
        segments, files = self.segments, self.segments.files
        names = [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX]
        if copy.aborted:
            names.append(TRANSACTION_INDEX_SUFFIX)
        for name in reversed(names):  # the .log last: a .swap of it says that the copy is complete
            files.rename(copy.stem + name + CLEANED_SUFFIX, copy.stem + name + SWAP_SUFFIX)
        files.sync_directory(segments.directory)
        for segment in group:
            segments.set_aside(segment)
        for name in names:
            files.rename(copy.stem + name + SWAP_SUFFIX, copy.stem + name)
        copy.offsets.path = copy.offsets.path.removesuffix(CLEANED_SUFFIX)
        copy.times.path = copy.times.path.removesuffix(CLEANED_SUFFIX)
        segments.replace(group, copy)
        files.sync_directory(segments.directory)

    def filter(self, header: BatchHeader, batch: memoryview) -> Stepwise[bytes | bytearray | memoryview | None]:
        """The batch as it goes into the copy; None when nothing of it is needed."""
        expired = header.has_delete_horizon and header.base_timestamp <= self.now_ms
        try:
            if header.is_control:
                return self.filter_marker(header, batch, expired)
            if header.is_transactional and header.record_count:
                self.open_transactions.add(header.producer_id)
            if header.base_offset in self.unreadable:
                return batch
            return (yield from self.filter_records(header, batch, expired))
        except CorruptRecordError as error:
            self.note_unreadable(header, error)
            return batch

    def filter_records(
        self, header: BatchHeader, batch: memoryview, expired: bool
    ) -> Stepwise[bytes | bytearray | memoryview | None]:
        """The same for records, in two passes: what is needed, then its copy, unless it is all or nothing."""
        found = _Needed()
        if not self.is_aborted(header):

            def look(_: bytes, rows: list[Row]) -> bool:
                for row in rows:
                    if self.is_needed(row, header.base_offset, expired):
                        found.add(row)
                return True

            yield from each_record(header, batch, look, self.count)
        if not found.records:
            return rebuild(header, b"", 0, header.max_timestamp, None) if self.is_last_of_producer(header) else None
        horizon = None
        if found.tombstones and not header.has_delete_horizon:
            horizon = self.now_ms + self.segments.config.delete_retention_ms
        if found.records == header.record_count and horizon is None:
            return batch
        shift = 0 if horizon is None else header.base_timestamp - horizon
        output = Compressor(header.compression)

        def copy(data: bytes, rows: list[Row]) -> bool:
            part = bytearray()
            for row in rows:
                if self.is_needed(row, header.base_offset, expired):
                    copy_row(part, data, row, shift)
            output.add(part)
            return True

        yield from each_record(header, batch, copy, self.count)
        latest = header.base_timestamp + found.latest
        return rebuild(header, output.finish(), found.records, latest, horizon)

    def is_needed(self, row: Row, base_offset: int, expired: bool) -> bool:
        offset = base_offset + row.offset_delta
        if offset >= self.map.end_offset:
            return True
        if row.key is None or offset < self.map.get(row.key):
            return False
        return row.has_value or not expired

    def filter_marker(
        self, header: BatchHeader, batch: memoryview, expired: bool
    ) -> bytes | bytearray | memoryview | None:
        """A marker is needed while records of its transaction are there, and delete.retention.ms longer."""
        if header.producer_id < 0 or header.record_count == 0:
            keep = header.producer_id < 0 or self.is_last_of_producer(header)
            return batch if keep else None
        if header.producer_id in self.open_transactions:
            self.open_transactions.discard(header.producer_id)
            return batch
        if not header.has_delete_horizon:
            return self.with_horizon(header, batch)
        if not expired:
            return batch
        return rebuild(header, b"", 0, header.max_timestamp, None) if self.is_last_of_producer(header) else None

    def with_horizon(self, header: BatchHeader, batch: memoryview) -> bytearray:
        """A marker, which is one small record, with the time when it may go."""
        horizon = self.now_ms + self.segments.config.delete_retention_ms
        payload = bytearray()
        latest = -1
        for record in decode_records(batch):
            delta = record.offset - header.base_offset
            encode_record(payload, record.timestamp - horizon, delta, record.key, record.value, record.headers)
            latest = max(latest, record.timestamp)
        return rebuild(header, bytes(payload), header.record_count, latest, horizon)

    def is_last_of_producer(self, header: BatchHeader) -> bool:
        entry = self.segments.producers.producers.get(header.producer_id)
        if entry is None:
            return False
        if entry.batches:
            return entry.last_offset == header.last_offset
        return header.is_control and entry.epoch == header.producer_epoch


class _Needed:
    """What is known of the records of a batch that stay."""

    __slots__ = ("latest", "records", "tombstones")

    def __init__(self) -> None:
        self.records = 0
        self.tombstones = 0
        self.latest = 0
        """The largest timestamp delta."""

    def add(self, row: Row) -> None:
        if not self.records or row.timestamp_delta > self.latest:
            self.latest = row.timestamp_delta
        self.records += 1
        self.tombstones += not row.has_value


def rebuild(header: BatchHeader, body: bytes, count: int, latest: int, horizon: int | None) -> bytearray:
    """The batch with only these `count` records, compressed as its header says; its offsets, producer and codec stay.
    Without records it is header only."""
    attributes = header.attributes if horizon is None else header.attributes | DELETE_HORIZON_FLAG
    if not count:
        attributes &= ~COMPRESSION_MASK  # nothing to compress
    return frame_batch(
        body,
        base_offset=header.base_offset,
        leader_epoch=header.partition_leader_epoch,
        attributes=attributes,
        last_offset_delta=header.last_offset_delta,
        base_timestamp=header.base_timestamp if horizon is None else horizon,
        max_timestamp=header.max_timestamp if header.is_log_append_time else latest,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        record_count=count,
    )
