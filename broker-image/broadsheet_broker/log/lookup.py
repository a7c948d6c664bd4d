"""Offsets by time (ListOffsets), and the aborted transactions of a range (read_committed fetches)."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.log.segment import Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction, read_aborted
from broadsheet_broker.wire.records import BatchHeader, decode_records

if TYPE_CHECKING:
    from broadsheet_broker.log.log import Log


class TimestampOffset(NamedTuple):
    timestamp: int
    """ms."""
    offset: int
    leader_epoch: int


def offset_for_timestamp(log: Log, timestamp: int) -> TimestampOffset | None:
    """The first record, by offset, whose timestamp is `timestamp` (ms) or later."""
    log.flush_for_read()
    for segment in list(log.segments):
        file = log._pool.file(segment)
        if segment.max_timestamp < -1:
            segment.load_max_timestamp(log.files, file)
        if segment.max_timestamp < timestamp or _end_of(log, segment) <= log.log_start_offset:
            continue
        segment.load_indexes(log.files, file)
        entry = segment.times.floor(log.files, 0, timestamp - 1)  # nothing up to its offset is late enough
        least = max(log.log_start_offset, segment.base_offset + entry[1] if entry else 0)
        start = segment.position_floor(log.files, least)
        try:
            for position, header in walk(file, start, segment.size, segment.base_offset):
                if header.max_timestamp >= timestamp and header.last_offset >= log.log_start_offset:
                    found = _first_at(log, file.read(position, header.size), header, timestamp)
                    if found is not None:
                        return found
        except BadBatchError as error:
            raise segment.corrupt(error) from error
    return None


def _first_at(log: Log, batch: bytes, header: BatchHeader, timestamp: int) -> TimestampOffset | None:
    if header.is_log_append_time:
        offset = max(header.base_offset, log.log_start_offset)
        return TimestampOffset(header.max_timestamp, offset, header.partition_leader_epoch)
    for record in decode_records(batch):
        if record.timestamp >= timestamp and record.offset >= log.log_start_offset:
            return TimestampOffset(record.timestamp, record.offset, header.partition_leader_epoch)
    return None


def max_timestamp(log: Log) -> TimestampOffset | None:
    """The record with the largest timestamp, the first of them; None when no record has one (KIP-734)."""
    log.flush_for_read()
    best: Segment | None = None
    for segment in log.segments:
        if segment.max_timestamp < -1:
            segment.load_max_timestamp(log.files, log._pool.file(segment))
        if segment.max_timestamp >= 0 and (best is None or segment.max_timestamp > best.max_timestamp):
            best = segment
    if best is None:
        return None
    file = log._pool.file(best)
    try:
        position, header = best.seek(log.files, file, best.max_timestamp_offset)
    except BadBatchError as error:
        raise best.corrupt(error) from error
    if header is None:
        return None
    return _first_at(log, file.read(position, header.size), header, best.max_timestamp)


def aborted_transactions(log: Log, first_offset: int, end_offset: int) -> list[AbortedTransaction]:
    """The aborted transactions with records in [first, end); the fetch answer names them."""
    found: list[AbortedTransaction] = []
    number = max(0, bisect_right([segment.base_offset for segment in log.segments], first_offset) - 1)
    for segment in log.segments[number:]:
        if not segment.aborted:
            continue
        for entry in read_aborted(log.files, segment.stem):
            if entry.last_offset >= first_offset and entry.first_offset < end_offset:
                found.append(entry)
            if entry.last_stable_offset >= end_offset:
                return found
    return found


def _end_of(log: Log, segment: Segment) -> int:
    number = log.segments.index(segment) + 1
    return log.segments[number].base_offset if number < len(log.segments) else log.log_end_offset
