"""One partition's log: appends, reads and everything that moves its ends.

All methods run on the event loop, apart from `sync`, which may run in another thread, and `open`, which runs before
anybody else knows the log.

Appends of one loop turn gather in memory and go to the file with one call, `flush_appends`. Nothing that was appended
counts before that call has returned: when the disk refuses, it raises, and the log is as if none of it had ever been
appended, so that the next append gets the same offsets.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import google_crc32c

from broadsheet_broker.log import durability, lookup, reading, retention, truncation
from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import FULL_DISK, NO_DESCRIPTORS, PASSING, StorageError
from broadsheet_broker.log.leader_epochs import LeaderEpochs
from broadsheet_broker.log.producer_state import CompletedTransaction, ProducerEntry, ProducerState, read_marker
from broadsheet_broker.log.results import AppendInfo as AppendInfo
from broadsheet_broker.log.results import Fetched as Fetched
from broadsheet_broker.log.segment import MAX_RELATIVE_OFFSET, TRANSACTION_INDEX_SUFFIX, Segment, stem_of
from broadsheet_broker.log.transaction_index import AbortedTransaction
from broadsheet_broker.log.validation import parse_header, refuse_client_batch, transform_batch
from broadsheet_broker.seams import Buffer, Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import (
    CONTROL_FLAG,
    HEADER,
    HEADER_BYTES,
    LOG_APPEND_TIME_FLAG,
    LOG_OVERHEAD_BYTES,
    MAGIC,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    CorruptRecordError,
    advance_sequence,
    crc32c,
)

if TYPE_CHECKING:
    from broadsheet_broker.log.file_pool import FilePool
    from broadsheet_broker.log.lookup import TimestampOffset

CLIENT = "client"
"""Origin of an append: a producer. Everything is checked."""
COORDINATOR = "coordinator"
"""A coordinator of this broker: offsets, groups, markers. No sequence numbers."""
RAFT = "raft"
"""The metadata log's leader."""

_OFFSET = struct.Struct(">q")
_EPOCH = struct.Struct(">i")
_SMALL_CRC_BYTES = 256 * 1024


