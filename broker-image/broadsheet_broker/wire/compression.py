"""The four compressions of record batches, in the framings that Kafka's clients use.

| codec | framing                                                                                   |
| ----- | ----------------------------------------------------------------------------------------- |
| 1     | gzip (RFC 1952)                                                                           |
| 2     | snappy in xerial's framing (snappy-java's SnappyOutputStream); bare snappy is read as well  |
| 3     | LZ4 frames with independent blocks, the only kind that the Java client reads              |
| 4     | Zstandard frames                                                                          |

Nothing here trusts its input: output is limited, and undecodable bytes raise `CompressionError` only. The compiled
package is imported when the first compressed batch has to be opened, which a broker that passes batches through
never does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

CODEC_NAMES = {"none": NONE, "uncompressed": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
"""Values of the topic config `compression.type` apart from `producer`."""

MAX_DECOMPRESSED_BYTES = 128 * 1024 * 1024
"""Default limit for one batch: more than what `socket.request.max.bytes` lets in by default. A client may send a few
kilobytes that become so much, and a broker in a small container has to survive them."""

XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER = XERIAL_MAGIC + struct.pack(">ii", 1, 1)
XERIAL_HEADER_BYTES = len(XERIAL_HEADER)
XERIAL_BLOCK_BYTES = 32 * 1024

LZ4_HEADER = bytes.fromhex("04224d18 60 40 82")
"""Magic, FLG (version 1, independent blocks), BD (blocks of at most 64 KiB), header checksum."""
LZ4_BLOCK_BYTES = 64 * 1024
LZ4_END = bytes(4)
_LZ4_STORED = 0x80000000

_FIRST_GUESS_BYTES = 64 * 1024

Data = bytes | bytearray | memoryview


class CompressionError(ValueError):
    """The bytes are not what the codec says, or more than the limit comes out of them."""


def cramjam() -> Any:
    """The compiled package of all codecs but gzip."""
    import cramjam  # compiled; loaded only when a batch is opened or recompressed

    return cramjam


def compress(codec: int, data: Data) -> bytes:
    """Compress as the Java client would, at each codec's default level."""
    if codec == NONE:
        return bytes(data)
    if codec == GZIP:
        stream = zlib.compressobj(wbits=31)
        return stream.compress(data) + stream.flush()
    if codec == SNAPPY:
        return _compress_xerial(memoryview(data))
    if codec == LZ4:
        return _compress_lz4(memoryview(data))
    if codec == ZSTD:
        return bytes(cramjam().zstd.compress(data, level=3))
    raise CompressionError(f"unknown compression codec {codec}")


def decompress(codec: int, data: Data, limit_bytes: int = MAX_DECOMPRESSED_BYTES) -> bytes | bytearray:
    """Undo `compress`; raises CompressionError for anything else than valid data of at most `limit_bytes`."""
    if codec == NONE:
        if len(data) > limit_bytes:
            raise CompressionError(f"{len(data)} bytes are more than the limit of {limit_bytes}")
        return bytes(data)
    if codec == GZIP:
        return _decompress_gzip(data, limit_bytes)
    if codec == SNAPPY:
        return _decompress_snappy(memoryview(data), limit_bytes)
    if codec == LZ4:
        return _decompress_growing(cramjam().lz4.decompress_into, data, limit_bytes)
    if codec == ZSTD:
        return _decompress_growing(cramjam().zstd.decompress_into, data, limit_bytes)
    raise CompressionError(f"unknown compression codec {codec}")


def _compress_xerial(data: memoryview) -> bytes:
    blocks = (data[start : start + XERIAL_BLOCK_BYTES] for start in range(0, len(data), XERIAL_BLOCK_BYTES))
    return XERIAL_HEADER + b"".join(map(xerial_block, blocks))


def xerial_block(plain: memoryview) -> bytes:
    """One block, behind its length."""
    block = bytes(cramjam().snappy.compress_raw(plain))
    return struct.pack(">i", len(block)) + block


def _compress_lz4(data: memoryview) -> bytes:
    blocks = (data[start : start + LZ4_BLOCK_BYTES] for start in range(0, len(data), LZ4_BLOCK_BYTES))
    return LZ4_HEADER + b"".join(map(lz4_block, blocks)) + LZ4_END


def lz4_block(plain: memoryview) -> bytes:
    """One block, behind its length; stored as it is where it does not shrink."""
    block = bytes(cramjam().lz4.compress_block(plain, store_size=False))
    if len(block) < len(plain):
        return struct.pack("<I", len(block)) + block
    return struct.pack("<I", len(plain) | _LZ4_STORED) + bytes(plain)


def _decompress_gzip(data: Data, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = limit_bytes
    rest = bytes(data)
    try:
        while rest:  # a gzip file may have several members
            stream = zlib.decompressobj(wbits=31)
            part = stream.decompress(rest, room + 1)
            room -= len(part)
            if room < 0:
                raise CompressionError(f"more than {limit_bytes} bytes come out of {len(data)} bytes of gzip")
            if not stream.eof:
                raise CompressionError("gzip data ends too early")
            parts.append(part)
            rest = stream.unused_data
    except zlib.error as error:
        raise CompressionError(f"bad gzip data: {error}") from error
    return b"".join(parts)


def _decompress_snappy(data: memoryview, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = limit_bytes
    for block in snappy_blocks(data):
        part = _decompress_raw_snappy(block, room)
        room -= len(part)
        parts.append(part)
    return b"".join(parts)


def snappy_blocks(data: memoryview) -> Iterator[memoryview]:
    """The compressed blocks of xerial's framing; data without it is one bare block. Raises CompressionError."""
    if data[:8] != XERIAL_MAGIC:
        yield data
        return
    if len(data) < XERIAL_HEADER_BYTES:
        raise CompressionError("snappy data ends within its header")
    position = XERIAL_HEADER_BYTES
    while position < len(data):
        if position + 4 > len(data):
            raise CompressionError("snappy data ends within a block length")
        (size,) = struct.unpack_from(">I", data, position)
        position += 4
        if size > len(data) - position:
            raise CompressionError("snappy data ends within a block")
        yield data[position : position + size]
        position += size


def _decompress_raw_snappy(data: memoryview, limit_bytes: int) -> bytes:
    snappy = cramjam().snappy
    try:
        size = snappy.decompress_raw_len(data)
        # A snappy element of 3 bytes makes at most 64: anything beyond is a lie that must not allocate memory.
        if size > limit_bytes or size > 64 * len(data):
            raise CompressionError(f"{size} bytes of snappy data are more than the limit of {limit_bytes}")
        return bytes(snappy.decompress_raw(data))
    except cramjam().DecompressionError as error:
        raise CompressionError(f"bad snappy data: {error}") from error


def _decompress_growing(decompress_into: Any, data: Data, limit_bytes: int) -> bytearray:
    """Decompress into buffers of growing size, since the compiled package has no limit of its own."""
    size = min(max(4 * len(data), _FIRST_GUESS_BYTES), limit_bytes)
    while True:
        output = bytearray(size)
        try:
            written = decompress_into(data, output)
        except cramjam().DecompressionError as error:
            # "failed to write whole buffer" is the only failure that more room can mend.
            if "whole buffer" not in str(error):
                raise CompressionError(f"bad compressed data: {error}") from error
            if size >= limit_bytes:
                raise CompressionError(f"more than {limit_bytes} bytes come out of {len(data)} bytes") from error
            size = min(8 * size, limit_bytes)
            continue
        del output[written:]
        return output
