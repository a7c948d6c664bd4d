"""Giving batches their offsets and queueing them, as a leader and as a follower; `Tail` puts them into the file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import google_crc32c

from broadsheet_broker.log.producer_state import read_marker
from broadsheet_broker.log.results import AppendInfo
from broadsheet_broker.log.rolling import roll, roll_due
from broadsheet_broker.log.segment import MAX_RELATIVE_OFFSET
from broadsheet_broker.log.validation import (
    RENUMBER,
    SMALL_BYTES,
    check_crc,
    check_size,
    inspect,
    inspect_opened,
    inspect_small,
    is_small,
    may_be_small,
    parse_header,
    refuse_client_batch,
    seal,
    stamped,
    stored_attributes,
    transform_own_batch,
)
from broadsheet_broker.seams.steps import run_now
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import (
    COMPRESSION_MASK,
    CONTROL_FLAG,
    CRC_START,
    HEADER,
    HEADER_BYTES,
    LOG_APPEND_TIME_FLAG,
    LOG_OVERHEAD_BYTES,
    MAGIC,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    CorruptRecordError,
    advance_sequence,
    crc32c,
)

if TYPE_CHECKING:
    from broadsheet_broker.log.config import LogConfig
    from broadsheet_broker.log.segments import Segments
    from broadsheet_broker.log.tail import Tail
    from broadsheet_broker.log.validation import Checked
    from broadsheet_broker.seams import Buffer
    from broadsheet_broker.seams.steps import Stepwise

CLIENT: Final = "client"
"""Origin of an append: a producer. Everything is checked."""
COORDINATOR: Final = "coordinator"
"""A coordinator of this broker: offsets, groups, markers. No sequence numbers."""
RAFT: Final = "raft"
"""The metadata log's leader."""

_OFFSET: Final = struct.Struct(">q")
_EPOCH: Final = struct.Struct(">i")


def append_as_leader(
    tail: Tail,
    records: memoryview | bytes | bytearray,
    leader_epoch: int,
    now_ms: int,
    origin: str,
    checked: Checked | None = None,
) -> AppendInfo:
    """Give the batch (a client sends exactly one) its offsets and queue it.

    The bytes must stay as they are until they are written. A writable view is changed in place. `checked` is what the
    work of `checking` returned for the same records, if there was any.
    """
    offline = tail.segments.offline
    if offline is not None:
        raise offline.again()
    view = records if type(records) is memoryview else memoryview(records)
    client = origin == CLIENT
    if checked is not None:
        view = checked.batch
        return _append_batch(tail, view, HEADER.unpack_from(view), leader_epoch, now_ms, client, checked)
    size = len(view)
    if size < HEADER_BYTES:
        raise CorruptRecordError(f"{size} bytes are too few for a record batch")
    row = HEADER.unpack_from(view)
    if row[1] + LOG_OVERHEAD_BYTES == size:
        if client and row[3] == MAGIC and not is_small(row, size, tail.segments.config):
            checked = run_now(_check(view, row, tail.segments.config, now_ms))
            view = checked.batch
            row = HEADER.unpack_from(view)
        return _append_batch(tail, view, row, leader_epoch, now_ms, client, checked)
    if client:
        if row[3] == MAGIC and LOG_OVERHEAD_BYTES + row[1] < size and row[1] >= HEADER_BYTES - LOG_OVERHEAD_BYTES:
            raise KafkaError(ErrorCode.INVALID_RECORD, "a produce request carries one record batch per partition")
        raise CorruptRecordError(f"record batch with a length of {row[1]} bytes in {size} bytes")
    return _append_several(tail, view, leader_epoch, now_ms)


def checking(segments: Segments, records: memoryview, now_ms: int, *, small: bool = False) -> Stepwise[Checked] | None:
    """The work of checking a client's batch that is too much for one short call; None for any other.

    What it returns goes to `append_as_leader`, which otherwise does all checks itself. `small`: also for a batch that
    can be checked in one short call, as when a request has many of them.
    """
    size = len(records)
    if size < HEADER_BYTES:
        return None
    row = HEADER.unpack_from(records)
    if row[1] + LOG_OVERHEAD_BYTES != size or row[3] != MAGIC:
        return None
    if not small and is_small(row, size, segments.config):
        return None
    return _check(records, row, segments.config, now_ms)


