"""What a leader checks of a batch that a client sends: Apache Kafka's LogValidator.

The header first (`refuse_client_batch`), then every record of it, decompressed if need be (`wire.record_walk`). What
Kafka derives is derived: MaxTimestamp comes from the records, the type of the timestamps from the topic, and a header
that says otherwise is corrected, with its CRC. A batch whose offsets do not count up is written anew with those that
do, as Kafka does for compressed ones. A topic that asks for another codec gets its batches recompressed in the same
pass.

A small batch that is not compressed is checked in one call (`inspect_small`). `inspect` does any batch in steps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import Final

import google_crc32c

from broadsheet_broker.log.config import PRODUCER_COMPRESSION, LogConfig
from broadsheet_broker.log.errors import RecordValidationError
from broadsheet_broker.seams.steps import Stepwise, run_now
from broadsheet_broker.wire.compression import NONE, CompressionError
from broadsheet_broker.wire.compressors import Compressor
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.pieces import INLINE_BYTES, OPENED_BYTES, PIECE_BYTES, open_small
from broadsheet_broker.wire.record_walk import KEY_MISSING, STEP_RECORDS, RecordWalk, walk
from broadsheet_broker.wire.record_windows import opened
from broadsheet_broker.wire.records import (
    COMPRESSION_MASK,
    CRC_START,
    HEADER,
    HEADER_BYTES,
    LOG_APPEND_TIME_FLAG,
    NO_TIMESTAMP,
    BatchHeader,
    CorruptRecordError,
    Data,
    assemble_batch,
    frame_batch,
    read_varint,
    records_payload,
    write_varint,
)

_ATTRIBUTES: Final = struct.Struct(">h")
_ATTRIBUTES_AT: Final = 21
_MAX_TIMESTAMP: Final = struct.Struct(">q")
_MAX_TIMESTAMP_AT: Final = 35
_CRC: Final = struct.Struct(">I")
_CRC_AT: Final = 17
_UNBOUNDED: Final = 2**63

SMALL_BYTES: Final = 256 * 1024
"""A batch of so many bytes, not compressed and of at most `STEP_RECORDS` records, is checked in one call."""
_CRC_STEP_BYTES: Final = 4 * 1024 * 1024
_RENUMBER_RECORDS: Final = 1000

RENUMBER: Final = -2
"""What `inspect_small` returns for a batch that only `inspect` can store."""

_FIRST_RECORD: Final = HEADER_BYTES - CRC_START


class Checked:
    """A client's batch that its topic takes."""

    __slots__ = ("append_time", "batch")

    def __init__(self, batch: memoryview, append_time: int) -> None:
        self.batch = batch
        """As it is to be stored, but for base offset and leader epoch."""
        self.append_time = append_time
        """ms; -1 unless the topic has LogAppendTime."""


def refuse_client_batch(header: BatchHeader, config: LogConfig) -> None:
    """Raise what Kafka raises for the header of a client's batch; called when a cheap test failed."""
    if header.base_offset != 0:
        raise KafkaError(ErrorCode.INVALID_RECORD, f"base offset {header.base_offset} of a produced batch, not 0")
    if header.is_control:
        raise KafkaError(ErrorCode.INVALID_RECORD, "clients may not write control records")
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise KafkaError(
            ErrorCode.INVALID_RECORD,
            f"sequence {header.base_sequence} in a batch with producer id {header.producer_id}",
        )
    if header.is_log_append_time and (config.log_append_time or header.max_timestamp == NO_TIMESTAMP):
        # Elsewhere Kafka takes the batch and clears the bit.
        raise KafkaError(ErrorCode.INVALID_TIMESTAMP, "producers may not set the timestamp type LogAppendTime")


