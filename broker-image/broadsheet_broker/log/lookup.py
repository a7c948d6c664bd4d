"""Offsets by time (ListOffsets), and the aborted transactions of a range (read_committed fetches)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.log.segment import Latest, Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction, read_aborted
from broadsheet_broker.wire.records import BatchHeader, decode_records

if TYPE_CHECKING:
    from broadsheet_broker.log.segments import Segments


class TimestampOffset(NamedTuple):
    timestamp: int
    """ms."""
    offset: int
    leader_epoch: int


def offset_for_timestamp(segments: Segments, log_end_offset: int, timestamp: int) -> TimestampOffset | None:
    """The first record, by offset, whose timestamp is `timestamp` (ms) or later."""
    for number, segment in enumerate(list(segments)):
        file = segments.file(segment)
        if segment.max_timestamp < -1:
            segment.load_max_timestamp(segments.files, file)
        if segment.max_timestamp < timestamp or segments.end_of(number, log_end_offset) <= segments.start_offset:
            continue
        segment.load_indexes(segments.files, file)
        entry = segment.times.floor(segments.files, 0, timestamp - 1)  # nothing up to its offset is late enough
        least = max(segments.start_offset, segment.base_offset + entry[1] if entry else 0)
        start = segment.position_floor(segments.files, least)
        try:
            for position, header in walk(file, start, segment.size, segment.base_offset):
                if header.max_timestamp >= timestamp and header.last_offset >= segments.start_offset:
                    found = _first_at(segments, file.read(position, header.size), header, timestamp)
                    if found is not None:
                        return found
        except BadBatchError as error:
            raise segment.corrupt(error) from error
    return None


def _first_at(segments: Segments, batch: bytes, header: BatchHeader, timestamp: int) -> TimestampOffset | None:
    if header.is_log_append_time:
        offset = max(header.base_offset, segments.start_offset)
        return TimestampOffset(header.max_timestamp, offset, header.partition_leader_epoch)
    for record in decode_records(batch):
        if record.timestamp >= timestamp and record.offset >= segments.start_offset:
            return TimestampOffset(record.timestamp, record.offset, header.partition_leader_epoch)
    return None


def max_timestamp(segments: Segments, log_end_offset: int, end_offset: int) -> TimestampOffset | None:
    """The record with the largest timestamp below `end_offset` and not below the log start, the first of them; None
    when no such record has one (KIP-734)."""
    best: tuple[int, int] | None = None
    holder: Segment | None = None
    for number, segment in enumerate(segments):
        following = segments.end_of(number, log_end_offset)
        if following <= segments.start_offset or segment.base_offset >= end_offset:
            continue
        found = _latest(segments, segment, end_offset)
        if found is not None and found[0] >= 0 and (best is None or found[0] > best[0]):
            best, holder = found, segment
    if best is None or holder is None:
        return None
    found_batch = _batch(segments, holder, best[1])
    if found_batch is None:
        return None
    header, batch = found_batch
    return _first_at(segments, batch, header, best[0])


def _latest(segments: Segments, segment: Segment, end_offset: int) -> tuple[int, int] | None:
    """The largest timestamp of the segment's readable records, and the last offset of the batch that has it."""
    file = segments.file(segment)
    if segment.max_timestamp < -1:
        segment.load_max_timestamp(segments.files, file)
    if segment.max_timestamp < 0:
        return None
    segment.load_indexes(segments.files, file)
    if _is_readable(segments, segment, segment.max_timestamp_offset, end_offset):
        return segment.max_timestamp, segment.max_timestamp_offset
    entry = segment.times.floor(segments.files, 1, end_offset - 1 - segment.base_offset)
    if entry is None or not _is_readable(segments, segment, segment.base_offset + entry[1], end_offset):
        return _latest_from_start(segments, segment, end_offset)
    # The time index is a running maximum: only batches behind the last one in the offset index can have more.
    best = entry[0], segment.base_offset + entry[1]
    for _, latest, last_offset in _readable(
        segments, segment, segment.position_floor(segments.files, end_offset - 1), end_offset
    ):
        if latest > best[0]:
            best = latest, last_offset
    return best


def _latest_from_start(segments: Segments, segment: Segment, end_offset: int) -> tuple[int, int] | None:
    """The same where no index helps, since the largest timestamp was deleted: every batch is looked at, once."""
    start = segments.start_offset
    known = segment.latest
    if known is None or known.start != start or known.end > end_offset:
        known = Latest(start, start, segment.position_floor(segments.files, start), None)
    best = known.best
    for position, latest, last_offset in _readable(segments, segment, known.position, end_offset):
        if best is None or latest > best[0]:
            best = latest, last_offset
        if last_offset < end_offset:
            known = Latest(start, last_offset + 1, position, best)
    segment.latest = known
    return best


def _readable(segments: Segments, segment: Segment, position: int, end_offset: int) -> Iterator[tuple[int, int, int]]:
    """Of each batch from `position` on with readable records: its end's position, their largest timestamp, its last
    offset."""
    file = segments.file(segment)
    start = segments.start_offset
    try:
        for at, header in walk(file, position, segment.size, segment.base_offset):
            if header.base_offset >= end_offset:
                return
            if header.last_offset < start:
                continue
            latest = header.max_timestamp
            cut = header.base_offset < start or header.last_offset >= end_offset
            if cut and not header.is_log_append_time:
                records = decode_records(file.read(at, header.size))
                latest = max((each.timestamp for each in records if start <= each.offset < end_offset), default=-1)
            yield at + header.size, latest, header.last_offset
    except BadBatchError as error:
        raise segment.corrupt(error) from error


def _is_readable(segments: Segments, segment: Segment, last_offset: int, end_offset: int) -> bool:
    """Whether all of the batch that ends at `last_offset` may be read."""
    if last_offset >= end_offset:
        return False
    if segment.base_offset >= segments.start_offset:
        return True
    found = _batch(segments, segment, last_offset)
    return found is not None and found[0].base_offset >= segments.start_offset


def _batch(segments: Segments, segment: Segment, last_offset: int) -> tuple[BatchHeader, bytes] | None:
    file = segments.file(segment)
    try:
        position, header = segment.seek(segments.files, file, last_offset)
    except BadBatchError as error:
        raise segment.corrupt(error) from error
    return None if header is None else (header, file.read(position, header.size))


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
