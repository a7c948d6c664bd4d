"""From the queue of appended batches to the file, with one call, and what is taken back when the disk refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.errors import FULL_DISK, NO_DESCRIPTORS, PASSING, StorageError
from broadsheet_broker.log.segment import TRANSACTION_INDEX_SUFFIX, Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction

if TYPE_CHECKING:
    from broadsheet_broker.log.log import Log


def flush_appends(log: Log) -> None:
    """What `Log.flush_appends` does."""
    if log._pending and log._failed is None:
        write_pending(log)
    if log._failed is not None:
        raise _take_failure(log)


def flush_for_read(log: Log) -> None:
    """What `Log.flush_for_read` does."""
    if log.offline is not None:
        raise log.offline.again()
    if log._pending and log._failed is None:
        write_pending(log)


def write_pending(log: Log) -> None:
    """Write the queued batches; a failure is kept in `_failed` for the one who appended."""
    if log.offline is not None:  # deleted since: another log may have this path by now
        forget_pending(log)
        log._failed = log.offline.again()
        return
    active = log._active
    try:
        log._pool.file(active).append(log._pending)
    except OSError as error:
        forget_pending(log)
        log._failed = failure_of(log, active.path, error)
        return
    log._pending = []
    log._mark = None
    log.producers.end_offset = log._end
    log.producers.commit()
    if log._completed:
        _write_aborted(log)
    if active.offsets.wants_flush or active.times.wants_flush:
        _flush_indexes(log, active)
    if log._failed is None and log._end - log.recovery_point >= log._config.flush_messages:
        try:
            log.sync()
        except StorageError as error:
            log._failed = error.again()


def write_pending_or_raise(log: Log) -> None:
    """For what must not go on after a failed write, which stays noted for the one who appended."""
    if log._pending and log._failed is None:
        write_pending(log)
    if log._failed is not None:
        raise log._failed.again()


def _take_failure(log: Log) -> StorageError:
    """A function of its own: in the frame that raises, a name for the error would make a cycle of the two."""
    failure = log._failed
    assert failure is not None
    log._failed = None
    forget_pending(log)  # batches queued behind a failure that a read ran into
    return failure


def forget_pending(log: Log) -> None:
    if log._mark is None:
        return
    log._end, mark = log._mark
    log._active.reset_to(mark)
    log._mark = None
    log._pending = []
    log._completed = []
    log.producers.rollback()
    log.epochs.truncate_from_end(log._end)


def failure_of(log: Log, path: str, error: OSError) -> StorageError:
    passing = error.errno in PASSING
    what = "the directory may be lost"
    if passing:
        what = "the disk is full, free space and producing goes on"
        if error.errno in NO_DESCRIPTORS:
            what = "too many files and connections are open, see `ulimit -n`"
    failure = StorageError(f"{path}: {error.strerror or error}: {what}", error)
    if error.errno in FULL_DISK and log.on_full_disk is not None:
        log.on_full_disk()
    if not passing and log.on_failure is not None:
        log.on_failure(log, failure)
    return failure


def failure_of_sync(log: Log, error: OSError) -> StorageError:
    """fsync failed: what was written may be gone, also where it tells of a full disk (delayed allocation)."""
    failure = StorageError(f"{log.directory}: fsync failed, the directory may be lost: {error}", error)
    if error.errno not in NO_DESCRIPTORS and log.on_failure is not None:
        log.on_failure(log, failure)
    return failure


def _flush_indexes(log: Log, segment: Segment) -> None:
    """A full disk is no failure here: the entries stay in memory and are tried again."""
    try:
        segment.offsets.flush(log.files)
        segment.times.flush(log.files)
    except OSError:
        return


def _write_aborted(log: Log) -> None:
    """Without its entry an aborted transaction would be read as committed: then rather nothing is read at all."""
    completed, log._completed = log._completed, []
    index = log._active.stem + TRANSACTION_INDEX_SUFFIX
    try:
        for transaction in completed:
            if transaction.aborted:
                AbortedTransaction.of(transaction).append_to(log.files, index)
                log._active.aborted = True
    except OSError as error:
        log.offline = failure_of(log, index, error)
        log._failed = log.offline.again()
