"""Walking over the batches of a segment file: by headers only, or checking every byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

import google_crc32c

from broadsheet_broker.seams import File
from broadsheet_broker.wire.records import CRC_START, HEADER, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC, BatchHeader

_HEAD_WINDOW_BYTES = 16 * 1024
_CHECK_CHUNK_BYTES = 1024 * 1024
_SMALLEST_LENGTH = HEADER_BYTES - LOG_OVERHEAD_BYTES
_LENGTH = struct.Struct(">i")


class BadBatchError(Exception):
    """There is no complete, valid batch at `position`."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"at byte {position}: {reason}")
        self.position = position
        self.reason = reason


def header_fault(header: BatchHeader, room: int, least_offset: int) -> str | None:
    """Why this header cannot stand where `room` bytes are left and offsets from `least_offset` are expected."""
    if header.magic != MAGIC:
        return f"magic {header.magic} where {MAGIC} is expected"
    if header.batch_length < _SMALLEST_LENGTH:
        return f"a batch length of {header.batch_length} bytes"
    if header.batch_length + LOG_OVERHEAD_BYTES > room:
        return f"a batch of {header.batch_length + LOG_OVERHEAD_BYTES} bytes of which {room} are there"
    if header.base_offset < least_offset or header.last_offset_delta < 0:
        return f"offsets {header.base_offset} to {header.last_offset} where {least_offset} or more is expected"
    return None


class Readable(Protocol):
    """All that `walk` needs of a file."""

    def read(self, offset: int, size: int) -> bytes: ...


def walk(file: Readable, position: int, end: int, least_offset: int = 0) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each batch from `position` up to `end`; raises BadBatchError where there is none.

    Only headers are read: whole windows of the file while batches are small, single headers when they are large.
    """
    window = b""
    start = position
    while position < end:
        at = position - start
        if at + HEADER_BYTES > len(window):
            start, at = position, 0
            window = file.read(position, min(_HEAD_WINDOW_BYTES, end - position))
            if len(window) < HEADER_BYTES:
                raise BadBatchError(position, f"{len(window)} bytes are too few for the header of a batch")
        header = BatchHeader(*HEADER.unpack_from(window, at))
        fault = header_fault(header, end - position, least_offset)
        if fault is not None:
            raise BadBatchError(position, fault)
        yield position, header
        position += header.batch_length + LOG_OVERHEAD_BYTES


def check(file: File, position: int, end: int, least_offset: int) -> Iterator[tuple[int, BatchHeader]]:
    """Like `walk`, but every byte is read, every CRC checked and offsets must ascend. Memory stays bounded."""
    window = b""
    start = position
    while position < end:
        at = position - start
        if at + HEADER_BYTES > len(window):
            start, at = position, 0
            window = file.read(position, min(_CHECK_CHUNK_BYTES, end - position))
            if len(window) < HEADER_BYTES:
                raise BadBatchError(position, f"{len(window)} bytes are too few for the header of a batch")
        header = BatchHeader(*HEADER.unpack_from(window, at))
        fault = header_fault(header, end - position, least_offset)
        if fault is not None:
            raise BadBatchError(position, fault)
        size = header.batch_length + LOG_OVERHEAD_BYTES
        if at and at + size > len(window) and size <= _CHECK_CHUNK_BYTES:
            start, at = position, 0
            window = file.read(position, min(_CHECK_CHUNK_BYTES, end - position))
        if at + size <= len(window):
            crc = google_crc32c.value(window[at + CRC_START : at + size])
        else:
            crc = file_crc(file, position + CRC_START, position + size)
        if crc != header.crc:
            raise BadBatchError(position, f"a batch with the CRC {header.crc:#010x} whose bytes have {crc:#010x}")
        yield position, header
        least_offset = header.last_offset + 1
        position += size


def file_crc(file: File, position: int, end: int) -> int:
    """CRC32C of a range of the file, a chunk at a time."""
    crc = 0
    while position < end:
        chunk = file.read(position, min(_CHECK_CHUNK_BYTES, end - position))
        if not chunk:
            break
        crc = google_crc32c.extend(crc, chunk)
        position += len(chunk)
    return crc


def find_valid_batch(file: File, position: int, end: int, least_offset: int) -> int | None:
    """The position of a whole batch with a right CRC and offsets from `least_offset`, anywhere in the range.

    Distinguishes corruption in the middle from a torn tail, after which nothing valid follows. Batches may start at any
    byte, so every byte 2 is tried as the magic of a header; what cannot be a header is dismissed by its offset's upper
    half, which must be that of the expected offset or the next, and its length.
    """
    uppers = {struct.pack(">I", least_offset >> 32), struct.pack(">I", (least_offset >> 32) + 1)}
    while position < end:
        window = file.read(position, min(_CHECK_CHUNK_BYTES + HEADER_BYTES, end - position))
        if len(window) < HEADER_BYTES:
            return None
        found = window.find(b"\x02", 16)
        while 0 <= found <= len(window) - (HEADER_BYTES - 16):
            at = found - 16
            if window[at : at + 4] in uppers:
                header = BatchHeader(*HEADER.unpack_from(window, at))
                begin = position + at
                if header_fault(header, end - begin, least_offset) is None and header.record_count >= 0:
                    size = header.batch_length + LOG_OVERHEAD_BYTES
                    if file_crc(file, begin + CRC_START, begin + size) == header.crc:
                        return begin
            found = window.find(b"\x02", found + 1)
        position += max(1, len(window) - HEADER_BYTES + 1)
    return None