class Log:
    """Use `recovery.open_log` (or `Log.open`) to make one."""

    __slots__ = (
        "_active",
        "_bases",
        "_completed",
        "_config",
        "_directory_dirty",
        "_end",
        "_failed",
        "_generation",
        "_hints",
        "_jitter",
        "_mark",
        "_pending",
        "_pool",
        "directory",
        "environment",
        "epochs",
        "files",
        "leader_epoch_stored",
        "log_start_offset",
        "offline",
        "on_failure",
        "on_full_disk",
        "partition",
        "producers",
        "recovery_point",
        "segments",
        "snapshots",
        "topic",
        "topic_id",
        "trash",
    )

    def __init__(
        self,
        environment: Environment,
        directory: str,
        topic: str,
        partition: int,
        *,
        config: LogConfig,
        topic_id: uuid.UUID | None,
        segments: list[Segment],
        log_start_offset: int,
        log_end_offset: int,
        recovery_point: int,
        epochs: LeaderEpochs,
        producers: ProducerState,
        snapshots: list[int],
        pool: FilePool,
    ) -> None:
        self.environment = environment
        self.files = environment.files
        self.directory = directory
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id
        self._config = config
        self.segments = segments
        """Ascending; the last one takes the appends."""
        self._bases = [segment.base_offset for segment in segments]
        self._active = segments[-1]
        self.log_start_offset = log_start_offset
        self._end = log_end_offset
        self.recovery_point = recovery_point
        """Everything below survives a loss of power."""
        self.epochs = epochs
        self.producers = producers
        self.snapshots = snapshots
        """Offsets of the producer snapshots on disk, ascending."""
        self.trash: list[str] = []
        """Files renamed to `.deleted`, for `purge`."""
        self.offline: StorageError | None = None
        """Why nothing can be appended or read any more."""
        self.on_failure: Callable[[Log, StorageError], None] | None = None
        self.on_full_disk: Callable[[], None] | None = None
        """Called when a write was refused for want of space; maybe in a worker thread."""
        """Told of write failures other than a full disk: the directory may be lost."""
        self._pool = pool
        self._pending: list[Buffer] = []
        self._mark: tuple[int, tuple[object, ...]] | None = None
        self._failed: StorageError | None = None
        self._completed: list[CompletedTransaction] = []
        self._hints: dict[int, tuple[Segment, int]] = {}
        self._generation = 0
        self._directory_dirty = False

    @classmethod
    def open(
        cls,
        environment: Environment,
        directory: str,
        *,
        config: LogConfig,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        clean_shutdown: bool = False,
        topic_id: uuid.UUID | None = None,
        pool: FilePool | None = None,
    ) -> Log:
        """Open or create the log of a directory named `<topic>-<partition>`; recovers it unless it was stopped cleanly.

        Raises CorruptLogError when acknowledged data cannot be read back, StorageError for a failing file system.
        """
        from broadsheet_broker.log.recovery import open_log

        return open_log(
            environment,
            directory,
            config=config,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            clean_shutdown=clean_shutdown,
            topic_id=topic_id,
            pool=pool,
        )

    def __repr__(self) -> str:
        return f"<Log {self.topic}-{self.partition} {self.log_start_offset}..{self._end}>"

    # Plain questions.

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record gets. Includes what is appended but not flushed."""
        return self._end

    @property
    def written_end_offset(self) -> int:
        """The log's end without what is appended but not flushed. Any thread."""
        return self.producers.written_end_offset

    @property
    def size(self) -> int:
        """Bytes in the segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def config(self) -> LogConfig:
        return self._config

    def reconfigure(self, config: LogConfig) -> None:
        self._config = config

    @property
    def latest_epoch(self) -> int:
        """Leader epoch of the last batch; -1 when there is none."""
        return self.epochs.latest

    def epoch_of(self, offset: int) -> int:
        return self.epochs.epoch_of(offset)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset) as OffsetForLeaderEpoch answers; (-1, -1) when the epoch is unknown."""
        return self.epochs.end_offset_of(epoch, self._end)

    # Appending.

    def append_as_leader(
        self, records: memoryview | bytes | bytearray, leader_epoch: int, now_ms: int, *, origin: str = CLIENT
    ) -> AppendInfo:
        """Give the batch (a client sends exactly one) its offsets and queue it; `flush_appends` writes it.

        The bytes must stay as they are until then. A writable view is changed in place.
        """
        if self.offline is not None:
            raise self.offline
        view = records if type(records) is memoryview else memoryview(records)
        client = origin == CLIENT
        size = len(view)
        if size < HEADER_BYTES:
            raise CorruptRecordError(f"{size} bytes are too few for a record batch")
        row = HEADER.unpack_from(view)
        if row[1] + LOG_OVERHEAD_BYTES == size:
            return self._append_batch(view, row, leader_epoch, now_ms, client)
        if client:
            if row[3] == MAGIC and LOG_OVERHEAD_BYTES + row[1] < size and row[1] >= HEADER_BYTES - LOG_OVERHEAD_BYTES:
                raise KafkaError(ErrorCode.INVALID_RECORD, "a produce request carries one record batch per partition")
            raise CorruptRecordError(f"record batch with a length of {row[1]} bytes in {size} bytes")
        return self._append_several(view, leader_epoch, now_ms)

    def _append_several(self, view: memoryview, leader_epoch: int, now_ms: int) -> AppendInfo:
        first, last, position, latest = self._end, self._end - 1, 0, -1
        while position < len(view):
            header = parse_header(view, position)
            if not 0 < header.size <= len(view) - position:
                raise CorruptRecordError(f"record batch with a length of {header.batch_length} bytes")
            part = view[position : position + header.size]
            info = self._append_batch(part, HEADER.unpack_from(part), leader_epoch, now_ms, False)
            last, latest = info.last_offset, max(latest, info.max_timestamp)
            position += header.size
        return AppendInfo(first, last, now_ms if self._config.log_append_time else -1, latest, len(view))

    def _append_batch(
        self, view: memoryview, row: tuple[int, ...], leader_epoch: int, now_ms: int, client: bool
    ) -> AppendInfo:
        (base, _, _, magic, crc, attributes, delta, _, max_timestamp, producer_id, epoch, sequence, count) = row
        size = len(view)
        config = self._config
        if magic != MAGIC:
            raise CorruptRecordError(f"record batch with magic {magic}; only magic {MAGIC} is supported")
        if size > config.max_message_bytes:
            raise _too_large(size, config)
        if size <= _SMALL_CRC_BYTES:
            real_crc = google_crc32c.value(bytes(view[21:]))
        else:
            real_crc = crc32c(view[21:])
        if real_crc != crc:
            raise CorruptRecordError(f"record batch with the CRC {crc:#010x} whose bytes have {real_crc:#010x}")
        if count != delta + 1 or count <= 0:
            raise KafkaError(
                ErrorCode.INVALID_RECORD, f"record batch of {count} records with last offset delta {delta}"
            )
        if client and (
            base != 0
            or attributes & (CONTROL_FLAG | LOG_APPEND_TIME_FLAG)
            or (producer_id >= 0 and sequence < 0)
            or not now_ms - config.timestamp_before_max_ms <= max_timestamp <= now_ms + config.timestamp_after_max_ms
        ):
            refuse_client_batch(BatchHeader(*row), config, now_ms)
        last_sequence = -1
        if producer_id >= 0 and not attributes & CONTROL_FLAG:
            last_sequence = (sequence + delta) & 0x7FFFFFFF if sequence >= 0 else -1
            producers = self.producers
            if client:
                known = producers.find_duplicate(producer_id, epoch, sequence, last_sequence)
                if known is not None:
                    return AppendInfo(known[2], known[3], -1, known[4], size, True)
            producers.check(producer_id, epoch, sequence, sequences=client)
            producers.check_transaction(producer_id, transactional=attributes & TRANSACTIONAL_FLAG != 0)
        append_time = -1
        if config.log_append_time or config.compacts or config.compression not in (-1, attributes & 7):
            view = memoryview(transform_batch(BatchHeader(*row), view, config, now_ms, client=client))
            size = len(view)
            if size > config.max_message_bytes:
                raise _too_large(size, config)
            if config.log_append_time:
                append_time = max_timestamp = now_ms
        if size > config.segment_bytes:
            raise KafkaError(
                ErrorCode.RECORD_LIST_TOO_LARGE,
                f"record batch of {size} bytes, more than segment.bytes={config.segment_bytes}",
            )
        offset = self._end
        last_offset = offset + delta
        active = self._active
        if (
            active.size + size > config.segment_bytes
            or last_offset - active.base_offset > MAX_RELATIVE_OFFSET
            or self._roll_due(max_timestamp, now_ms)
        ):
            self.roll(now_ms)
            active = self._active
        if self._mark is None:
            self._mark = (offset, active.mark())
        if view.readonly:
            head = bytearray(view[:16])
            _OFFSET.pack_into(head, 0, offset)
            _EPOCH.pack_into(head, 12, leader_epoch)
            self._pending.append(head)
            self._pending.append(view[16:])
        else:
            _OFFSET.pack_into(view, 0, offset)
            _EPOCH.pack_into(view, 12, leader_epoch)
            self._pending.append(view)
        active.note(last_offset, max_timestamp, size, config.index_interval_bytes)
        self._end = last_offset + 1
        if leader_epoch != self.epochs.latest:
            self.epochs.assign(leader_epoch, offset)
        if producer_id >= 0:
            self._note_producer(view, attributes, producer_id, epoch, sequence, last_sequence, offset, max_timestamp)
        return AppendInfo(offset, last_offset, append_time, max_timestamp, size)

    def _note_producer(
        self,
        batch: memoryview,
        attributes: int,
        producer_id: int,
        epoch: int,
        sequence: int,
        last_sequence: int,
        first_offset: int,
        timestamp: int,
    ) -> None:
        """Advance the producer's state by a batch that ends at the log's end."""
        if attributes & CONTROL_FLAG:
            marker = read_marker(batch)
            if marker is not None:
                completed = self.producers.apply_marker(producer_id, epoch, *marker, first_offset, timestamp)
                if completed is not None:
                    self._completed.append(completed)
        else:
            transactional = attributes & TRANSACTIONAL_FLAG != 0
            self.producers.apply(
                producer_id, epoch, sequence, last_sequence, first_offset, self._end - 1, timestamp, transactional
            )

    def append_as_follower(self, records: memoryview | bytes | bytearray) -> AppendInfo:
        """Append batches fetched from the leader as they are; an incomplete last batch is left out."""
        if self.offline is not None:
            raise self.offline
        view = records if type(records) is memoryview else memoryview(records)
        config = self._config
        first, latest, position, total = -1, -1, 0, len(view)
        now_ms = self.environment.clock.time_ms()
        while total - position >= HEADER_BYTES:
            header = BatchHeader(*HEADER.unpack_from(view, position))
            size = header.batch_length + LOG_OVERHEAD_BYTES
            if size > total - position:
                break
            part = view[position : position + size]
            if header.magic != MAGIC or size < HEADER_BYTES or header.last_offset_delta < 0:
                raise CorruptRecordError(f"what the leader sent at byte {position} is no record batch: {header!r}")
            if crc32c(part[21:]) != header.crc:
                raise CorruptRecordError(f"batch at offset {header.base_offset} from the leader has a wrong CRC")
            if header.base_offset < self._end:
                raise KafkaError(
                    ErrorCode.OFFSET_OUT_OF_RANGE,
                    f"batch at offset {header.base_offset} from the leader, where {self._end} or more is expected",
                )
            active = self._active
            if (
                active.size + size > config.segment_bytes
                or header.last_offset - active.base_offset > MAX_RELATIVE_OFFSET
                or self._roll_due(header.max_timestamp, now_ms)
            ):
                self.roll(now_ms, header.base_offset)
                active = self._active
            if self._mark is None:
                self._mark = (self._end, active.mark())
            self._pending.append(part)
            active.note(header.last_offset, header.max_timestamp, size, config.index_interval_bytes)
            self._end = header.last_offset + 1
            self.epochs.assign(header.partition_leader_epoch, header.base_offset)
            if header.producer_id >= 0:
                last_sequence = (
                    advance_sequence(header.base_sequence, header.last_offset_delta)
                    if header.base_sequence >= 0
                    else -1
                )
                self._note_producer(
                    part,
                    header.attributes,
                    header.producer_id,
                    header.producer_epoch,
                    header.base_sequence,
                    last_sequence,
                    header.base_offset,
                    header.max_timestamp,
                )
            first = header.base_offset if first < 0 else first
            latest = max(latest, header.max_timestamp)
            position += size
        return AppendInfo(first, self._end - 1, -1, latest, position)

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def flush_appends(self) -> None:
        """Write what was appended since the last call.

        Raises StorageError when the disk refuses: then no batch since the last successful call exists, and whoever
        appended any of them must hear of it. A full disk leaves the log usable; other failures are also told to
        `on_failure`.
        """
        if self._pending and self._failed is None:
            self._write_pending()
        if self._failed is not None:
            failure, self._failed = self._failed, None
            self._forget_pending()  # batches queued behind a failure that a read ran into
            raise failure

    def _write_pending(self) -> None:
        """Write the queued batches; a failure is kept in `_failed` for the one who appended."""
        if self.offline is not None:  # deleted since: another log may have this path by now
            self._forget_pending()
            self._failed = self.offline
            return
        active = self._active
        try:
            self._pool.file(active).append(self._pending)
        except OSError as error:
            self._forget_pending()
            self._failed = self._failure(active.path, error)
            return
        self._pending = []
        self._mark = None
        self.producers.end_offset = self._end
        self.producers.commit()
        if self._completed:
            self._write_aborted()
        if active.offsets.wants_flush or active.times.wants_flush:
            self._flush_indexes(active)
        if self._failed is None and self._end - self.recovery_point >= self._config.flush_messages:
            try:
                self.sync()
            except StorageError as error:
                self._failed = error

    def _forget_pending(self) -> None:
        if self._mark is None:
            return
        self._end, mark = self._mark
        self._active.reset_to(mark)
        self._mark = None
        self._pending = []
        self._completed = []
        self.producers.rollback()
        self.epochs.truncate_from_end(self._end)

    def _failure(self, path: str, error: OSError) -> StorageError:
        passing = error.errno in PASSING
        what = "the directory may be lost"
        if passing:
            what = "the disk is full, free space and producing goes on"
            if error.errno in NO_DESCRIPTORS:
                what = "too many files and connections are open, see `ulimit -n`"
        failure = StorageError(f"{path}: {error.strerror or error}: {what}", error)
        if error.errno in FULL_DISK and self.on_full_disk is not None:
            self.on_full_disk()
        if not passing and self.on_failure is not None:
            self.on_failure(self, failure)
        return failure

    def _flush_indexes(self, segment: Segment) -> None:
        """A full disk is no failure here: the entries stay in memory and are tried again."""
        try:
            segment.offsets.flush(self.files)
            segment.times.flush(self.files)
        except OSError:
            return

    def _write_aborted(self) -> None:
        """Without its entry an aborted transaction would be read as committed: then rather nothing is read at all."""
        completed, self._completed = self._completed, []
        index = self._active.stem + TRANSACTION_INDEX_SUFFIX
        try:
            for transaction in completed:
                if transaction.aborted:
                    AbortedTransaction.of(transaction).append_to(self.files, index)
                    self._active.aborted = True
        except OSError as error:
            self._failed = self.offline = self._failure(index, error)

    # Rolling.

    def _roll_due(self, max_timestamp: int, now_ms: int) -> bool:
        """Whether the active segment is too old (by record time, once it has records) or its indexes are full."""
        active = self._active
        if not active.size:
            return False
        first = active.first_timestamp
        if first is None:
            first = active.load_first_timestamp(self._pool.file(active))
        waited = max_timestamp - first if first >= 0 and max_timestamp >= 0 else now_ms - active.created_ms
        config = self._config
        return waited > config.segment_ms - active.jitter_ms or active.index_is_full(config.segment_index_bytes)

    def roll_if_needed(self, now_ms: int) -> bool:
        """Roll when the active segment is older than segment.ms by the wall clock; for a timer."""
        active = self._active
        if not active.size or self.offline is not None:
            return False
        if now_ms - active.created_ms > self._config.segment_ms - active.jitter_ms:
            self.roll(now_ms)
            return True
        return False

    def roll(self, now_ms: int, base_offset: int | None = None) -> None:
        """Begin a new segment at the log's end. Raises StorageError, with nothing changed, when the disk refuses."""
        self._write_pending_or_raise()
        base = self._end if base_offset is None else max(base_offset, self._end)
        old = self._active
        if not old.size and old.base_offset == base:
            return
        segment = self.new_segment(base, now_ms)
        try:
            self._pool.file(segment, create=True)
            self.write_snapshot()
            old.finish(self.files)
        except OSError as error:
            self._pool.close(segment)
            self._discard(segment.path)
            raise self._failure(segment.path, error) from error
        self.segments.append(segment)
        self._bases.append(base)
        self._active = segment
        self._end = base
        self.producers.end_offset = base
        self._directory_dirty = True

    def new_segment(self, base_offset: int, now_ms: int) -> Segment:
        config = self._config
        jitter = min(config.segment_jitter_ms, config.segment_ms)
        segment = Segment(
            stem_of(self.directory, base_offset),
            base_offset,
            0,
            created_ms=now_ms,
            jitter_ms=self.environment.random.randrange(jitter) if jitter > 0 else 0,
        )
        segment.begin_empty()
        return segment

    def _write_pending_or_raise(self) -> None:
        """For what must not go on after a failed write, which stays noted for the one who appended."""
        if self._pending and self._failed is None:
            self._write_pending()
        if self._failed is not None:
            raise self._failed

    def _discard(self, path: str) -> None:
        try:
            self.files.remove(path)
        except OSError:
            return

    def write_snapshot(self) -> None:
        """Write the producers' state as of the log's end, unless there is nothing new to tell."""
        offset = self._end
        if (self.snapshots and self.snapshots[-1] >= offset) or offset <= self.log_start_offset:
            return
        path = f"{self.directory}/{offset:020d}.snapshot"
        file = self.files.open(path, create=True)
        try:
            file.truncate(0)
            file.append([self.producers.to_snapshot()])
        finally:
            file.close()
        self.snapshots.append(offset)

    # Reading.

    def read(self, offset: int, max_bytes: int, *, limit_offset: int | None = None, min_one: bool = True) -> Fetched:
        """Whole batches from the one that holds `offset`, up to `max_bytes`, below `limit_offset`.

        With `min_one`, the first batch comes even if it is larger than `max_bytes`. Stops at the end of a segment.
        """
        if offset > self._end or offset < self.log_start_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} of {self.topic}-{self.partition}, which has {self.log_start_offset} to {self._end}",
            )
        self.flush_for_read()
        limit = self._end if limit_offset is None else min(limit_offset, self._end)
        if offset >= limit:
            return Fetched(b"", offset)
        try:
            return reading.read_batches(self, offset, max(max_bytes, 0), limit, min_one)
        except OSError as error:
            raise self._failure(self.directory, error) from error

    def flush_for_read(self) -> None:
        """Put what is queued where readers find it; a failure is kept for the one who appended it."""
        if self.offline is not None:
            raise self.offline
        if self._pending and self._failed is None:
            self._write_pending()

    def offset_for_timestamp(self, timestamp: int) -> TimestampOffset | None:
        """The first record with that timestamp (ms) or a later one: (timestamp, offset, leader epoch)."""
        return lookup.offset_for_timestamp(self, timestamp)

    def max_timestamp(self) -> TimestampOffset | None:
        """The record with the largest timestamp."""
        return lookup.max_timestamp(self)

    def aborted_transactions(self, first_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """Aborted transactions that have records in [first, end)."""
        return lookup.aborted_transactions(self, first_offset, end_offset)

    def last_stable_offset(self, high_watermark: int) -> int:
        """Up to where read_committed consumers may read: below it every transaction is decided and replicated."""
        self.producers.on_high_watermark(high_watermark)
        unstable = self.producers.first_unstable_offset()
        return high_watermark if unstable is None else min(unstable, high_watermark)

    def active_producers(self) -> list[ProducerEntry]:
        """What is known of each producer (DescribeProducers)."""
        return list(self.producers.producers.values())

    # Moving the ends.

    def truncate_to(self, offset: int) -> bool:
        """Take away every batch with `offset` or a later one; True when there was any."""
        return truncation.truncate_to(self, offset)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        truncation.truncate_fully_and_start_at(self, offset)

    def advance_log_start_offset(self, offset: int, high_watermark: int) -> bool:
        """DeleteRecords. Raises OFFSET_OUT_OF_RANGE above the high watermark; True when the start moved."""
        return retention.advance_log_start_offset(self, offset, high_watermark)

    def delete_old_segments(self, now_ms: int, high_watermark: int) -> int:
        """Retention by time, size and log start offset; returns how many segments went."""
        return retention.delete_old_segments(self, now_ms, high_watermark)

    def purge(self) -> None:
        """Remove files of deleted segments. Any thread."""
        retention.purge(self)

    def refresh(self) -> None:
        """The list of segments changed."""
        self._bases = [segment.base_offset for segment in self.segments]
        self._active = self.segments[-1]
        self._hints.clear()

    def become(self, end_offset: int) -> None:
        """Segments and end were changed by truncation."""
        self._generation += 1  # first, so that a sync under way finds out in any case
        self._end = end_offset
        self.recovery_point = min(self.recovery_point, end_offset)
        self.refresh()

    # Durability.

    def sync(self) -> None:
        """Make everything flushed so far survive a loss of power, and advance the recovery point. Any thread."""
        durability.sync_log(self)

    def close(self) -> None:
        """Write everything out for a clean stop; afterwards the log can be opened with `clean_shutdown`."""
        durability.close_log(self)

    def close_files(self) -> None:
        """Let go of descriptors, writing nothing (a deleted or offline log)."""
        for segment in self.segments:
            self._pool.close(segment)


def _too_large(size: int, config: LogConfig) -> KafkaError:
    return KafkaError(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"record batch of {size} bytes, more than max.message.bytes={config.max_message_bytes}",
    )