def check_opened(segments: Segments, records: memoryview, now_ms: int) -> Checked | None:
    """Check a small compressed batch in one short call; None for one that may be more, or is wrong: see `checking`."""
    size = len(records)
    if size < HEADER_BYTES:
        return None
    row = HEADER.unpack_from(records)
    config = segments.config
    if row[1] + LOG_OVERHEAD_BYTES != size or row[3] != MAGIC or not may_be_small(row, size, config):
        return None
    _check_count(row)
    refuse_client_batch(BatchHeader(*row), config)
    return inspect_opened(records, row, config, now_ms)


def _check(view: memoryview, row: tuple[int, ...], config: LogConfig, now_ms: int) -> Stepwise[Checked]:
    check_size(len(view), config)
    _check_count(row)
    refuse_client_batch(BatchHeader(*row), config)
    return (yield from inspect(view, row, config, now_ms))


def _check_count(row: tuple[int, ...]) -> None:
    count, delta = row[12], row[6]
    if count != delta + 1 or count <= 0:
        raise KafkaError(ErrorCode.INVALID_RECORD, f"record batch of {count} records with last offset delta {delta}")


def _append_several(tail: Tail, view: memoryview, leader_epoch: int, now_ms: int) -> AppendInfo:
    first, last, position, latest = tail.end, tail.end - 1, 0, -1
    while position < len(view):
        header = parse_header(view, position)
        if not 0 < header.size <= len(view) - position:
            raise CorruptRecordError(f"record batch with a length of {header.batch_length} bytes")
        part = view[position : position + header.size]
        info = _append_batch(tail, part, HEADER.unpack_from(part), leader_epoch, now_ms, False)
        last, latest = info.last_offset, max(latest, info.max_timestamp)
        position += header.size
    return AppendInfo(first, last, now_ms if tail.segments.config.log_append_time else -1, latest, len(view))


def _append_batch(
    tail: Tail,
    view: memoryview,
    row: tuple[int, ...],
    leader_epoch: int,
    now_ms: int,
    client: bool,
    checked: Checked | None = None,
) -> AppendInfo:
    (base, _, _, magic, crc, attributes, delta, _, max_timestamp, producer_id, epoch, sequence, count) = row
    size = len(view)
    config = tail.segments.config
    body: bytes | None = None
    if checked is None:
        if magic != MAGIC:
            raise CorruptRecordError(f"record batch with magic {magic}; only magic {MAGIC} is supported")
        if size > config.max_message_bytes:
            check_size(size, config)
        if size <= SMALL_BYTES:
            body = bytes(view[CRC_START:])
            if google_crc32c.value(body) != crc:
                raise CorruptRecordError(f"record batch with the CRC {crc:#010x}, which its bytes do not have")
        elif not client:
            run_now(check_crc(view, crc))
        if count != delta + 1 or count <= 0:
            _check_count(row)
        if client and (
            base != 0 or attributes & (CONTROL_FLAG | LOG_APPEND_TIME_FLAG) or (producer_id >= 0 and sequence < 0)
        ):
            refuse_client_batch(BatchHeader(*row), config)
    last_sequence = -1
    if producer_id >= 0 and not attributes & CONTROL_FLAG:
        last_sequence = (sequence + delta) & 0x7FFFFFFF if sequence >= 0 else -1
        producers = tail.producers
        if client:
            known = producers.find_duplicate(producer_id, epoch, sequence, last_sequence)
            if known is not None:
                return AppendInfo(known[2], known[3], -1, known[4], size, True)
        producers.check(producer_id, epoch, sequence, sequences=client)
        producers.check_transaction(producer_id, transactional=attributes & TRANSACTIONAL_FLAG != 0)
    append_time = now_ms if config.log_append_time else -1
    if checked is not None:
        append_time = checked.append_time
    elif client:
        assert body is not None  # whatever is not small was checked before
        latest = inspect_small(body, row, config, now_ms)
        if latest == RENUMBER:
            view = run_now(inspect(view, row, config, now_ms)).batch
            max_timestamp = HEADER.unpack_from(view)[8]
        elif latest != max_timestamp or append_time >= 0 or attributes & LOG_APPEND_TIME_FLAG:
            view = stamped(view, stored_attributes(attributes, config), latest)
            run_now(seal(view))
            max_timestamp = latest
    elif append_time >= 0 or config.compression not in (-1, attributes & COMPRESSION_MASK):
        view = memoryview(transform_own_batch(BatchHeader(*row), view, config, now_ms))
        max_timestamp = max(max_timestamp, append_time)
    size = len(view)
    if size > config.max_message_bytes:
        check_size(size, config)
    if size > config.segment_bytes:
        raise KafkaError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"record batch of {size} bytes, more than segment.bytes={config.segment_bytes}",
        )
    offset = tail.end
    last_offset = offset + delta
    active = tail.active
    if (
        active.size + size > config.segment_bytes
        or last_offset - active.base_offset > MAX_RELATIVE_OFFSET
        or roll_due(tail, max_timestamp, now_ms)
    ):
        roll(tail, now_ms)
    parts: tuple[Buffer, ...]
    if view.readonly:
        head = bytearray(view[:16])
        _OFFSET.pack_into(head, 0, offset)
        _EPOCH.pack_into(head, 12, leader_epoch)
        parts = (head, view[16:])
    else:
        _OFFSET.pack_into(view, 0, offset)
        _EPOCH.pack_into(view, 12, leader_epoch)
        parts = (view,)
    tail.add(parts, last_offset, max_timestamp, size)
    if leader_epoch != tail.epochs.latest:
        tail.epochs.assign(leader_epoch, offset)
    if producer_id >= 0:
        _note_producer(tail, view, attributes, producer_id, epoch, sequence, last_sequence, offset, max_timestamp)
    return AppendInfo(offset, last_offset, append_time, max_timestamp, size)


