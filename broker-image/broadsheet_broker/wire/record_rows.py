"""What compaction and look-ups by time need of each record: where it stands, its key, whether it has a value."""

from __future__ import annotations

from typing import Final, NamedTuple

from broadsheet_broker.wire.records import CorruptRecordError, read_varint, write_varint

STEP_ROWS: Final = 2000
"""Records that one turn of the loop may read or copy: about 5 ms in pure Python."""


class Row(NamedTuple):
    """One record within `data`."""

    start: int
    body: int
    """Where its length ends and its attributes stand."""
    rest: int
    """Where its timestamp delta ends."""
    end: int
    timestamp_delta: int
    offset_delta: int
    key: bytes | None
    has_value: bool


def read_rows(data: bytes, position: int, rows: list[Row], most: int) -> int:
    """Append up to `most` whole records from `position` on to `rows`; returns where the next one begins.

    Raises CorruptRecordError for a record that cannot be read.
    """
    total = len(data)
    for _ in range(most):
        if position >= total:
            break
        start = position
        try:
            size, body = read_varint(data, position)
        except IndexError:
            break
        end = body + size
        if size < 0:
            raise CorruptRecordError(f"record with a length of {size} bytes")
        if end > total:
            break
        try:
            timestamp_delta, rest = read_varint(data, body + 1)
            offset_delta, at = read_varint(data, rest)
            size, at = read_varint(data, at)
            key = None
            if size >= 0:
                key = data[at : at + size]
                at += size
            size, at = read_varint(data, at)
        except IndexError:
            raise CorruptRecordError("record that is shorter than its fields") from None
        if at + max(size, 0) >= end:
            raise CorruptRecordError("record that is shorter than its fields")
        rows.append(Row(start, body, rest, end, timestamp_delta, offset_delta, key, size >= 0))
        position = end
    return position


def copy_row(output: bytearray, data: bytes, row: Row, timestamp_shift: int) -> None:
    """Append one record to `output`, with its timestamp delta larger by `timestamp_shift` (ms)."""
    if not timestamp_shift:
        output += data[row.start : row.end]
        return
    body = bytearray(data[row.body : row.body + 1])
    write_varint(body, row.timestamp_delta + timestamp_shift)
    body += data[row.rest : row.end]
    write_varint(output, len(body))
    output += body
