"""A batch's payload in pieces, so that opening one that becomes a hundred megabytes needs neither a long turn of the
loop nor that much memory.

| codec  | pieces                                                                                            |
| ------ | ------------------------------------------------------------------------------------------------- |
| none   | slices of the batch                                                                               |
| gzip   | what comes out of the stream, `PIECE_BYTES` at a time                                              |
| snappy | xerial's blocks, of 32 KiB in the Java client; a bare block is one piece                         |
| lz4    | the blocks of the frame, at most 4 MiB each; one piece when it has checksums of its data          |
| zstd   | the compiled package opens whole frames only: one piece                                           |

What would come out as one piece of more than `INLINE_BYTES` needs `Payload.room`: the caller waits for that much of the
broker's budget and runs the function in a thread, which the compiled package allows (it releases the interpreter lock).
The sizes are bounds that hold whatever the data claims: a zstd block makes at most 128 KiB, a snappy element of three
bytes at most 64.

As in Apache Kafka, LZ4 frames with blocks that depend on earlier ones are refused: its clients cannot read them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

from broadsheet_broker.seams.steps import Room
from broadsheet_broker.wire.compression import (
    GZIP,
    LZ4,
    MAX_DECOMPRESSED_BYTES,
    NONE,
    SNAPPY,
    XERIAL_MAGIC,
    ZSTD,
    CompressionError,
    cramjam,
    snappy_blocks,
)

PIECE_BYTES: Final = 256 * 1024
INLINE_BYTES: Final = 1024 * 1024
"""What may be opened in one call on the loop: less than a millisecond."""

_LZ4_MAGIC: Final = 0x184D2204
_LZ4_STORED: Final = 0x80000000
_ZSTD_MAGIC: Final = 0xFD2FB528
_ZSTD_SKIPPABLE: Final = 0x184D2A50
_ZSTD_BLOCK_BYTES: Final = 128 * 1024
_MOST_BLOCKS: Final = 4096
"""Blocks that are counted for a bound. Data with more of them is cut finer than a producer does."""
_GZIP_FEED_BYTES: Final = 16 * 1024
"""Compressed bytes that are given to the stream at a time: what it leaves of them is copied each time."""
_SNAPPY_RATIO: Final = 22
"""An element of three bytes copies at most 64."""


OPENED_BYTES: Final = 64 * 1024
"""Compressed bytes that `open_small` looks at."""
_scratch = bytearray(PIECE_BYTES)


def open_small(codec: int, data: bytes) -> bytes | None:
    """The payload, if it is right and has at most `PIECE_BYTES`; else None. For the event loop's thread only."""
    try:
        if codec == ZSTD:
            return bytes(memoryview(_scratch)[: cramjam().zstd.decompress_into(data, _scratch)])
        if codec == LZ4:
            if len(data) < 7 or not data[4] & 0x20:
                return None
            return bytes(memoryview(_scratch)[: cramjam().lz4.decompress_into(data, _scratch)])
        if codec == GZIP:
            stream = zlib.decompressobj(wbits=31)
            payload = stream.decompress(data, PIECE_BYTES)
            return payload if stream.eof and not stream.unused_data else None
        if codec == SNAPPY:
            return _open_small_snappy(data)
    except (cramjam().DecompressionError, OSError, zlib.error, CompressionError):
        pass
    return None


def _open_small_snappy(data: bytes) -> bytes | None:
    parts: list[bytes] = []
    room = PIECE_BYTES
    for block in snappy_blocks(memoryview(data)):
        room -= _snappy_size(block)
        if room < 0:
            return None
        parts.append(bytes(cramjam().snappy.decompress_raw(block)))
    return b"".join(parts)


