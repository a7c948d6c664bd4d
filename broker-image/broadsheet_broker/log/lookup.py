"""Offsets by time (ListOffsets), and the aborted transactions of a range (read_committed fetches).

A look-up reads the headers of a part of a segment, and all records of one batch or some. It is work in steps; if the
log is cut, compacted or deleted between two steps, it begins again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from broadsheet_broker.log.batch_rows import PooledFile, StepCount, each_record
from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.log.segment import Latest, Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction, read_aborted
from broadsheet_broker.seams.steps import Stepwise
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.record_rows import Row
from broadsheet_broker.wire.records import BatchHeader

if TYPE_CHECKING:
    from broadsheet_broker.log.segments import Segments

_TRIES = 5
"""How often a look-up begins again in a log that changes."""
_SEGMENT_RECORDS = 20
"""Records that take as long as looking into a segment's indexes."""


class TimestampOffset(NamedTuple):
    timestamp: int
    """ms."""
    offset: int
    leader_epoch: int


class _ChangedError(Exception):
    """The log is another one than before the last pause."""


class _Search:
    """One look-up in one log, and how much of it the current step has done."""

    __slots__ = ("_count", "_cuts", "segments")

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self._count = StepCount()
        self._cuts = segments.cuts

    def pause(self, segment: Segment, records: int) -> Stepwise[None]:
        """Count what was done, and pause if that was enough for a step."""
        if self._count.due(0, records):
            yield None
            self.check(segment)

    def check(self, segment: Segment) -> None:
        segments = self.segments
        if segments.cuts != self._cuts or segments.offline is not None or segment not in segments.items:
            raise _ChangedError

    def records(
        self, segment: Segment, position: int, header: BatchHeader, take: Callable[[bytes, list[Row]], bool]
    ) -> Stepwise[None]:
        """Give the records of one batch to `take`."""
        batch = memoryview(self.segments.file(segment).read(position, header.size))
        yield from each_record(header, batch, take, self._count)
        self.check(segment)


def offset_for_timestamp(
    segments: Segments, end: Callable[[], int], timestamp: int
) -> Stepwise[TimestampOffset | None]:
    """The first record, by offset, whose timestamp is `timestamp` (ms) or later; `end` tells the log's end."""
    return _again_if_changed(segments, lambda search: _first_from(search, end(), timestamp))


def max_timestamp(segments: Segments, end: Callable[[], int], end_offset: int) -> Stepwise[TimestampOffset | None]:
    """The record with the largest timestamp below `end_offset` and not below the log start, the first of them; None
    when no such record has one (KIP-734)."""
    return _again_if_changed(segments, lambda search: _largest(search, end(), end_offset))


def _again_if_changed(
    segments: Segments, begin: Callable[[_Search], Stepwise[TimestampOffset | None]]
) -> Stepwise[TimestampOffset | None]:
    for _ in range(_TRIES):
        try:
            return (yield from begin(_Search(segments)))
        except _ChangedError:
            if segments.offline is not None:
                raise segments.offline.again() from None
    raise KafkaError(ErrorCode.OFFSET_NOT_AVAILABLE, f"{segments.name} changed while it was searched; try again")


def _first_from(search: _Search, log_end_offset: int, timestamp: int) -> Stepwise[TimestampOffset | None]:
    segments = search.segments
    for number, segment in enumerate(list(segments)):
        file = segments.file(segment)
        if segment.max_timestamp < -1:
            segment.load_max_timestamp(segments.files, file)
        if segment.max_timestamp < timestamp or segments.end_of(number, log_end_offset) <= segments.start_offset:
            yield from search.pause(segment, 1)
            continue
        segment.load_indexes(segments.files, file)
        entry = segment.times.floor(segments.files, 0, timestamp - 1)  # nothing up to its offset is late enough
        least = max(segments.start_offset, segment.base_offset + entry[1] if entry else 0)
        start = segment.position_floor(segments.files, least)
        yield from search.pause(segment, _SEGMENT_RECORDS)
        try:
            for position, header in walk(PooledFile(segments, segment), start, segment.size, segment.base_offset):
                late = header.max_timestamp >= timestamp or not header.is_sure_of_its_timestamps
                if late and header.last_offset >= segments.start_offset:
                    found = yield from _first_at(search, segment, position, header, timestamp)
                    if found is not None:
                        return found
                yield from search.pause(segment, 1)
        except BadBatchError as error:
            raise segment.corrupt(error) from error
    return None


def _first_at(
    search: _Search, segment: Segment, position: int, header: BatchHeader, timestamp: int
) -> Stepwise[TimestampOffset | None]:
    start = search.segments.start_offset
    epoch = header.partition_leader_epoch
    if header.is_log_append_time:
        return TimestampOffset(header.max_timestamp, max(header.base_offset, start), epoch)
    found: list[TimestampOffset] = []

    def take(_: bytes, rows: list[Row]) -> bool:
        for row in rows:
            time, offset = header.base_timestamp + row.timestamp_delta, header.base_offset + row.offset_delta
            if time >= timestamp and offset >= start:
                found.append(TimestampOffset(time, offset, epoch))
                return False
        return True

    yield from search.records(segment, position, header, take)
    return found[0] if found else None


