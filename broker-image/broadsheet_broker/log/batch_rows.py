"""Reads the records of stored batches in steps, without building them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from broadsheet_broker.seams.steps import Stepwise
from broadsheet_broker.wire.compression import CompressionError
from broadsheet_broker.wire.pieces import INLINE_BYTES, PIECE_BYTES
from broadsheet_broker.wire.record_rows import STEP_ROWS, Row, read_rows
from broadsheet_broker.wire.record_windows import opened
from broadsheet_broker.wire.records import HEADER_BYTES, BatchHeader, CorruptRecordError

if TYPE_CHECKING:
    from broadsheet_broker.log.segment import Segment
    from broadsheet_broker.log.segments import Segments

Take = Callable[[bytes, list[Row]], bool]
"""Gets some records and the bytes in which they stand; False when it needs no more."""


class PooledFile:
    """A segment's file, opened again when the pool has closed it between two steps."""

    __slots__ = ("_segment", "_segments")

    def __init__(self, segments: Segments, segment: Segment) -> None:
        self._segments = segments
        self._segment = segment

    def read(self, offset: int, size: int) -> bytes:
        return self._segments.file(self._segment).read(offset, size)


class StepCount:
    """How much was done since the last pause, across batches that are small."""

    __slots__ = ("bytes", "records")

    def __init__(self) -> None:
        self.bytes = 0
        self.records = 0

    @property
    def left(self) -> int:
        """Records until the next pause, at least one."""
        return max(STEP_ROWS - self.records, 1)

    def due(self, size: int, records: int) -> bool:
        """Count it; True when it is time for a pause."""
        self.bytes += size
        self.records += records
        if self.bytes < INLINE_BYTES and self.records < STEP_ROWS:
            return False
        self.bytes = self.records = 0
        return True


def each_record(header: BatchHeader, batch: memoryview, take: Take, count: StepCount) -> Stepwise[None]:
    """Give all records of one whole batch to `take`, some at a time. Raises CorruptRecordError."""
    try:
        window = yield from opened(header.compression, batch[HEADER_BYTES : header.size])
        seen = 0
        while True:
            rows: list[Row] = []
            window.position = read_rows(window.data, window.position, rows, count.left)
            if rows:
                seen += len(rows)
                if not take(window.data, rows):
                    return
                if count.due(0, len(rows)):
                    yield None
                continue
            if window.ended:
                break
            yield from window.make_room()
            while not window.advance():
                if count.due(PIECE_BYTES, 0):
                    yield None
            yield from window.make_whole()
            if count.due(min(PIECE_BYTES, window.rest), 0):
                yield None
    except CompressionError as error:
        raise CorruptRecordError(f"record batch at offset {header.base_offset}: {error}") from error
    if seen != header.record_count or window.rest:
        raise CorruptRecordError(
            f"record batch at offset {header.base_offset} with {seen} records and {window.rest} bytes more, where its "
            f"header counts {header.record_count}"
        )