def append_as_follower(tail: Tail, records: memoryview | bytes | bytearray) -> AppendInfo:
    """Queue batches fetched from the leader as they are; an incomplete last batch is left out."""
    offline = tail.segments.offline
    if offline is not None:
        raise offline.again()
    view = records if type(records) is memoryview else memoryview(records)
    config = tail.segments.config
    first, latest, position, total = -1, -1, 0, len(view)
    now_ms = tail.segments.environment.clock.time_ms()
    while total - position >= HEADER_BYTES:
        header = BatchHeader(*HEADER.unpack_from(view, position))
        size = header.batch_length + LOG_OVERHEAD_BYTES
        if size > total - position:
            break
        part = view[position : position + size]
        if header.magic != MAGIC or size < HEADER_BYTES or header.last_offset_delta < 0:
            raise CorruptRecordError(f"what the leader sent at byte {position} is not a record batch: {header!r}")
        if crc32c(part[21:]) != header.crc:
            raise CorruptRecordError(f"batch at offset {header.base_offset} from the leader has a wrong CRC")
        if header.base_offset < tail.end:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"batch at offset {header.base_offset} from the leader, where {tail.end} or more is expected",
            )
        active = tail.active
        max_timestamp = header.latest_timestamp
        if (
            active.size + size > config.segment_bytes
            or header.last_offset - active.base_offset > MAX_RELATIVE_OFFSET
            or roll_due(tail, max_timestamp, now_ms)
        ):
            roll(tail, now_ms, header.base_offset)
        tail.add((part,), header.last_offset, max_timestamp, size)
        tail.epochs.assign(header.partition_leader_epoch, header.base_offset)
        if header.producer_id >= 0:
            last_sequence = (
                advance_sequence(header.base_sequence, header.last_offset_delta) if header.base_sequence >= 0 else -1
            )
            _note_producer(
                tail,
                part,
                header.attributes,
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                last_sequence,
                header.base_offset,
                max_timestamp,
            )
        first = header.base_offset if first < 0 else first
        latest = max(latest, max_timestamp)
        position += size
    return AppendInfo(first, tail.end - 1, -1, latest, position)


def _note_producer(
    tail: Tail,
    batch: memoryview,
    attributes: int,
    producer_id: int,
    epoch: int,
    sequence: int,
    last_sequence: int,
    first_offset: int,
    timestamp: int,
) -> None:
    """Advance the producer's state by a batch that ends at the log's end."""
    if attributes & CONTROL_FLAG:
        marker = read_marker(batch)
        if marker is not None:
            completed = tail.producers.apply_marker(producer_id, epoch, *marker, first_offset, timestamp)
            if completed is not None:
                tail.complete(completed)
    else:
        transactional = attributes & TRANSACTIONAL_FLAG != 0
        tail.producers.apply(
            producer_id, epoch, sequence, last_sequence, first_offset, tail.end - 1, timestamp, transactional
        )
