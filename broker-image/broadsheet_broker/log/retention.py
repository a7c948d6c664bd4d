"""Taking records away from the start of a log: retention by time and size, DeleteRecords."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.rolling import roll
from broadsheet_broker.log.segment import Segment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.log.segments import Segments
    from broadsheet_broker.log.tail import Tail


def advance_start(tail: Tail, offset: int, high_watermark: int) -> bool:
    """Records below `offset` are gone for readers; True when that is news. Segments go at the next retention check.

    Raises OFFSET_OUT_OF_RANGE above the high watermark (DeleteRecords).
    """
    segments = tail.segments
    if offset > high_watermark or offset > tail.end:
        raise KafkaError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"log start offset {offset} of {segments.name} is above the high watermark {high_watermark}",
        )
    if offset <= segments.start_offset:
        return False
    segments.start_at(offset)
    return True


def delete_old_segments(tail: Tail, now_ms: int, high_watermark: int) -> int:
    """Apply retention.ms, retention.bytes and the log start offset to whole segments below the high watermark.

    Returns how many segments went. The active segment goes too when all its records are too old: the log then rolls.
    """
    segments = tail.segments
    if segments.offline is not None:
        return 0
    tail.flush_for_read()  # a failure stays noted for the caller that appended
    try:
        doomed = _doomed(segments, tail.end, now_ms, high_watermark)
        if not doomed:
            return 0
        if doomed[-1] is tail.active:
            roll(tail, now_ms)
        segments.discard(doomed)
    except OSError as error:
        raise StorageError(f"{segments.directory}: segments cannot be deleted: {error}", error) from error
    first = segments[0].base_offset
    if first > segments.start_offset:
        segments.start_at(first)
    segments.remove_snapshots([taken for taken in segments.snapshots if taken < first])
    return len(doomed)


def _doomed(segments: Segments, end_offset: int, now_ms: int, high_watermark: int) -> list[Segment]:
    """The oldest segments that retention gives up, in order."""
    config = segments.config
    excess = segments.size - config.retention_bytes if config.deletes and config.retention_bytes >= 0 else -1
    by_time = config.deletes and config.retention_ms >= 0
    doomed: list[Segment] = []
    for number, segment in enumerate(segments):
        last = number + 1 == len(segments)
        following = segments.end_of(number, end_offset)
        if following > high_watermark or (last and not segment.size):
            break
        gone = following <= segments.start_offset and not last
        too_old = by_time and now_ms - _largest_timestamp(segments, segment) > config.retention_ms
        too_much = excess - segment.size >= 0
        if not (gone or too_old or too_much):
            break
        excess -= segment.size
        doomed.append(segment)
    return doomed


def _largest_timestamp(segments: Segments, segment: Segment) -> int:
    """The segment's largest record timestamp; when no record has one, when the file was last written."""
    if segment.max_timestamp < -1:
        segment.load_max_timestamp(segments.files, segments.file(segment))
    return segment.max_timestamp if segment.max_timestamp >= 0 else segments.files.modified_ms(segment.path)
