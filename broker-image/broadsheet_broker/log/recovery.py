"""Opening a log: which files belong to it, where it ends, and whether what a crash left behind can be trusted.

After a clean stop the sizes of the files are enough, and the last batches give the last offset. After a
crash every segment above the recovery point is read whole and its indexes, the leader epochs, the producers' state and
the aborted transactions are rebuilt. Where the batches stop being valid, there are two cases:

* **A torn tail**: no valid batch with a later offset follows, in this segment or a later one. It is the write that the
  crash interrupted (a killed process leaves at most its last write half done; a loss of power may also leave pages of
  zeros). The file is cut there. No complete batch is lost.
* **Corruption in the middle**: a whole batch with the right CRC and later offsets follows. What is broken had been
  written before what is whole, so it may have been acknowledged; so may have been what follows. Nothing is changed, and
  the partition stays offline with an error that names file, position and remedy. The same holds when the log ends
  below its recovery point, up to which everything had been made durable.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, NamedTuple

from broadsheet_broker.log import checkpoints, scan
from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import CorruptLogError, StorageError
from broadsheet_broker.log.file_pool import FilePool
from broadsheet_broker.log.leader_epochs import LeaderEpochs
from broadsheet_broker.log.producer_state import PRODUCER_ID_EXPIRATION_MS, ProducerState
from broadsheet_broker.log.replay import rebuild_producers
from broadsheet_broker.log.segment import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    INDEX_SUFFIXES,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
    stem_of,
)
from broadsheet_broker.log.segments import Segments
from broadsheet_broker.log.tail import Tail

if TYPE_CHECKING:
    from broadsheet_broker.seams import Environment


def split_directory_name(name: str) -> tuple[str, int]:
    """`orders-2` -> ("orders", 2); ValueError for anything else."""
    topic, dash, partition = name.rpartition("-")
    if not dash or not topic or not partition.isdigit():
        raise ValueError(f"{name} is not named <topic>-<partition>")
    return topic, int(partition)


def open_log(
    environment: Environment,
    directory: str,
    *,
    config: LogConfig,
    recovery_point: int,
    log_start_offset: int,
    clean_shutdown: bool,
    topic_id: uuid.UUID | None,
    pool: FilePool | None,
    producer_id_expiration_ms: int = PRODUCER_ID_EXPIRATION_MS,
) -> Opened:
    """Open or create the log of a directory named `<topic>-<partition>`; see `Log.open`."""
    opening = _Opening(environment, directory, config, recovery_point, log_start_offset, producer_id_expiration_ms)
    try:
        return opening.open(clean_shutdown, topic_id, pool)
    except BaseException as error:
        for segment in opening.segments:
            segment.close_file()
        if isinstance(error, OSError):
            raise StorageError(f"{directory}: cannot be opened: {error}", error) from error
        raise


class Opened(NamedTuple):
    """What a log is made of."""

    topic: str
    partition: int
    topic_id: uuid.UUID | None
    tail: Tail


class _Opening:
    """The steps of opening one log, in order."""

    def __init__(
        self,
        environment: Environment,
        directory: str,
        config: LogConfig,
        recovery_point: int,
        log_start_offset: int,
        producer_id_expiration_ms: int,
    ) -> None:
        self.producer_id_expiration_ms = producer_id_expiration_ms
        self.environment = environment
        self.files = environment.files
        self.directory = directory
        self.config = config
        self.recovery_point = recovery_point
        self.log_start_offset = log_start_offset
        self.now_ms = environment.clock.time_ms()
        self.segments: list[Segment] = []
        self.snapshots: list[int] = []
        self.epochs = LeaderEpochs([])
        self.epochs_known = True

    def open(self, clean: bool, topic_id: uuid.UUID | None, pool: FilePool | None) -> Opened:
        topic, partition = split_directory_name(self.directory.rsplit("/", 1)[-1])
        files = self.files
        fresh = not files.exists(self.directory)
        if fresh:
            # Never the log directory: one that went away under a running broker would come back without what was in it.
            files.make_directory(self.directory, parents=False)
        names = [] if fresh else self.tidy(files.list(self.directory))
        topic_id = self.identify(names, topic_id)
        self.list_segments(names)
        self.load_epochs(names)
        end = self.clean_end() if clean else self.recover()
        if not fresh:
            self.refuse_short_log(end)
        start = max(self.log_start_offset, self.segments[0].base_offset)
        if start > end:  # DeleteRecords up to an end that a crash took away
            self.restart_at(start)
            end = start
        self.epochs.truncate_from_end(end)
        self.epochs.truncate_from_start(start)
        producers = self.load_producers(start, end, rebuild_from=None if clean else self.recovery_point)
        for segment in self.segments:
            segment.close_file()  # opened again at its first use: a thousand idle partitions hold no descriptor
        segments = Segments(
            self.environment,
            self.directory,
            self.segments,
            config=self.config,
            start_offset=start,
            recovery_point=end if clean else min(self.recovery_point, end),
            epochs=self.epochs,
            producers=producers,
            snapshots=self.snapshots,
            pool=pool or FilePool(files),
            # The process that died may have made files whose names are not durable yet.
            directory_dirty=fresh or not clean,
        )
        return Opened(topic, partition, topic_id, Tail(segments, end))

    # Files.

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def tidy(self, names: list[str]) -> list[str]:
        """Remove what was given up, and finish the swaps of an interrupted compaction; returns the names left.

        `.cleaned` files are an unfinished copy and go, with those `.swap` files that are part of the same copy (a
        later base offset than the first `.cleaned`). A `.swap` segment is complete: it replaces what it was made of.
        """
        cleaned = [_offset_of(name) for name in names if name.endswith(CLEANED_SUFFIX)]
        unfinished = min(cleaned, default=2**63)
        left: list[str] = []
        swaps: list[str] = []
        for name in names:
            if name.endswith((DELETED_SUFFIX, CLEANED_SUFFIX)) or (
                name.endswith(SWAP_SUFFIX) and _offset_of(name) >= unfinished
            ):
                self.files.remove(self.path(name))
            elif name.endswith(SWAP_SUFFIX):
                swaps.append(name)
            else:
                left.append(name)
        return self.finish_swaps(left, swaps) if swaps else left

    def finish_swaps(self, names: list[str], swaps: list[str]) -> list[str]:
        for name in swaps:
            if not name.endswith(LOG_SUFFIX + SWAP_SUFFIX):
                continue
            base = _offset_of(name)
            path = self.path(name)
            last = base
            file = self.files.open(path, read_only=True)
            try:
                for _, header in scan.walk(file, 0, file.size(), base):
                    last = header.last_offset
            except scan.BadBatchError as error:
                raise CorruptLogError(
                    path, error.position, error.reason, "Restore the file from a replica or a backup"
                ) from error
            finally:
                file.close()
            for old in list(names):  # the segments that the copy was made of
                if old.endswith(LOG_SUFFIX) and base <= _offset_of(old) <= last:
                    stem = old.removesuffix(LOG_SUFFIX)
                    for suffix in (LOG_SUFFIX, *INDEX_SUFFIXES):
                        self.files.remove(self.path(stem + suffix))
                        if stem + suffix in names:
                            names.remove(stem + suffix)
        for name in swaps:
            final = name.removesuffix(SWAP_SUFFIX)
            self.files.rename(self.path(name), self.path(final))
            names.append(final)
        return sorted(set(names))

    def identify(self, names: list[str], topic_id: uuid.UUID | None) -> uuid.UUID | None:
        """Read the topic id, or write it when the partition is new."""
        if checkpoints.PARTITION_METADATA in names:
            try:
                found = checkpoints.read_topic_id(self.files, self.directory)
            except checkpoints.CheckpointError as error:
                raise StorageError(
                    f"{error}. Restore the file, or remove it if the directory is of this topic"
                ) from error
            if found is not None:
                if topic_id is not None and found != topic_id:
                    raise StorageError(f"{self.directory}: holds the topic with id {found}, not {topic_id}")
                return found
        if topic_id is not None:
            checkpoints.write_topic_id(self.files, self.directory, topic_id)
        return topic_id

    def list_segments(self, names: list[str]) -> None:
        bases = {_offset_of(name) for name in names if name.endswith(LOG_SUFFIX)}
        for name in names:
            if name.endswith(SNAPSHOT_SUFFIX):
                self.snapshots.append(_offset_of(name))
            elif name.endswith(LOG_SUFFIX):
                base = _offset_of(name)
                path = self.path(name)
                segment = Segment(
                    stem_of(self.directory, base),
                    base,
                    self.files.size(path),
                    created_ms=self.files.modified_ms(path),
                    jitter_ms=self.config.random_jitter_ms(self.environment.random),
                )
                segment.aborted = f"{base:020d}{TRANSACTION_INDEX_SUFFIX}" in names
                self.segments.append(segment)
            elif name.endswith(INDEX_SUFFIXES) and _offset_of(name) not in bases:
                self.files.remove(self.path(name))  # of a segment that is gone
        self.snapshots.sort()
        if not self.segments:
            self.restart_at(self.log_start_offset)

    def restart_at(self, offset: int) -> None:
        """One empty segment at `offset` and nothing else."""
        for segment in self.segments:
            segment.close_file()
            for suffix in (LOG_SUFFIX, *INDEX_SUFFIXES):
                self.files.remove(segment.stem + suffix)
        segment = Segment(
            stem_of(self.directory, offset),
            offset,
            0,
            created_ms=self.now_ms,
            jitter_ms=self.config.random_jitter_ms(self.environment.random),
        )
        segment.begin_empty()
        self.files.open(segment.path, create=True).close()
        self.segments = [segment]

    def load_epochs(self, names: list[str]) -> None:
        if checkpoints.LEADER_EPOCH_CHECKPOINT not in names:
            self.epochs_known = not any(segment.size for segment in self.segments)
            return
        try:
            self.epochs = LeaderEpochs(
                checkpoints.read_epochs(self.files, self.path(checkpoints.LEADER_EPOCH_CHECKPOINT))
            )
        except checkpoints.CheckpointError:
            self.epochs_known = False  # every batch carries its epoch: read them all

    def open_file(self, segment: Segment) -> None:
        if segment.file is None:
            segment.file = self.files.open(segment.path)

    # Ends.

    def clean_end(self) -> int:
        """The log's end after a clean stop, from the batches after the last index entry."""
        if not self.epochs_known:
            self.read_epochs_from_batches()
        self.rebuild_missing_indexes()
        segment = self.segments[-1]
        self.open_file(segment)
        assert segment.file is not None
        segment.load_indexes(self.files, segment.file)
        end = segment.base_offset
        last = segment.offsets.last
        try:
            for _, header in scan.walk(segment.file, last[1] if last else 0, segment.size, segment.base_offset):
                end = header.last_offset + 1
        except scan.BadBatchError:
            return self.recover()  # the marker or the disk is wrong: check everything
        segment.load_max_timestamp(self.files, segment.file)
        return end

    def rebuild_missing_indexes(self) -> None:
        """Here, in a thread, and not at the first look-up: it reads the header of each batch of the segment."""
        for segment in self.segments[:-1]:
            if segment.size and not all(
                self.files.exists(segment.stem + suffix) for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX)
            ):
                self.open_file(segment)
                assert segment.file is not None
                with contextlib.suppress(CorruptLogError):  # who reads there will find it again, and answer it
                    segment.load_indexes(self.files, segment.file)
                segment.close_file()

    def read_epochs_from_batches(self) -> None:
        self.epochs = LeaderEpochs([])
        for segment in self.segments:
            self.open_file(segment)
            assert segment.file is not None
            try:
                for _, header in scan.walk(segment.file, 0, segment.size, segment.base_offset):
                    self.epochs.learn(header.partition_leader_epoch, header.base_offset)
            except scan.BadBatchError:
                return  # recovery will see to it
            if segment is not self.segments[-1]:
                segment.close_file()

    def recover(self) -> int:
        """Check every segment above the recovery point; returns the log's end."""
        if not self.epochs_known:
            self.read_epochs_from_batches()
        end = self.segments[0].base_offset
        for number, segment in enumerate(self.segments):
            end = max(end, segment.base_offset)
            if number + 1 < len(self.segments) and self.segments[number + 1].base_offset <= self.recovery_point:
                continue
            fault = self.recover_segment(segment)
            assert segment.file is not None
            end = max(end, self.recovered_end)
            if fault is not None:
                self.cut(number, fault, end)
                break
            if number + 1 < len(self.segments):
                segment.close_file()
        return end

    def recover_segment(self, segment: Segment) -> scan.BadBatchError | None:
        """Rebuild indexes and epochs from valid batches; returns what stopped that before the end of the file."""
        self.open_file(segment)
        assert segment.file is not None
        size, segment.size = segment.size, 0
        segment.offsets.clear()
        segment.times.clear()
        segment.begin_empty()
        segment.first_timestamp = None
        segment.bytes_since_index = 0
        self.recovered_end = segment.base_offset
        fault = None
        try:
            for _, header in scan.check(segment.file, 0, size, segment.base_offset):
                segment.note(header.last_offset, header.latest_timestamp, header.size, self.config.index_interval_bytes)
                self.epochs.learn(header.partition_leader_epoch, header.base_offset)
                self.recovered_end = header.last_offset + 1
        except scan.BadBatchError as error:
            fault = error.with_traceback(None)
        if segment is self.segments[-1] or fault is not None:
            segment.offsets.flush(self.files)
            segment.times.flush(self.files)
        else:
            segment.finish(self.files)
        return fault

    def cut(self, number: int, fault: scan.BadBatchError, end: int) -> None:
        """Cut a torn tail, or refuse to open because what follows shows that it is none."""
        segment = self.segments[number]
        later = self.segments[number + 1 :]
        file = segment.file
        assert file is not None
        size = file.size()
        after = scan.find_valid_batch(file, fault.position + 1, size, end)
        where = segment.path
        if after is None:
            for other in later:
                self.open_file(other)
                assert other.file is not None
                after = scan.find_valid_batch(other.file, 0, other.size, end)
                where = other.path
                if after is not None:
                    break
        if after is not None:
            raise CorruptLogError(
                segment.path,
                fault.position,
                f"expected the record batch of offset {end}, found {fault.reason}, and valid batches follow "
                f"(at byte {after} of {where}), so this is not an interrupted write but damage to acknowledged records",
                "Nothing was changed. Restore the file from a replica or a backup; or, to give up everything from "
                f"offset {end} on, stop the broker, cut the file to {fault.position} bytes and remove later segments",
            )
        self.refuse_short_log(end)
        file.truncate(segment.size)
        file.sync()
        for other in later:
            other.close_file()
            for suffix in (LOG_SUFFIX, *INDEX_SUFFIXES):
                self.files.remove(other.stem + suffix)
        del self.segments[number + 1 :]

    def refuse_short_log(self, end: int) -> None:
        """Raise when something is missing that had been made durable and was not deleted since (DeleteRecords)."""
        if max(end, self.log_start_offset) >= self.recovery_point:
            return
        segment = self.segments[-1]
        raise CorruptLogError(
            segment.path,
            segment.size,
            f"the log ends at offset {end}, although everything below {self.recovery_point} had been made durable",
            "Nothing was changed. Restore the segments from a replica or a backup; or, to accept the loss, stop the "
            f"broker and lower the partition's entry in {checkpoints.RECOVERY_POINT_CHECKPOINT} to {end}",
        )

    # Producers.

    def load_producers(self, start: int, end: int, rebuild_from: int | None) -> ProducerState:
        """The newest usable snapshot, and the batches after it.

        After a crash, snapshots above the first recovered segment are not used, so that the transaction indexes of the
        recovered segments are rebuilt from what the batches say.
        """
        newest = end
        if rebuild_from is not None:
            recovered = [s for n, s in enumerate(self.segments) if self.next_base(n, end) > rebuild_from]
            for segment in recovered:
                if segment.aborted:
                    self.files.remove(segment.stem + TRANSACTION_INDEX_SUFFIX)
                    segment.aborted = False
            newest = recovered[0].base_offset if recovered else end
        for offset in [offset for offset in self.snapshots if offset > end or offset < start]:
            self.files.remove(self.snapshot_path(offset))
            self.snapshots.remove(offset)
        state = ProducerState(start)
        rebuild_producers(
            self.files,
            self.segments,
            state,
            end,
            self.snapshots,
            self.snapshot_path,
            self.open_file,
            newest=newest,
            now_ms=self.now_ms,
            expiration_ms=self.producer_id_expiration_ms,
        )
        return state

    def next_base(self, number: int, end: int) -> int:
        return self.segments[number + 1].base_offset if number + 1 < len(self.segments) else end

    def snapshot_path(self, offset: int) -> str:
        return self.path(f"{offset:020d}{SNAPSHOT_SUFFIX}")


def _offset_of(name: str) -> int:
    """The offset in a file's name: the digits before its first dot."""
    digits = name.split(".", 1)[0]
    return int(digits) if digits.isdigit() else -1