def inspect_small(body: bytes, row: tuple[int, ...], config: LogConfig, now_ms: int) -> int:
    """Check the records of a batch that is not compressed and small; `body` is the batch from `CRC_START` on.

    Returns the MaxTimestamp (ms) that its header must have, or `RENUMBER`.
    """
    state = _new_walk(row, config, now_ms)
    end = walk(body, _FIRST_RECORD, state, STEP_RECORDS)
    if state.index < state.count or end != len(body):
        state.finish(len(body) - end)
    if state.errors is not None:
        _refuse(state, config, now_ms)
    if state.renumber:
        return RENUMBER
    return now_ms if config.log_append_time else state.max_timestamp


def is_small(row: tuple[int, ...], size: int, config: LogConfig) -> bool:
    """Whether `inspect_small` may check this batch, which takes one short call."""
    return (
        row[5] & COMPRESSION_MASK == NONE
        and size <= SMALL_BYTES
        and row[12] <= STEP_RECORDS
        and config.compression <= NONE
    )


def may_be_small(row: tuple[int, ...], size: int, config: LogConfig) -> bool:
    """Whether `inspect_opened` may be able to check this compressed batch in one short call."""
    codec = row[5] & COMPRESSION_MASK
    return (
        codec != NONE
        and size <= OPENED_BYTES
        and 0 < row[12] <= STEP_RECORDS
        and config.compression in (PRODUCER_COMPRESSION, codec)
        and size <= config.max_message_bytes
    )


def inspect_opened(view: memoryview, row: tuple[int, ...], config: LogConfig, now_ms: int) -> Checked | None:
    """Like `inspect` at once, for a batch that `may_be_small`; None when it is not, or when something is wrong with it
    that only `inspect` can name."""
    body = bytes(view[CRC_START:])
    if google_crc32c.value(body) != row[4]:
        return None
    payload = open_small(row[5] & COMPRESSION_MASK, body[_FIRST_RECORD:])
    if payload is None:
        return None
    state = _new_walk(row, config, now_ms)
    end = walk(payload, 0, state, STEP_RECORDS)
    state.finish(len(payload) - end)
    if state.errors is not None:
        _refuse(state, config, now_ms)
    if state.renumber:
        return None
    append_time = now_ms if config.log_append_time else NO_TIMESTAMP
    latest = append_time if config.log_append_time else state.max_timestamp
    attributes = stored_attributes(row[5], config)
    if attributes != row[5] or latest != row[8]:
        view = stamped(view, attributes, latest)
        run_now(seal(view))
    return Checked(view, append_time)


def inspect(view: memoryview, row: tuple[int, ...], config: LogConfig, now_ms: int) -> Stepwise[Checked]:
    """Check all of one client's batch in steps; `row` is its header. The batch must not be changed meanwhile by others.

    Raises what Kafka answers: CORRUPT_MESSAGE for the CRC, UNKNOWN_SERVER_ERROR for an unknown codec and bytes that do
    not decompress, INVALID_RECORD for records that cannot be read or have no key, INVALID_TIMESTAMP.
    """
    yield from check_crc(view, row[4])
    codec = row[5] & COMPRESSION_MASK
    target = codec if config.compression in (PRODUCER_COMPRESSION, codec) else config.compression
    state = _new_walk(row, config, now_ms)
    output = None if target == codec else Compressor(target)
    try:
        rest = yield from _walk_all(codec, view[HEADER_BYTES:], state, output, config)
        state.finish(rest)
        if state.errors is not None:
            _refuse(state, config, now_ms)
        if state.renumber:
            output = Compressor(target)
            yield from _renumber(codec, view[HEADER_BYTES:], output)
    except CompressionError as error:
        # Kafka has no better code: the exception of its decompressor is none that it knows.
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"the batch cannot be decompressed: {error}") from None
    append_time = now_ms if config.log_append_time else NO_TIMESTAMP
    latest = append_time if config.log_append_time else state.max_timestamp
    attributes = stored_attributes(row[5], config)
    if output is not None:
        view = memoryview(_framed(row, output.finish(), attributes, target, latest))
        yield from seal(view)
    elif attributes != row[5] or latest != row[8]:
        view = stamped(view, attributes, latest)
        yield from seal(view)
    return Checked(view, append_time)


