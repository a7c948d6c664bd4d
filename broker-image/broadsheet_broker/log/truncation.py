"""Taking records away from the end of a log (followers, Raft) or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.durability import sync
from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.replay import rebuild_producers
from broadsheet_broker.log.scan import BadBatchError
from broadsheet_broker.log.transaction_index import truncate_aborted

if TYPE_CHECKING:
    from broadsheet_broker.log.tail import Tail


def truncate_to(tail: Tail, offset: int) -> bool:
    """Take away every batch that holds `offset` or a later one; True when there was any.

    The end becomes `offset`, or the first offset of the batch that was cut when `offset` lay in its middle. The caller
    stores the recovery point soon, since a checkpoint above the end would look like lost data after a crash.
    """
    tail.flush()
    if offset >= tail.end:
        return False
    if offset < tail.segments.start_offset:
        truncate_fully_and_start_at(tail, offset)
        return True
    try:
        _truncate(tail, offset)
    except OSError as error:
        directory = tail.segments.directory
        raise StorageError(f"{directory}: cannot be truncated to offset {offset}: {error}", error) from error
    return True


def _truncate(tail: Tail, offset: int) -> None:
    segments = tail.segments
    files = segments.files
    later = [segment for segment in segments if segment.base_offset > offset]
    if later:
        segments.discard(later)
    segment = segments[-1]
    file = segments.file(segment)
    try:
        position, header = segment.seek(files, file, offset)
    except BadBatchError as error:
        raise segment.corrupt(error) from error
    end = offset
    if header is not None:
        end = max(segments.start_offset, min(offset, header.base_offset))
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
    tail.cut(end)
    tail.epochs.truncate_from_end(end)
    segments.remove_snapshots([taken for taken in segments.snapshots if taken > end])
    tail.producers.clear(segments.start_offset)
    rebuild_producers(files, segments, tail.producers, end, segments.snapshots, segments.snapshot_path, segments.file)
    # What was cut off must not come back after a loss of power: neither below a segment that begins where it began,
    # where it would not be checked again as all of it lies below the recovery point, nor as segments of an older epoch
    # behind what is appended next. What else is in the directory is made durable before its name is.
    if later:
        sync(segments)
        return
    try:
        file.sync()
    except OSError as error:
        raise segments.failure_of_sync(error) from error


def truncate_fully_and_start_at(tail: Tail, offset: int) -> None:
    """Take everything away and begin again, empty, at `offset` (a replica that is out of the leader's range)."""
    tail.flush()
    segments = tail.segments
    try:
        fresh = segments.new(offset, segments.environment.clock.time_ms())
        segments.discard(list(segments))
        segments.file(fresh, create=True)
        segments.remove_snapshots(list(segments.snapshots))
    except OSError as error:
        raise StorageError(f"{segments.directory}: cannot start again at offset {offset}: {error}", error) from error
    tail.begin_again(fresh)
    sync(segments)  # none of the old ones comes back with a loss of power