def _largest(search: _Search, log_end_offset: int, end_offset: int) -> Stepwise[TimestampOffset | None]:
    segments = search.segments
    best: tuple[int, int] | None = None
    holder: Segment | None = None
    for number, segment in enumerate(list(segments)):
        following = segments.end_of(number, log_end_offset)
        if following <= segments.start_offset or segment.base_offset >= end_offset:
            continue
        found = yield from _latest(search, segment, end_offset)
        if found is not None and found[0] >= 0 and (best is None or found[0] > best[0]):
            best, holder = found, segment
    if best is None or holder is None:
        return None
    search.check(holder)
    found_batch = _batch(segments, holder, best[1])
    if found_batch is None:
        return None
    position, header = found_batch
    latest = best[0]
    if not header.is_sure_of_its_timestamps:
        latest = yield from _latest_record(search, holder, position, header, end_offset)
    return (yield from _first_at(search, holder, position, header, latest))


def _latest(search: _Search, segment: Segment, end_offset: int) -> Stepwise[tuple[int, int] | None]:
    """The largest timestamp of the segment's readable records, and the last offset of the batch that has it."""
    segments = search.segments
    file = segments.file(segment)
    if segment.max_timestamp < -1:
        segment.load_max_timestamp(segments.files, file)
    if segment.max_timestamp < 0:
        return None
    segment.load_indexes(segments.files, file)
    yield from search.pause(segment, _SEGMENT_RECORDS)
    if _is_readable(segments, segment, segment.max_timestamp_offset, end_offset):
        return segment.max_timestamp, segment.max_timestamp_offset
    entry = segment.times.floor(segments.files, 1, end_offset - 1 - segment.base_offset)
    if entry is None or not _is_readable(segments, segment, segment.base_offset + entry[1], end_offset):
        return (yield from _latest_from_start(search, segment, end_offset))
    # The time index is a running maximum: only batches behind the last one in the offset index can have more.
    best = entry[0], segment.base_offset + entry[1]

    def see(_: int, latest: int, last_offset: int) -> None:
        nonlocal best
        if latest > best[0]:
            best = latest, last_offset

    position = segment.position_floor(segments.files, end_offset - 1)
    yield from _readable(search, segment, position, end_offset, see)
    return best


def _latest_from_start(search: _Search, segment: Segment, end_offset: int) -> Stepwise[tuple[int, int] | None]:
    """The same where no index helps, since the largest timestamp was deleted: every batch is looked at, once."""
    segments = search.segments
    start = segments.start_offset
    known = segment.latest
    if known is None or known.start != start or known.end > end_offset:
        known = Latest(start, start, segment.position_floor(segments.files, start), None)
    best = known.best

    def see(position: int, latest: int, last_offset: int) -> None:
        nonlocal best, known
        if best is None or latest > best[0]:
            best = latest, last_offset
        if last_offset < end_offset:
            known = Latest(start, last_offset + 1, position, best)

    yield from _readable(search, segment, known.position, end_offset, see)
    segment.latest = known
    return best


def _readable(
    search: _Search, segment: Segment, position: int, end_offset: int, see: Callable[[int, int, int], None]
) -> Stepwise[None]:
    """Tell `see` of each batch from `position` on with readable records: its end's position, their largest timestamp,
    its last offset."""
    segments = search.segments
    start = segments.start_offset
    try:
        for at, header in walk(PooledFile(segments, segment), position, segment.size, segment.base_offset):
            if header.base_offset >= end_offset:
                return
            yield from search.pause(segment, 1)
            if header.last_offset < start:
                continue
            latest = header.max_timestamp
            cut = header.base_offset < start or header.last_offset >= end_offset
            if (cut and not header.is_log_append_time) or not header.is_sure_of_its_timestamps:
                latest = yield from _latest_record(search, segment, at, header, end_offset)
            see(at + header.size, latest, header.last_offset)
    except BadBatchError as error:
        raise segment.corrupt(error) from error


def _latest_record(
    search: _Search, segment: Segment, position: int, header: BatchHeader, end_offset: int
) -> Stepwise[int]:
    """The largest timestamp of the readable records of one batch."""
    latest = -1
    first, beyond = search.segments.start_offset - header.base_offset, end_offset - header.base_offset

    def take(_: bytes, rows: list[Row]) -> bool:
        nonlocal latest
        for row in rows:
            if first <= row.offset_delta < beyond:
                latest = max(latest, header.base_timestamp + row.timestamp_delta)
        return True

    yield from search.records(segment, position, header, take)
    return latest


def _is_readable(segments: Segments, segment: Segment, last_offset: int, end_offset: int) -> bool:
    """Whether all of the batch that ends at `last_offset` may be read."""
    if last_offset >= end_offset:
        return False
    if segment.base_offset >= segments.start_offset:
        return True
    found = _batch(segments, segment, last_offset)
    return found is not None and found[1].base_offset >= segments.start_offset


def _batch(segments: Segments, segment: Segment, last_offset: int) -> tuple[int, BatchHeader] | None:
    """Where the batch with this offset begins, and its header."""
    try:
        position, header = segment.seek(segments.files, segments.file(segment), last_offset)
    except BadBatchError as error:
        raise segment.corrupt(error) from error
    return None if header is None else (position, header)


def aborted_transactions(segments: Segments, first_offset: int, end_offset: int) -> list[AbortedTransaction]:
    """The aborted transactions with records in [first, end); the fetch answer names them."""
    found: list[AbortedTransaction] = []
    for segment in segments[max(0, segments.number_of(first_offset)) :]:
        if not segment.aborted:
            continue
        for entry in read_aborted(segments.files, segment.stem):
            if entry.last_offset >= first_offset and entry.first_offset < end_offset:
                found.append(entry)
            if entry.last_stable_offset >= end_offset:
                return found
    return found
