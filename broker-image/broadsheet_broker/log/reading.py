"""Finding the batches that a reader asks for, and how far whole batches go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broadsheet_broker.log.results import Fetched
from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.log.segment import Segment
from broadsheet_broker.seams import Buffer, File
from broadsheet_broker.wire.records import HEADER, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC, BatchHeader

if TYPE_CHECKING:
    from broadsheet_broker.log.segments import Segments

NEVER_STORED: Final = 2**40
"""More bytes than any range has."""

_WALKED_BYTES: Final = 128 * 1024
"""Up to here, looking for the last whole batch from the first one on costs less than asking the index."""


def read_batches(
    segments: Segments,
    log_end_offset: int,
    offset: int,
    max_bytes: int,
    limit: int,
    min_one: bool,
    stored_from: int = NEVER_STORED,
) -> Fetched:
    """Whole batches from the one that holds `offset`, which is in the log and below `limit`; see `Log.read`."""
    hint = segments.hints.get(offset)
    number = segments.number_of(offset)
    while number < len(segments):
        segment = segments[number]
        file = segments.file(segment)
        following = segments.end_of(number, log_end_offset)
        end = segment.size if limit >= following else _position_of(segments, segment, file, limit)
        if hint is not None and hint[0] is segment:
            position = hint[1]
        else:
            position = _position_of(segments, segment, file, offset)
        if position < end:
            if end - position >= stored_from and max_bytes >= stored_from:
                found = _find_in_segment(segments, segment, file, position, end, following, max_bytes, min_one)
                if found is not None:
                    return found
            return _read_segment(segments, segment, file, position, end, following, max_bytes, min_one)
        if following >= limit:
            break
        number += 1
    return Fetched(b"", offset)


def _position_of(segments: Segments, segment: Segment, file: File, offset: int) -> int:
    """Where the first batch with `offset` or a later one begins; the segment's size when there is none."""
    if offset <= segment.base_offset:
        return 0
    try:
        return segment.seek(segments.files, file, offset)[0]
    except BadBatchError as error:
        raise segment.corrupt(error) from error


def _read_segment(
    segments: Segments,
    segment: Segment,
    file: File,
    position: int,
    end: int,
    following: int,
    max_bytes: int,
    min_one: bool,
) -> Fetched:
    data = file.read_shared(position, min(max_bytes, end - position))
    if len(data) == end - position and end == segment.size:
        segments.remember(following, segment, end)
        return Fetched(data, following, segment.base_offset, position)
    next_offset, whole = _whole_batches(segments, segment, file, position, data)
    if not whole:
        first = _first_batch(segments, segment, file, position)
        if len(data) < first.size:
            if not min_one:
                return Fetched(b"", first.base_offset, segment.base_offset, position)
            data = file.read(position, first.size)
        next_offset, whole = first.last_offset + 1, first.size
    if whole < len(data):
        data = data[:whole]
    segments.remember(next_offset, segment, position + whole)
    return Fetched(data, next_offset, segment.base_offset, position)


def _find_in_segment(
    segments: Segments,
    segment: Segment,
    file: File,
    position: int,
    end: int,
    following: int,
    max_bytes: int,
    min_one: bool,
) -> Fetched | None:
    """The same without reading more than headers. None when it must be read, since too many closed files are in use."""
    stop = min(end, position + max_bytes)
    next_offset = following
    if stop < end or end != segment.size:
        start = max(segment.boundary_floor(segments.files, file, stop), position)
        next_offset = -1
        try:
            for at, header in walk(file, start, segment.size, segment.base_offset):
                after = at + header.batch_length + LOG_OVERHEAD_BYTES
                if after > stop:
                    if at == position and min_one:
                        stop, next_offset = after, header.last_offset + 1
                    else:
                        stop = at
                        if next_offset < 0:
                            next_offset = header.base_offset
                    break
                next_offset = header.last_offset + 1
                if after == stop:
                    break
        except BadBatchError as error:
            raise segment.corrupt(error) from error
    if stop == position:
        return Fetched(b"", next_offset, segment.base_offset, position)
    stored = file.stored(position, stop - position)
    if stored is None:
        return None
    segments.remember(next_offset, segment, stop)
    return Fetched(b"", next_offset, segment.base_offset, position, stored)


def _first_batch(segments: Segments, segment: Segment, file: File, position: int) -> BatchHeader:
    try:
        for _, header in walk(file, position, segment.size, segment.base_offset):
            return header
    except BadBatchError as error:
        raise segment.corrupt(error) from error
    raise segment.corrupt(BadBatchError(position, "nothing"))


def _whole_batches(segments: Segments, segment: Segment, file: File, position: int, data: Buffer) -> tuple[int, int]:
    """Offset after the last batch that is all in `data` (read at `position`), and the bytes up to there.

    Begins at the last batch that the index knows, so that many small batches are not all walked over.
    """
    at = 0
    if len(data) > _WALKED_BYTES:
        at = segment.boundary_floor(segments.files, file, position + len(data)) - position
    if at <= 0 or at + HEADER_BYTES > len(data) or data[at + 16] != MAGIC:
        at = 0
    next_offset = -1
    if at:
        next_offset = HEADER.unpack_from(data, at)[0]
    while at + HEADER_BYTES <= len(data):
        row = HEADER.unpack_from(data, at)
        size = row[1] + LOG_OVERHEAD_BYTES
        if size < HEADER_BYTES or row[3] != MAGIC:
            raise segment.corrupt(BadBatchError(position + at, f"magic {row[3]} and a length of {row[1]} bytes"))
        if at + size > len(data):
            break
        at += size
        next_offset = row[0] + row[6] + 1
    return next_offset, at if next_offset >= 0 else 0
