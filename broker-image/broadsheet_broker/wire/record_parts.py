"""Decodes the records of one batch some at a time, for work that pauses between them."""

from __future__ import annotations

from collections.abc import Iterator

from broadsheet_broker.wire.records import (
    CorruptRecordError,
    Data,
    Record,
    decode_record,
    parse_batch,
    records_payload,
)


def decode_in_parts(batch: Data, most: int) -> Iterator[list[Record]]:
    """The records of one whole batch, up to `most` at a time. Raises CorruptRecordError."""
    header = parse_batch(batch)
    data = records_payload(header, batch)
    append_time = header.max_timestamp if header.is_log_append_time else None
    position = 0
    left = header.record_count
    while left > 0:
        part: list[Record] = []
        try:
            for _ in range(min(most, left)):
                record, position = decode_record(data, position, header.base_offset, header.base_timestamp, append_time)
                part.append(record)
        except IndexError as error:
            raise CorruptRecordError(f"record batch at offset {header.base_offset} ends within a record") from error
        left -= len(part)
        yield part
    if position != len(data):
        raise CorruptRecordError(f"{len(data) - position} bytes after the last record of the batch")