class Payload:
    """The records' bytes of one batch, decompressed."""

    __slots__ = ("_bound", "_codec", "_data", "_whole")

    def __init__(self, codec: int, data: memoryview) -> None:
        """Raises CompressionError for an unknown codec, or for data that shows at once that it is no such data."""
        self._codec = codec
        self._data = data
        self._whole: bytes | bytearray | None = None
        self._bound = 0
        if codec == ZSTD:
            self._bound = zstd_bound(data)
        elif codec == LZ4:
            self._bound = checked_lz4_bound(data)
        elif codec == SNAPPY:
            self._bound = 0 if data[:8] == XERIAL_MAGIC else _snappy_size(data)
        elif not NONE <= codec <= ZSTD:
            raise CompressionError(f"unknown compression codec {codec}")
        if self._bound > MAX_DECOMPRESSED_BYTES:
            raise CompressionError(
                f"{self._bound} bytes may come out of {len(data)} compressed bytes; "
                f"{MAX_DECOMPRESSED_BYTES} is the most that is opened at once"
            )

    def room(self) -> Room | None:
        """What has to be run before the first piece is taken; None when nothing has.

        Made for each call: kept here, it would be a cycle around all the decompressed bytes.
        """
        if self._bound <= INLINE_BYTES or self._whole is not None:
            return None
        # Twice: all of it, and once more as much while one record may be all of it.
        return Room(2 * self._bound, self._open)

    def _open(self) -> None:
        """Decompress all of it at once; in a thread when it is much."""
        if self._codec == SNAPPY:
            self._whole = b"".join(_opened_snappy(self._data))
            return
        output = bytearray(self._bound)
        package = cramjam()
        decompress = package.zstd.decompress_into if self._codec == ZSTD else package.lz4.decompress_into
        try:
            written = decompress(self._data, output)
        except (package.DecompressionError, OSError) as error:
            raise CompressionError(f"bad {'zstd' if self._codec == ZSTD else 'lz4'} data: {error}") from error
        del output[written:]
        self._whole = output

    def pieces(self) -> Iterator[bytes]:
        """The decompressed bytes in order; raises CompressionError where they cannot be had."""
        codec = self._codec
        if codec == NONE:
            return self._slices(self._data)
        if codec == GZIP:
            return _gunzip(self._data)
        if self._whole is None:
            if codec == SNAPPY and self._bound <= INLINE_BYTES:
                return _opened_snappy(self._data)
            if codec == LZ4 and not self._bound:
                return lz4_blocks(self._data)
            self._open()
        assert self._whole is not None
        if len(self._whole) <= INLINE_BYTES:
            return iter((bytes(self._whole),))
        return self._slices(memoryview(self._whole))

    def _slices(self, view: memoryview) -> Iterator[bytes]:
        for start in range(0, len(view), PIECE_BYTES):
            yield bytes(view[start : start + PIECE_BYTES])


def _gunzip(data: memoryview) -> Iterator[bytes]:
    """A gzip file may have several members; one without content is an empty piece."""
    start = 0
    try:
        while start < len(data):
            stream = zlib.decompressobj(wbits=31)
            held: bytes | memoryview = data[start : start + _GZIP_FEED_BYTES]
            start += len(held)
            while True:
                piece = stream.decompress(held, PIECE_BYTES)
                if piece:
                    yield piece
                if stream.eof:
                    break
                if not piece and not stream.unconsumed_tail:
                    if start >= len(data):
                        raise CompressionError("gzip data ends too early")
                    held = data[start : start + _GZIP_FEED_BYTES]
                    start += len(held)
                else:
                    held = stream.unconsumed_tail
            start -= len(stream.unused_data)
            yield b""
    except zlib.error as error:
        raise CompressionError(f"bad gzip data: {error}") from error


# Snappy.


def _snappy_size(block: memoryview) -> int:
    try:
        size = int(cramjam().snappy.decompress_raw_len(block))
    except cramjam().DecompressionError as error:
        raise CompressionError(f"bad snappy data: {error}") from error
    if size > _SNAPPY_RATIO * len(block):
        raise CompressionError(f"a snappy block of {len(block)} bytes that claims to become {size}")
    return size


def _opened_snappy(data: memoryview) -> Iterator[bytes]:
    for block in snappy_blocks(data):
        _snappy_size(block)
        try:
            yield bytes(cramjam().snappy.decompress_raw(block))
        except cramjam().DecompressionError as error:
            raise CompressionError(f"bad snappy data: {error}") from error


# LZ4 frames.


def lz4_blocks(data: memoryview) -> Iterator[bytes]:
    """The blocks of one LZ4 frame as Kafka reads it: version 1, independent blocks, checksum of the header right."""
    block_bytes, _, position = _lz4_header(data)
    total = len(data)
    decompress: Any = cramjam().lz4.decompress_block_into
    output = bytearray(block_bytes)
    while True:
        if position + 4 > total:
            raise CompressionError("lz4 data ends too early")
        (size,) = struct.unpack_from("<I", data, position)
        position += 4
        if size == 0:
            return  # as in Kafka, what follows is ignored
        stored = size & _LZ4_STORED
        size &= ~_LZ4_STORED
        if size > block_bytes or size > total - position:
            raise CompressionError(f"an lz4 block of {size} bytes of which {total - position} are there")
        block = data[position : position + size]
        position += size
        if stored:
            yield bytes(block)
            continue
        try:
            written = decompress(bytes(block), output, output_len=block_bytes)
        except (cramjam().DecompressionError, OSError) as error:
            raise CompressionError(f"bad lz4 data: {error}") from error
        yield bytes(memoryview(output)[:written])


