"""One partition's log: appends, reads and everything that moves its ends.

All methods run on the event loop, apart from `sync`, which may run in another thread, and `open`, which runs before
the log is shared.

Appends of one loop turn gather in memory and go to the file with one call, `flush_appends`. Nothing that was appended
counts before that call has returned: when the disk refuses, it raises, and the log is as if none of it had ever been
appended, so that the next append gets the same offsets.

`Log` stands above its two parts, `Segments` (what is on disk) and `Tail` (what is not yet); the modules that do the
work take the part that they need.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from broadsheet_broker.log import appending, checkpoints, durability, lookup, reading, retention, rolling, truncation
from broadsheet_broker.log.appending import CLIENT as CLIENT
from broadsheet_broker.log.appending import COORDINATOR as COORDINATOR
from broadsheet_broker.log.appending import RAFT as RAFT
from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.producer_state import PRODUCER_ID_EXPIRATION_MS, ProducerEntry
from broadsheet_broker.log.reading import NEVER_STORED
from broadsheet_broker.log.recovery import open_log
from broadsheet_broker.log.results import AppendInfo as AppendInfo
from broadsheet_broker.log.results import Fetched as Fetched
from broadsheet_broker.log.tail import Tail
from broadsheet_broker.log.transaction_index import AbortedTransaction
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.log.file_pool import FilePool
    from broadsheet_broker.log.lookup import TimestampOffset
    from broadsheet_broker.log.validation import Checked
    from broadsheet_broker.seams.steps import Stepwise


class Log:
    """Use `Log.open` to make one."""

    __slots__ = (
        "directory",
        "environment",
        "epochs",
        "files",
        "partition",
        "producers",
        "segments",
        "tail",
        "topic",
        "topic_id",
    )

    def __init__(self, topic: str, partition: int, topic_id: uuid.UUID | None, tail: Tail) -> None:
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id
        self.tail = tail
        self.segments = segments = tail.segments
        """Ascending; the last one takes the appends."""
        self.environment = segments.environment
        self.files = segments.files
        self.directory = segments.directory
        self.epochs = segments.epochs
        self.producers = segments.producers

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
        opened = open_log(
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
        return cls(*opened)

    def __repr__(self) -> str:
        return f"<Log {self.topic}-{self.partition} {self.log_start_offset}..{self.tail.end}>"

    # Plain questions.

    @property
    def parent(self) -> str:
        """The log directory of the broker that this log's directory is in."""
        return self.segments.parent

    @property
    def log_start_offset(self) -> int:
        """The first offset that readers may ask for."""
        return self.segments.start_offset

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record gets. Includes what is appended but not flushed."""
        return self.tail.end

    @property
    def written_end_offset(self) -> int:
        """The log's end without what is appended but not flushed. Any thread."""
        return self.producers.written_end_offset

    @property
    def recovery_point(self) -> int:
        """Everything below survives a loss of power."""
        return self.segments.recovery_point

    @property
    def offline(self) -> StorageError | None:
        """Why nothing can be appended or read; None while the log is usable."""
        return self.segments.offline

    @property
    def snapshots(self) -> list[int]:
        """Offsets of the producers' snapshots on disk, ascending."""
        return self.segments.snapshots

    @property
    def size(self) -> int:
        """Bytes in the segments."""
        return self.segments.size

    @property
    def config(self) -> LogConfig:
        return self.segments.config

    def reconfigure(self, config: LogConfig) -> None:
        self.segments.reconfigure(config)

    def identify(self, topic_id: uuid.UUID) -> None:
        """Write down which topic this is the log of, where that was not known."""
        checkpoints.write_topic_id(self.files, self.directory, topic_id)
        self.topic_id = topic_id
        self.segments.names_changed()

    @property
    def latest_epoch(self) -> int:
        """Leader epoch of the last batch; -1 when there is none."""
        return self.epochs.latest

    def epoch_of(self, offset: int) -> int:
        return self.epochs.epoch_of(offset)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset) as OffsetForLeaderEpoch answers; (-1, -1) when the epoch is unknown."""
        return self.epochs.end_offset_of(epoch, self.tail.end)

    # Appending.

    def append_as_leader(
        self,
        records: memoryview | bytes | bytearray,
        leader_epoch: int,
        now_ms: int,
        *,
        origin: str = CLIENT,
        checked: Checked | None = None,
    ) -> AppendInfo:
        """Give the batch (a client sends exactly one) its offsets and queue it; `flush_appends` writes it.

        The bytes must stay as they are until then. A writable view is changed in place. `checked`: what the work of
        `checking` returned for these records.
        """
        return appending.append_as_leader(self.tail, records, leader_epoch, now_ms, origin, checked)

    def check_opened(self, records: memoryview, now_ms: int) -> Checked | None:
        """Check a small compressed batch in one short call; None if that is a matter for `checking`."""
        return appending.check_opened(self.segments, records, now_ms)

    def checking(self, records: memoryview, now_ms: int, *, small: bool = False) -> Stepwise[Checked] | None:
        """The work of checking a client's batch in steps; None if `append_as_leader` does it in one short call, unless
        `small`."""
        return appending.checking(self.segments, records, now_ms, small=small)

    def append_as_follower(self, records: memoryview | bytes | bytearray) -> AppendInfo:
        """Append batches fetched from the leader as they are; an incomplete last batch is left out."""
        return appending.append_as_follower(self.tail, records)

    @property
    def has_pending(self) -> bool:
        return bool(self.tail.pending)

    def flush_appends(self) -> None:
        """Write what was appended since the last call.

        Raises StorageError when the disk refuses: then no batch since the last successful call exists, and every
        caller that appended one must be informed. A full disk leaves the log usable; for other failures
        `Segments.on_failure` is called, too.
        """
        self.tail.flush()

    # Rolling.

    def roll_if_needed(self, now_ms: int) -> bool:
        """Roll when the active segment is too old (`LogConfig.max_segment_ms`) by the wall clock; for a timer."""
        return rolling.roll_if_old(self.tail, now_ms)

    def roll(self, now_ms: int) -> None:
        """Begin a new segment at the log's end. Raises StorageError, with nothing changed, when the disk refuses."""
        rolling.roll(self.tail, now_ms)

    # Reading.

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        limit_offset: int | None = None,
        min_one: bool = True,
        stored_from: int = NEVER_STORED,
    ) -> Fetched:
        """Whole batches from the one that holds `offset`, up to `max_bytes`, below `limit_offset`.

        With `min_one`, the first batch comes even if it is larger than `max_bytes`. Stops at the end of a segment. What
        has `stored_from` bytes or more is not read, only found: `Fetched.stored`.
        """
        segments = self.segments
        tail = self.tail
        if offset > tail.end or offset < segments.start_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} of {self.topic}-{self.partition}, which has {segments.start_offset} to {tail.end}",
            )
        tail.flush_for_read()
        limit = tail.end if limit_offset is None else min(limit_offset, tail.end)
        if offset >= limit:
            return Fetched(b"", offset)
        try:
            return reading.read_batches(segments, tail.end, offset, max(max_bytes, 0), limit, min_one, stored_from)
        except OSError as error:
            raise segments.failure(self.directory, error) from error

    def offset_for_timestamp(self, timestamp: int) -> Stepwise[TimestampOffset | None]:
        """Find the first record with that timestamp (ms) or a later one: (timestamp, offset, leader epoch)."""
        self.tail.flush_for_read()
        return lookup.offset_for_timestamp(self.segments, lambda: self.tail.end, timestamp)

    def max_timestamp(self, end_offset: int | None = None) -> Stepwise[TimestampOffset | None]:
        """Find the record with the largest timestamp of those that can be read: below `end_offset`, such as the high
        watermark, and not deleted."""
        self.tail.flush_for_read()
        last = self.tail.end if end_offset is None else end_offset
        return lookup.max_timestamp(self.segments, lambda: self.tail.end, last)

    def aborted_transactions(self, first_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """Aborted transactions that have records in [first, end)."""
        return lookup.aborted_transactions(self.segments, first_offset, end_offset)

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
        return truncation.truncate_to(self.tail, offset)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Take everything away and begin again, empty, at `offset`."""
        truncation.truncate_fully_and_start_at(self.tail, offset)

    def advance_log_start_offset(self, offset: int, high_watermark: int) -> bool:
        """DeleteRecords. Raises OFFSET_OUT_OF_RANGE above the high watermark; True when the start moved."""
        return retention.advance_start(self.tail, offset, high_watermark)

    def delete_old_segments(self, now_ms: int, high_watermark: int) -> int:
        """Retention by time, size and log start offset; returns how many segments went."""
        return retention.delete_old_segments(self.tail, now_ms, high_watermark)

    # Durability.

    def sync(self) -> None:
        """Make everything flushed so far survive a loss of power, and advance the recovery point. Any thread."""
        durability.sync(self.segments)

    def close(self) -> None:
        """Write everything out for a clean stop; afterwards the log can be opened with `clean_shutdown`."""
        if self.segments.offline is not None:
            self.segments.close_files()
            return
        self.tail.flush()
        durability.close(self.segments, self.tail.end)

    def close_files(self) -> None:
        """Let go of descriptors, writing nothing (a deleted or offline log)."""
        self.segments.close_files()