def stored_attributes(attributes: int, config: LogConfig) -> int:
    """A batch's attributes with the type of timestamps that the topic has."""
    return attributes | LOG_APPEND_TIME_FLAG if config.log_append_time else attributes & ~LOG_APPEND_TIME_FLAG


def stamped(view: memoryview, attributes: int, max_timestamp: int) -> memoryview:
    """The batch with another header, in place if that may be; its CRC is to be made right."""
    if view.readonly:
        view = memoryview(bytearray(view))
    _ATTRIBUTES.pack_into(view, _ATTRIBUTES_AT, attributes)
    _MAX_TIMESTAMP.pack_into(view, _MAX_TIMESTAMP_AT, max_timestamp)
    return view


def seal(view: memoryview) -> Stepwise[None]:
    """Write the CRC that the batch's bytes have."""
    crc = yield from _crc_of(view)
    _CRC.pack_into(view, _CRC_AT, crc)


def check_crc(view: memoryview, crc: int) -> Stepwise[None]:
    """Raise CORRUPT_MESSAGE unless that is the CRC of the batch's bytes."""
    real = yield from _crc_of(view)
    if real != crc:
        raise CorruptRecordError(f"record batch with the CRC {crc:#010x} whose bytes have {real:#010x}")


def _crc_of(view: memoryview) -> Stepwise[int]:
    value = done = 0
    for start in range(CRC_START, len(view), PIECE_BYTES):
        if done >= _CRC_STEP_BYTES:
            yield None
            done = 0
        value = google_crc32c.extend(value, bytes(view[start : start + PIECE_BYTES]))
        done += PIECE_BYTES
    return value


def _new_walk(row: tuple[int, ...], config: LogConfig, now_ms: int) -> RecordWalk:
    if config.log_append_time:
        earliest, latest = -_UNBOUNDED, _UNBOUNDED
    else:
        earliest, latest = now_ms - config.timestamp_before_max_ms, now_ms + config.timestamp_after_max_ms
    return RecordWalk(row[12], row[7], row[5] & COMPRESSION_MASK != NONE, config.compacts, earliest, latest)


def _walk_all(
    codec: int, data: memoryview, state: RecordWalk, output: Compressor | None, config: LogConfig
) -> Stepwise[int]:
    """Walk over all records, compressing them again into `output`; returns how many bytes are no records."""
    through = None if output is None else partial(_through, output=output, config=config)
    window = yield from opened(codec, data, through)
    most = INLINE_BYTES if output is None else PIECE_BYTES
    until, done = STEP_RECORDS, 0
    while True:
        window.position = walk(window.data, window.position, state, until)
        if until <= state.index < state.count:
            yield None
            until, done = state.index + STEP_RECORDS, 0
            continue
        if window.ended or (state.index == state.count and window.rest):
            return window.rest
        yield from window.make_room()
        complete = False
        while not complete:
            if done >= most:
                yield None
                until, done = state.index + STEP_RECORDS, 0
            done += PIECE_BYTES
            complete = window.advance()
        yield from window.make_whole()


def _through(pieces: Iterator[bytes], output: Compressor, config: LogConfig) -> Iterator[bytes]:
    for piece in pieces:
        output.add(piece)
        check_size(HEADER_BYTES + output.size, config)
        yield piece


def _renumber(codec: int, data: memoryview, output: Compressor) -> Stepwise[None]:
    """Compress the records, which were walked over, once more with the offsets that their places give them."""
    window = yield from opened(codec, data)
    index = 0
    while True:
        part = bytearray()
        for _ in range(_RENUMBER_RECORDS):
            end = renumber_record(part, window.data, window.position, index)
            if end < 0:
                break
            window.position = end
            index += 1
        output.add(part)
        yield None
        if end >= 0:
            continue
        if window.ended:
            return
        yield from window.make_room()
        while not window.advance():
            yield None
        yield from window.make_whole()


