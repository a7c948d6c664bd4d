"""Taking records away from the start of a log: retention by time and size, DeleteRecords."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.segment import DELETED_SUFFIX, INDEX_SUFFIXES, LOG_SUFFIX, SNAPSHOT_SUFFIX, Segment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.log.log import Log


def advance_log_start_offset(log: Log, offset: int, high_watermark: int) -> bool:
    """Records below `offset` are gone for readers; True when that is news. Segments go at the next retention check.

    Raises OFFSET_OUT_OF_RANGE above the high watermark (DeleteRecords).
    """
    if offset > high_watermark or offset > log.log_end_offset:
        raise KafkaError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"log start offset {offset} of {log.topic}-{log.partition} is above the high watermark {high_watermark}",
        )
    if offset <= log.log_start_offset:
        return False
    log.log_start_offset = offset
    log.epochs.truncate_from_start(offset)
    return True


def delete_old_segments(log: Log, now_ms: int, high_watermark: int) -> int:
    """Apply retention.ms, retention.bytes and the log start offset to whole segments below the high watermark.

    Returns how many segments went. The active segment goes too when all its records are too old: the log then rolls.
    """
    if log.offline is not None:
        return 0
    log.flush_for_read()  # a failure stays noted for the one who appended
    try:
        doomed = _doomed(log, now_ms, high_watermark)
        if not doomed:
            return 0
        if doomed[-1] is log.segments[-1]:
            log.roll(now_ms)
        discard_segments(log, doomed)
    except OSError as error:
        raise StorageError(f"{log.directory}: segments cannot be deleted: {error}", error) from error
    first = log.segments[0].base_offset
    if first > log.log_start_offset:
        log.log_start_offset = first
        log.epochs.truncate_from_start(first)
    remove_snapshots(log, [taken for taken in log.snapshots if taken < first])
    return len(doomed)


def _doomed(log: Log, now_ms: int, high_watermark: int) -> list[Segment]:
    """The oldest segments that retention gives up, in order."""
    config = log.config
    excess = log.size - config.retention_bytes if config.deletes and config.retention_bytes >= 0 else -1
    by_time = config.deletes and config.retention_ms >= 0
    doomed: list[Segment] = []
    segments = log.segments
    for number, segment in enumerate(segments):
        last = number + 1 == len(segments)
        following = log.log_end_offset if last else segments[number + 1].base_offset
        if following > high_watermark or (last and not segment.size):
            break
        gone = following <= log.log_start_offset and not last
        too_old = by_time and now_ms - _largest_timestamp(log, segment) > config.retention_ms
        too_much = excess - segment.size >= 0
        if not (gone or too_old or too_much):
            break
        excess -= segment.size
        doomed.append(segment)
    return doomed


def _largest_timestamp(log: Log, segment: Segment) -> int:
    """The segment's largest record timestamp; when no record has one, when the file was last written."""
    if segment.max_timestamp < -1:
        segment.load_max_timestamp(log.files, log._pool.file(segment))
    return segment.max_timestamp if segment.max_timestamp >= 0 else log.files.modified_ms(segment.path)


def discard_segments(log: Log, doomed: Sequence[Segment], *, keep_last: bool = True) -> None:
    """Rename the segments' files to `.deleted`, so that a crash does not bring them back; `purge` removes them."""
    for segment in doomed:
        log._pool.close(segment)
        for suffix in (LOG_SUFFIX, *INDEX_SUFFIXES):
            path = segment.stem + suffix
            if suffix == LOG_SUFFIX or log.files.exists(path):
                log.files.rename(path, path + DELETED_SUFFIX)
                log.trash.append(path + DELETED_SUFFIX)
        log.segments.remove(segment)
    log._generation += 1
    log._directory_dirty = True
    if log.segments:
        log.refresh()
    else:
        assert not keep_last


def remove_snapshots(log: Log, offsets: Sequence[int]) -> None:
    for offset in offsets:
        log.files.remove(f"{log.directory}/{offset:020d}{SNAPSHOT_SUFFIX}")
        log.snapshots.remove(offset)


def purge(log: Log) -> None:
    """Remove what was renamed to `.deleted`. Freeing large files takes a while: any thread."""
    while log.trash:
        path = log.trash.pop()
        try:
            log.files.remove(path)
        except OSError:
            return  # the next start removes it
