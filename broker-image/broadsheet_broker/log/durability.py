"""Making a log survive a loss of power, and stopping it cleanly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.checkpoints import LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA, epochs_text
from broadsheet_broker.log.errors import FULL_DISK, StorageError
from broadsheet_broker.log.segment import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX

if TYPE_CHECKING:
    from broadsheet_broker.log.segments import Segments
    from broadsheet_broker.seams import Files


def sync(segments: Segments) -> None:
    """fsync what was flushed up to now and advance the recovery point. Runs in any thread.

    Descriptors of the loop are not used, since it may close them meanwhile and the number may come back for another
    file. Truncation meanwhile makes the result void.
    """
    generation, cuts = segments.generation, segments.cuts
    end = segments.producers.written_end_offset
    point = segments.recovery_point
    if end <= point and not segments.epochs.dirty and not segments.directory_dirty:
        return
    names_changed = segments.names_synced()
    items = list(segments)
    files = segments.files
    try:
        _store_epochs_first(segments)
        for number, segment in enumerate(items):
            closed = number + 1 < len(items)
            if closed and items[number + 1].base_offset <= point:
                continue
            _sync_file(files, segment.stem + LOG_SUFFIX)
            if closed:  # its indexes are complete, and recovery will not read them again
                _sync_file(files, segment.stem + INDEX_SUFFIX)
                _sync_file(files, segment.stem + TIME_INDEX_SUFFIX)
        if names_changed:
            _sync_file(files, f"{segments.directory}/{PARTITION_METADATA}")
            files.sync_directory(segments.directory)
            files.sync_directory(segments.parent)
    except OSError as error:
        segments.names_changed()
        raise segments.failure_of_sync(error) from error
    segments.synced(end, generation, cuts)


def _store_epochs_first(segments: Segments) -> None:
    """A full disk here is not a failed fsync: nothing written is in doubt, and the recovery point stays."""
    try:
        store_epochs(segments)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        segments.names_changed()
        raise StorageError(
            f"{segments.directory}: not synced, its leader epochs find no room: {error}", error
        ) from error


def _sync_file(files: Files, path: str) -> None:
    try:
        file = files.open(path)
    except FileNotFoundError:  # deleted by retention meanwhile
        return
    try:
        file.sync()
    finally:
        file.close()


def store_epochs(segments: Segments) -> None:
    """Write the leader epochs when they changed. Needed before the recovery point passes their batches only: what is
    above it is read again after a crash, and every batch carries its epoch."""
    epochs = segments.epochs
    if epochs.dirty:
        epochs.dirty = False  # before they are copied, since the loop may add one in between
        entries = epochs.entries()
        try:
            segments.files.replace(f"{segments.directory}/{LEADER_EPOCH_CHECKPOINT}", epochs_text(entries))
        except OSError:
            epochs.dirty = True
            raise


def close(segments: Segments, end_offset: int) -> None:
    """Indexes, producers and epochs to disk, everything synced; then the descriptors go. Everything up to the end is
    written already."""
    files = segments.files
    active = segments[-1]
    try:
        if active.indexes_loaded:
            active.finish(files)
        if segments.write_snapshot(end_offset):
            _sync_file(files, segments.snapshot_path(end_offset))
        if segments.recovery_point < end_offset or segments.epochs.dirty:
            segments.names_changed()
            sync(segments)
            _sync_file(files, active.stem + INDEX_SUFFIX)
            _sync_file(files, active.stem + TIME_INDEX_SUFFIX)
    except OSError as error:
        raise StorageError(f"{segments.directory}: cannot be closed cleanly: {error}", error) from error
    finally:
        segments.close_files()