def renumber_record(output: bytearray, data: bytes, position: int, index: int) -> int:
    """Append the record at `position` with the offset delta `index`; returns where it ends, -1 if that is not there."""
    try:
        size, begin = read_varint(data, position)
    except IndexError:
        return -1
    end = begin + size
    if end > len(data):
        return -1
    _, at = read_varint(data, begin + 1)
    body = bytearray(data[begin:at])
    _, at = read_varint(data, at)
    write_varint(body, index)
    body += data[at:end]
    write_varint(output, len(body))
    output += body
    return end


def check_size(size: int, config: LogConfig) -> None:
    """Raise MESSAGE_TOO_LARGE above max.message.bytes."""
    if size > config.max_message_bytes:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"record batch of {size} bytes, more than max.message.bytes={config.max_message_bytes}",
        )


def _framed(row: tuple[int, ...], body: bytes, attributes: int, codec: int, max_timestamp: int) -> bytearray:
    """The batch around another body; its CRC is to be made right."""
    return frame_batch(
        body,
        base_offset=row[0],
        leader_epoch=row[2],
        attributes=(attributes & ~COMPRESSION_MASK) | codec,
        last_offset_delta=row[6],
        base_timestamp=row[7],
        max_timestamp=max_timestamp,
        producer_id=row[9],
        producer_epoch=row[10],
        base_sequence=row[11],
        record_count=row[12],
        sealed=False,
    )


def _refuse(state: RecordWalk, config: LogConfig, now_ms: int) -> None:
    """Raise for the records that cannot be taken, naming them, with the code that Kafka gives to such a mixture."""
    assert state.errors is not None
    texts: list[tuple[int, str]] = []
    code, why = ErrorCode.INVALID_RECORD, "have no key, which a compacted topic needs"
    earliest, latest = now_ms - config.timestamp_before_max_ms, now_ms + config.timestamp_after_max_ms
    for index, reason, timestamp in state.errors:
        if reason == KEY_MISSING:
            texts.append((index, "Compacted topic cannot accept message without key."))
            continue
        code = ErrorCode.INVALID_TIMESTAMP
        why = f"have timestamps outside of {earliest} to {latest} (message.timestamp.before.max.ms and after.max.ms)"
        texts.append(
            (
                index,
                f"Timestamp {timestamp} of message with offset {index} is out of range. "
                f"The timestamp should be within [{earliest}, {latest}]",
            )
        )
    raise RecordValidationError(code, f"{state.refused} of {state.count} records {why}", texts)


def transform_own_batch(header: BatchHeader, batch: Data, config: LogConfig, now_ms: int) -> bytearray:
    """A coordinator's batch as its topic wants it, codec and timestamps changed. A copy. What we write is small."""
    wanted = config.compression
    codec = header.attributes & COMPRESSION_MASK
    recompress = wanted not in (PRODUCER_COMPRESSION, codec) and not header.is_control
    attributes, max_timestamp = header.attributes, header.max_timestamp
    if config.log_append_time:
        attributes |= LOG_APPEND_TIME_FLAG
        max_timestamp = now_ms
    return (assemble_batch if recompress else frame_batch)(
        records_payload(header, batch) if recompress else memoryview(batch)[HEADER_BYTES:],
        base_offset=header.base_offset,
        leader_epoch=header.partition_leader_epoch,
        attributes=(attributes & ~COMPRESSION_MASK) | wanted if recompress else attributes,
        last_offset_delta=header.last_offset_delta,
        base_timestamp=header.base_timestamp,
        max_timestamp=max_timestamp,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        record_count=header.record_count,
    )


def parse_header(view: Data, position: int) -> BatchHeader:
    """The header at `position`; raises CorruptRecordError when that is too near to the end."""
    if len(view) - position < HEADER.size:
        raise CorruptRecordError(f"{len(view) - position} bytes are too few for a record batch")
    return BatchHeader(*HEADER.unpack_from(view, position))