def _lz4_header(data: memoryview) -> tuple[int, bool, int]:
    """Bytes of the largest block, whether there are checksums of the data, and where the first block begins."""
    if len(data) < 7 or struct.unpack_from("<I", data)[0] != _LZ4_MAGIC:
        raise CompressionError("no lz4 frame")
    flags, sizes = data[4], data[5]
    if flags >> 6 != 1 or flags & 0x03:
        raise CompressionError(f"an lz4 frame with flags {flags:#04x}")
    if not flags & 0x20:
        raise CompressionError("an lz4 frame with dependent blocks, which Kafka's clients cannot read")
    if not 4 <= sizes >> 4 <= 7 or sizes & 0x8F:
        raise CompressionError(f"an lz4 frame with block sizes {sizes:#04x}")
    end = 14 if flags & 0x08 else 6
    if len(data) <= end:
        raise CompressionError("lz4 data ends within its header")
    if data[end] != _xxh32(bytes(data[4:end])) >> 8 & 0xFF:
        raise CompressionError("an lz4 frame whose header has a wrong checksum")
    return 1 << (2 * (sizes >> 4) + 8), flags & 0x14 != 0, end + 1


def checked_lz4_bound(data: memoryview) -> int:
    """For a frame with checksums of its data, which the compiled package checks, the most bytes that come out of it;
    0 for any other."""
    block_bytes, checked, position = _lz4_header(data)
    if not checked:
        return 0
    bound = blocks = 0
    while position + 4 <= len(data):
        blocks += 1
        if blocks > _MOST_BLOCKS:
            return MAX_DECOMPRESSED_BYTES
        size = struct.unpack_from("<I", data, position)[0] & ~_LZ4_STORED
        if size == 0:
            break
        bound += block_bytes
        position += 4 + size + (4 if data[4] & 0x10 else 0)
    return bound


def _xxh32(data: bytes) -> int:
    """xxHash with 32 bits and seed 0, of fewer than 16 bytes."""
    mask = 0xFFFFFFFF
    value = (374761393 + len(data)) & mask
    position = 0
    while position + 4 <= len(data):
        value = (value + int.from_bytes(data[position : position + 4], "little") * 3266489917) & mask
        value = ((value << 17 | value >> 15) & mask) * 668265263 & mask
        position += 4
    for byte in data[position:]:
        value = (value + byte * 374761393) & mask
        value = ((value << 11 | value >> 21) & mask) * 2654435761 & mask
    value = (value ^ value >> 15) * 2246822519 & mask
    value = (value ^ value >> 13) * 3266489917 & mask
    return value ^ value >> 16


# Zstandard frames.


def zstd_bound(data: memoryview) -> int:
    """The most bytes that can come out of the frames (RFC 8878), from the headers of their blocks."""
    bound = position = counted = 0
    try:
        while position < len(data):
            (magic,) = struct.unpack_from("<I", data, position)
            counted += 1
            if magic & 0xFFFFFFF0 == _ZSTD_SKIPPABLE:
                position += 8 + struct.unpack_from("<I", data, position + 4)[0]
            elif magic == _ZSTD_MAGIC:
                made, position, blocks = _zstd_frame(data, position + 4, _MOST_BLOCKS - counted)
                bound += made
                counted += blocks
            else:
                raise CompressionError("no zstd frame")
            if counted >= _MOST_BLOCKS:
                return MAX_DECOMPRESSED_BYTES
    except (struct.error, IndexError):
        raise CompressionError("zstd data ends too early") from None
    if position > len(data):
        raise CompressionError("zstd data ends too early")
    return bound


def _zstd_frame(data: memoryview, position: int, most: int) -> tuple[int, int, int]:
    """The most bytes that one frame makes, where it ends, and how many blocks it has; counts up to `most` of them."""
    descriptor = data[position]
    single = descriptor >> 5 & 1
    position += 1 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    field = (single, 2, 4, 8)[descriptor >> 6]
    stated = int.from_bytes(data[position : position + field], "little") + (256 if field == 2 else 0)
    position += field
    bound = blocks = 0
    while blocks < most:
        blocks += 1
        head = data[position] | data[position + 1] << 8 | data[position + 2] << 16
        position += 3
        size, kind = head >> 3, head >> 1 & 3
        if kind == 1:  # one byte, repeated
            bound += size
            position += 1
        else:
            bound += size if kind == 0 else _ZSTD_BLOCK_BYTES
            position += size
        if head & 1:
            break
    if descriptor & 4:
        position += 4
    return (min(bound, stated) if field else bound), position, blocks
