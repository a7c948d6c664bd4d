"""One partition's log: appends, reads and everything that moves its ends.

All methods run on the event loop, apart from `sync`, which may run in another thread, and `open`, which runs before
anybody else knows the log.

Appends of one loop turn gather in memory and go to the file with one call, `flush_appends`. Nothing that was appended
counts before that call has returned: when the disk refuses, it raises, and the log is as if none of it had ever been
appended, so that the next append gets the same offsets.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from broadsheet_broker.log import appending, durability, lookup, reading, retention, rolling, truncation, writing
from broadsheet_broker.log.appending import CLIENT as CLIENT
from broadsheet_broker.log.appending import COORDINATOR as COORDINATOR
from broadsheet_broker.log.appending import RAFT as RAFT
from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.leader_epochs import LeaderEpochs
from broadsheet_broker.log.producer_state import (
    PRODUCER_ID_EXPIRATION_MS,
    CompletedTransaction,
    ProducerEntry,
    ProducerState,
)
from broadsheet_broker.log.results import AppendInfo as AppendInfo
from broadsheet_broker.log.results import Fetched as Fetched
from broadsheet_broker.log.segment import Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction
from broadsheet_broker.seams import Buffer, Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.log.file_pool import FilePool
    from broadsheet_broker.log.lookup import TimestampOffset


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
        "synced_ms",
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
        self.synced_ms = environment.clock.time_ms()
        """When it was last made so."""
        self.epochs = epochs
        self.producers = producers
        self.snapshots = snapshots
        """Offsets of the producer snapshots on disk, ascending."""
        self.trash: list[str] = []
        """Files renamed to `.deleted`, for `purge`."""
        self.offline: StorageError | None = None
        """Why nothing can be appended or read any more."""
        self.on_failure: Callable[[Log, StorageError], None] | None = None
        """Called with write failures other than a full disk: the directory may be lost. May be in a worker thread."""
        self.on_full_disk: Callable[[], None] | None = None
        """Called when a write was refused because the disk is full. May be in a worker thread."""
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
        producer_id_expiration_ms: int = PRODUCER_ID_EXPIRATION_MS,
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
            producer_id_expiration_ms=producer_id_expiration_ms,
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
        return appending.append_as_leader(self, records, leader_epoch, now_ms, origin)

    def append_as_follower(self, records: memoryview | bytes | bytearray) -> AppendInfo:
        """Append batches fetched from the leader as they are; an incomplete last batch is left out."""
        return appending.append_as_follower(self, records)

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def flush_appends(self) -> None:
        """Write what was appended since the last call.

        Raises StorageError when the disk refuses: then no batch since the last successful call exists, and whoever
        appended any of them must hear of it. A full disk leaves the log usable; other failures are also told to
        `on_failure`.
        """
        writing.flush_appends(self)

    # Rolling.

    def roll_if_needed(self, now_ms: int) -> bool:
        """Roll when the active segment is too old (`LogConfig.max_segment_ms`) by the wall clock; for a timer."""
        return rolling.roll_if_needed(self, now_ms)

    def roll(self, now_ms: int, base_offset: int | None = None) -> None:
        """Begin a new segment at the log's end. Raises StorageError, with nothing changed, when the disk refuses."""
        rolling.roll(self, now_ms, base_offset)

    def new_segment(self, base_offset: int, now_ms: int) -> Segment:
        return rolling.new_segment(self, base_offset, now_ms)

    def write_snapshot(self) -> None:
        """Write the producers' state as of the log's end, unless there is nothing new to tell."""
        rolling.write_snapshot(self)

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
            raise writing.failure_of(self, self.directory, error) from error

    def flush_for_read(self) -> None:
        """Put what is queued where readers find it; a failure is kept for the one who appended it."""
        writing.flush_for_read(self)

    def offset_for_timestamp(self, timestamp: int) -> TimestampOffset | None:
        """The first record with that timestamp (ms) or a later one: (timestamp, offset, leader epoch)."""
        return lookup.offset_for_timestamp(self, timestamp)

    def max_timestamp(self, end_offset: int | None = None) -> TimestampOffset | None:
        """The record with the largest timestamp of those that can be read: below `end_offset`, such as the high
        watermark, and not deleted."""
        return lookup.max_timestamp(self, self._end if end_offset is None else end_offset)

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
