"""When the record at an offset was written, read from the bytes of a fetch.

Only what is needed is decoded: the batch header, and of uncompressed batches the first fields of each record. For a
compressed batch, or one that was cut off, the time of its first record is taken: earlier than the exact one by at most
the time that the producer let the batch gather.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct(">qiibIhiqqqhii")
_LENGTH_BEFORE_EPOCH = 12
_LOG_APPEND_TIME, _CONTROL, _CODEC = 0x08, 0x20, 0x07


def time_at(data: bytes | memoryview, offset: int) -> int | None:
    """Unix ms of the first record at or after the offset; None where these bytes have none."""
    view = memoryview(data)
    position = 0
    while position + _HEADER.size <= len(view):
        header = _HEADER.unpack_from(view, position)
        base_offset, length, _, magic, _, attributes, last_delta, base_time, max_time, *_, count = header
        if magic != 2 or length < _HEADER.size - _LENGTH_BEFORE_EPOCH:
            return None
        end = position + _LENGTH_BEFORE_EPOCH + length
        if base_offset + last_delta >= offset and not attributes & _CONTROL:
            if attributes & _LOG_APPEND_TIME:
                return int(max_time)
            if attributes & _CODEC or end > len(view) or base_offset >= offset:
                return int(base_time)
            exact = _time_in(view, position + _HEADER.size, end, count, offset - base_offset)
            return int(base_time) if exact is None else int(base_time) + exact
        position = end
    return None


def _time_in(view: memoryview, position: int, end: int, count: int, delta: int) -> int | None:
    """Timestamp delta of the first record whose offset delta is at least `delta`."""
    try:
        for _ in range(count):
            length, start = _varint(view, position)
            time_delta, after = _varint(view, start + 1)
            offset_delta, _ = _varint(view, after)
            if offset_delta >= delta:
                return time_delta
            position = start + length
            if length <= 0 or position >= end:
                return None
    except IndexError:
        return None
    return None


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A zigzag varint and the position after it."""
    value = shift = 0
    while True:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > 63:
            raise IndexError("a varint of more than ten bytes")
