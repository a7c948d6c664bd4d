"""Taking records away from the end of a log (followers, Raft) or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.producer_state import SnapshotCorruptError
from broadsheet_broker.log.replay import replay
from broadsheet_broker.log.retention import discard_segments, remove_snapshots
from broadsheet_broker.log.scan import BadBatchError
from broadsheet_broker.log.segment import Segment
from broadsheet_broker.log.transaction_index import truncate_aborted
from broadsheet_broker.log.writing import failure_of_sync

if TYPE_CHECKING:
    from broadsheet_broker.log.log import Log
    from broadsheet_broker.seams import File


def truncate_to(log: Log, offset: int) -> bool:
    """Take away every batch that holds `offset` or a later one; True when there was any.

    The end becomes `offset`, or the first offset of the batch that was cut when `offset` lay in its middle. The caller
    stores the recovery point soon, since a checkpoint above the end would look like lost data after a crash.
    """
    log.flush_appends()
    if offset >= log.log_end_offset:
        return False
    if offset < log.log_start_offset:
        truncate_fully_and_start_at(log, offset)
        return True
    try:
        _truncate(log, offset)
    except OSError as error:
        raise StorageError(f"{log.directory}: cannot be truncated to offset {offset}: {error}", error) from error
    return True


def _truncate(log: Log, offset: int) -> None:
    files = log.files
    later = [segment for segment in log.segments if segment.base_offset > offset]
    if later:
        discard_segments(log, later)
    segment = log.segments[-1]
    file = log._pool.file(segment)
    try:
        position, header = segment.seek(files, file, offset)
    except BadBatchError as error:
        raise segment.corrupt(error) from error
    end = offset
    if header is not None:
        end = max(log.log_start_offset, min(offset, header.base_offset))
    file.truncate(position)
    segment.size = position
    relative = end - segment.base_offset
    segment.offsets.truncate(files, segment.offsets.count_at_most(files, 0, relative - 1))
    segment.times.truncate(files, segment.times.count_at_most(files, 1, relative - 1))
    if segment.aborted:
        truncate_aborted(files, segment.stem, end)
    segment.forget_timestamps()
    segment.load_max_timestamp(files, file)
    last = segment.offsets.last
    segment.bytes_since_index = position - (last[1] if last else 0)
    log.become(end)
    log.epochs.truncate_from_end(end)
    remove_snapshots(log, [taken for taken in log.snapshots if taken > end])
    reload_producers(log)
    _make_durable(log, file)


def _make_durable(log: Log, file: File) -> None:
    """What was cut off must not come back after a loss of power, below a segment that begins where it began: nobody
    would look at this one again, as all of it lies below the recovery point."""
    try:
        file.sync()
    except OSError as error:
        raise failure_of_sync(log, error) from error


def truncate_fully_and_start_at(log: Log, offset: int) -> None:
    """Take everything away and begin again, empty, at `offset` (a replica that is out of the leader's range)."""
    log.flush_appends()
    try:
        fresh = log.new_segment(offset, log.environment.clock.time_ms())
        old = list(log.segments)
        discard_segments(log, old, keep_last=False)
        log._pool.file(fresh, create=True)
        log.segments.append(fresh)
        remove_snapshots(log, list(log.snapshots))
    except OSError as error:
        raise StorageError(f"{log.directory}: cannot start again at offset {offset}: {error}", error) from error
    log.log_start_offset = offset
    log.become(offset)
    log.recovery_point = offset
    log.epochs.clear()
    log.producers.clear(offset)
    log._directory_dirty = True


def reload_producers(log: Log) -> None:
    """The producers' state as of the log's (new) end: the newest snapshot and the batches after it."""
    state = log.producers
    state.clear(log.log_start_offset)
    for taken in reversed(list(log.snapshots)):
        try:
            state.load_snapshot(log.files.read_bytes(f"{log.directory}/{taken:020d}.snapshot"), taken)
            break
        except (SnapshotCorruptError, FileNotFoundError):
            remove_snapshots(log, [taken])
    for number, segment in enumerate(log.segments):
        if _end_of(log, number) > state.end_offset:
            log._pool.file(segment)
            try:
                replay(log.files, segment, state)
            except BadBatchError as error:
                raise segment.corrupt(error) from error
    state.end_offset = log.log_end_offset
    state.commit()


def _end_of(log: Log, number: int) -> int:
    following: list[Segment] = log.segments[number + 1 : number + 2]
    return following[0].base_offset if following else log.log_end_offset
