"""The slow half of an append: what the 61 bytes of the header cannot decide.

Most batches never come here. Those that do are for compacted topics (every record needs a key), topics with
LogAppendTime, or topics that ask for another codec than the producer used (recompression).
"""

from __future__ import annotations

import struct

from broadsheet_broker.log.config import PRODUCER_COMPRESSION, LogConfig
from broadsheet_broker.log.errors import RecordValidationError
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import (
    COMPRESSION_MASK,
    HEADER,
    LOG_APPEND_TIME_FLAG,
    BatchHeader,
    CorruptRecordError,
    Data,
    assemble_batch,
    read_varint,
    records_payload,
    seal_batch,
)

_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_AT = 21
_MAX_TIMESTAMP = struct.Struct(">q")
_MAX_TIMESTAMP_AT = 35
NO_TIMESTAMP = -1


def refuse_client_batch(header: BatchHeader, config: LogConfig, now_ms: int) -> None:
    """Raise what Kafka raises for a client's batch that this topic does not take; called when a cheap test failed."""
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
    if config.log_append_time:
        return
    if header.max_timestamp - now_ms > config.timestamp_after_max_ms:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {header.max_timestamp} is more than {config.timestamp_after_max_ms} ms after the broker's time "
            f"{now_ms} (message.timestamp.after.max.ms)",
        )
    if 0 <= header.max_timestamp < now_ms - config.timestamp_before_max_ms:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {header.max_timestamp} is more than {config.timestamp_before_max_ms} ms before the broker's "
            f"time {now_ms} (message.timestamp.before.max.ms)",
        )


def transform_batch(header: BatchHeader, batch: Data, config: LogConfig, now_ms: int, *, client: bool) -> bytearray:
    """The batch as the topic wants it: keys checked, codec and timestamps changed, CRC right. A copy."""
    wanted = config.compression
    codec = header.attributes & COMPRESSION_MASK
    recompress = wanted not in (PRODUCER_COMPRESSION, codec) and not header.is_control
    payload = None
    if config.compacts and client and not header.is_control:
        payload = records_payload(header, batch)
        check_keys(payload, header.record_count)
    attributes = header.attributes
    max_timestamp = header.max_timestamp
    if config.log_append_time:
        attributes |= LOG_APPEND_TIME_FLAG
        max_timestamp = now_ms
    elif client:
        attributes &= ~LOG_APPEND_TIME_FLAG
    if recompress:
        return assemble_batch(
            records_payload(header, batch) if payload is None else payload,
            base_offset=header.base_offset,
            leader_epoch=header.partition_leader_epoch,
            attributes=(attributes & ~COMPRESSION_MASK) | wanted,
            last_offset_delta=header.last_offset_delta,
            base_timestamp=header.base_timestamp,
            max_timestamp=max_timestamp,
            producer_id=header.producer_id,
            producer_epoch=header.producer_epoch,
            base_sequence=header.base_sequence,
            record_count=header.record_count,
        )
    copy = bytearray(batch)
    if attributes != header.attributes or max_timestamp != header.max_timestamp:
        _ATTRIBUTES.pack_into(copy, _ATTRIBUTES_AT, attributes)
        _MAX_TIMESTAMP.pack_into(copy, _MAX_TIMESTAMP_AT, max_timestamp)
        seal_batch(copy)
    return copy


def check_keys(payload: Data, count: int) -> None:
    """Every record has a key, as a compacted topic needs it, and is such that the cleaner can copy it."""
    position = 0
    missing: list[tuple[int, str]] = []
    try:
        for index in range(count):
            size, position = read_varint(payload, position)
            end = position + size
            if size < 0 or end > len(payload):
                raise CorruptRecordError(f"record of {size} bytes of which {len(payload) - position} are there")
            _, position = read_varint(payload, position + 1)
            offset_delta, position = read_varint(payload, position)
            if offset_delta != index:
                raise KafkaError(ErrorCode.INVALID_RECORD, f"record {index} of the batch has offset {offset_delta}")
            key_size, position = read_varint(payload, position)
            if key_size < 0:
                missing.append((index, "Compacted topic cannot accept message without key."))
            else:
                position += key_size
            value_size, position = read_varint(payload, position)
            if value_size > 0:
                position += value_size
            header_count, position = read_varint(payload, position)
            if header_count:
                position = _skip_headers(payload, position, header_count, end)
            if position != end:
                raise CorruptRecordError(f"record {index} of the batch ends {end - position} bytes before its length")
    except IndexError as error:
        raise CorruptRecordError("batch ends within a record") from error
    if position != len(payload):
        raise CorruptRecordError(f"{len(payload) - position} bytes after the last record of the batch")
    if missing:
        raise RecordValidationError(
            ErrorCode.INVALID_RECORD, f"{len(missing)} of {count} records have no key, which compaction needs", missing
        )


def _skip_headers(payload: Data, position: int, count: int, end: int) -> int:
    if not 0 <= 2 * count <= end - position:
        raise CorruptRecordError(f"record with {count} headers in {end - position} bytes")
    for _ in range(count):
        name_size, position = read_varint(payload, position)
        if name_size < 0:
            raise CorruptRecordError("record header with a null key")
        value_size, position = read_varint(payload, position + name_size)
        if value_size > 0:
            position += value_size
    return position


def parse_header(view: Data, position: int) -> BatchHeader:
    """The header at `position`; raises CorruptRecordError when that is too near to the end."""
    if len(view) - position < HEADER.size:
        raise CorruptRecordError(f"{len(view) - position} bytes are too few for a record batch")
    return BatchHeader(*HEADER.unpack_from(view, position))
