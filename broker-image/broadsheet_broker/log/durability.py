"""Making a log survive a loss of power, and stopping it cleanly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.checkpoints import LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA, epochs_text
from broadsheet_broker.log.errors import FULL_DISK, StorageError
from broadsheet_broker.log.segment import INDEX_SUFFIX, LOG_SUFFIX, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX
from broadsheet_broker.log.writing import failure_of_sync

if TYPE_CHECKING:
    from broadsheet_broker.log.log import Log
    from broadsheet_broker.seams import Files


def sync_log(log: Log) -> None:
    """fsync what was flushed up to now and advance the recovery point. Runs in any thread.

    Descriptors of the loop are not used, since it may close them meanwhile and the number may come back for another
    file. Truncation meanwhile (`_generation`) makes the result void.
    """
    generation = log._generation
    end = log.written_end_offset
    point = log.recovery_point
    if end <= point and not log.epochs.dirty and not log._directory_dirty:
        return
    directory_dirty = log._directory_dirty
    if directory_dirty:
        log._directory_dirty = False
    segments = list(log.segments)
    try:
        _store_epochs_first(log)
        for number, segment in enumerate(segments):
            closed = number + 1 < len(segments)
            if closed and segments[number + 1].base_offset <= point:
                continue
            _sync_file(log.files, segment.stem + LOG_SUFFIX)
            if closed:  # its indexes are complete, and recovery will not look at them again
                _sync_file(log.files, segment.stem + INDEX_SUFFIX)
                _sync_file(log.files, segment.stem + TIME_INDEX_SUFFIX)
        if directory_dirty:
            _sync_file(log.files, f"{log.directory}/{PARTITION_METADATA}")
            log.files.sync_directory(log.directory)
            log.files.sync_directory(log.directory.rpartition("/")[0])
    except OSError as error:
        log._directory_dirty = True
        raise failure_of_sync(log, error) from error
    log.synced_ms = log.environment.clock.time_ms()
    if generation == log._generation:
        log.recovery_point = max(log.recovery_point, end)
        if generation != log._generation:  # the loop has truncated the log in this very moment
            log.recovery_point = min(log.recovery_point, log._end)


def _store_epochs_first(log: Log) -> None:
    """A file that finds no room is no failed fsync: nothing written is in doubt, and the recovery point stays."""
    try:
        store_epochs(log)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        log._directory_dirty = True
        raise StorageError(f"{log.directory}: not synced, its leader epochs find no room: {error}", error) from error


def _sync_file(files: Files, path: str) -> None:
    try:
        file = files.open(path)
    except FileNotFoundError:  # deleted by retention meanwhile
        return
    try:
        file.sync()
    finally:
        file.close()


def store_epochs(log: Log) -> None:
    """Write the leader epochs when they changed. Needed before the recovery point passes their batches only: what is
    above it is read again after a crash, and every batch carries its epoch."""
    epochs = log.epochs
    if epochs.dirty:
        epochs.dirty = False  # before they are copied, since the loop may add one in between
        entries = epochs.entries()
        try:
            log.files.replace(f"{log.directory}/{LEADER_EPOCH_CHECKPOINT}", epochs_text(entries))
        except OSError:
            epochs.dirty = True
            raise


def close_log(log: Log) -> None:
    """Indexes, producers and epochs to disk, everything synced; then the descriptors go."""
    if log.offline is not None:
        log.close_files()
        return
    log.flush_appends()
    active = log.segments[-1]
    try:
        if active.indexes_loaded:
            active.finish(log.files)
        if not log.snapshots or log.snapshots[-1] < log.log_end_offset:
            before = len(log.snapshots)
            log.write_snapshot()
            if len(log.snapshots) > before:
                _sync_file(log.files, f"{log.directory}/{log.log_end_offset:020d}{SNAPSHOT_SUFFIX}")
        if log.recovery_point < log.log_end_offset or log.epochs.dirty:
            log._directory_dirty = True
            sync_log(log)
            _sync_file(log.files, active.stem + INDEX_SUFFIX)
            _sync_file(log.files, active.stem + TIME_INDEX_SUFFIX)
    except OSError as error:
        raise StorageError(f"{log.directory}: cannot be closed cleanly: {error}", error) from error
    finally:
        log.close_files()
