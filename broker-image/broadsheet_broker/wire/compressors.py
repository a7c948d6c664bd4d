"""Compresses records piece by piece, in the framings of `wire.compression`."""

from __future__ import annotations

import zlib
from typing import Any

from broadsheet_broker.wire.compression import (
    GZIP,
    LZ4,
    LZ4_BLOCK_BYTES,
    LZ4_END,
    LZ4_HEADER,
    NONE,
    SNAPPY,
    XERIAL_BLOCK_BYTES,
    XERIAL_HEADER,
    ZSTD,
    cramjam,
    lz4_block,
    xerial_block,
)


class Compressor:
    """Takes pieces and gives compressed bytes; `size` is how many there are so far."""

    __slots__ = ("_codec", "_parts", "_rest", "_stream", "size")

    def __init__(self, codec: int) -> None:
        self._codec = codec
        self._parts: list[bytes] = []
        self._rest = bytearray()
        """What does not fill a block yet (snappy, LZ4)."""
        self._stream: Any = None
        self.size = 0
        if codec == GZIP:
            self._stream = zlib.compressobj(wbits=31)
        elif codec == ZSTD:
            self._stream = cramjam().zstd.Compressor(level=3)
        elif codec == SNAPPY:
            self._put(XERIAL_HEADER)
        elif codec == LZ4:
            self._put(LZ4_HEADER)

    def add(self, data: bytes | bytearray) -> None:
        """The next bytes to compress."""
        codec = self._codec
        if codec == NONE:
            self._put(bytes(data))
        elif codec == GZIP:
            self._put(self._stream.compress(data))
        elif codec == ZSTD:
            self._stream.compress(bytes(data))
            self._put(bytes(self._stream.flush()))
        elif codec == SNAPPY:
            self._blocks(data, XERIAL_BLOCK_BYTES)
        else:
            self._blocks(data, LZ4_BLOCK_BYTES)

    def finish(self) -> bytes:
        """All the compressed bytes. Nothing can be added afterwards."""
        codec = self._codec
        if codec == GZIP:
            self._put(self._stream.flush())
        elif codec == ZSTD:
            self._put(bytes(self._stream.finish()))
        elif self._rest:
            self._block(memoryview(self._rest))
        if codec == LZ4:
            self._put(LZ4_END)
        return b"".join(self._parts)

    def _blocks(self, data: bytes | bytearray, block_bytes: int) -> None:
        self._rest += data
        view = memoryview(self._rest)
        whole = len(view) - len(view) % block_bytes
        for start in range(0, whole, block_bytes):
            self._block(view[start : start + block_bytes])
        view.release()
        del self._rest[:whole]

    def _block(self, plain: memoryview) -> None:
        self._put(xerial_block(plain) if self._codec == SNAPPY else lz4_block(plain))

    def _put(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self.size += len(part)
