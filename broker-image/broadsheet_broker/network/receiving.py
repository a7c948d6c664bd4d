"""The bytes that a connection has received and not yet handled, in buffers of the pool.

The event loop reads straight into a buffer (`asyncio.BufferedProtocol`); requests are views of it. A buffer that is
fully parsed returns to the pool at once, even while views of it exist, and the connection that reads next goes on
behind what was read (see `buffers`). When a request is incomplete and does not fit what is left of its buffer, its
beginning moves to a buffer of the size that the request announces, but beyond the first `_TRUSTED` bytes never to more
than twice what has arrived, or to memory that is taken as it is written: a client gets memory for what it sends.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

from broadsheet_broker.network.admission import LARGE
from broadsheet_broker.seams.buffers import CHUNK, buffer_for_once

if TYPE_CHECKING:
    from broadsheet_broker.seams.buffers import BufferPool

_TRUSTED: Final = LARGE
"""Bytes of buffer that an announced request gets before they have arrived."""

_FOR_ONCE: Final = 8 * 1024 * 1024
"""Bytes of a request from which on it gets a buffer of its full size, once it is admitted (see `admission`)."""

_SLACK: Final = 16 * 1024
"""Bytes read beyond the end of a large request, so that the small one behind it needs no read of its own."""

_MUCH: Final = 8 * 1024
"""A connection that brought more at once gets a whole buffer the next time: it will bring as much again."""

SIZE: Final = struct.Struct(">i")
"""The length in front of a request."""


class Received:
    """Where the bytes of one connection arrive. `start` and `end` are positions in `view`."""

    __slots__ = ("_buffer", "_from", "_lent", "_much", "_pool", "end", "start", "view")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._buffer: bytearray | mmap.mmap | None = None
        self._lent = False
        """Whether what is behind `end` in the buffer belongs to others by now."""
        self._from = 0
        """Where in the buffer this connection's bytes begin."""
        self._much = False
        self.view: memoryview | None = None
        self.start = 0
        """Position of the first byte that is not parsed yet."""
        self.end = 0
        """Position behind the last byte received."""

    @property
    def full(self) -> bool:
        """Nothing more can be read before something is parsed."""
        return self.view is not None and self.end >= len(self.view) and not self._lent

    @property
    def buffer_bytes(self) -> int:
        """Size of the buffer that is held now."""
        return 0 if self._buffer is None else len(self._buffer)

    @property
    def announced_large(self) -> int:
        """Bytes of the incomplete request, once so much of it has arrived that it needs room (see `admission`)."""
        rest = self.end - self.start
        if rest < LARGE // 2 or self.view is None:
            return 0
        announced: int = SIZE.unpack_from(self.view, self.start)[0] + 4
        return announced if announced > max(LARGE, rest) else 0

    def room(self) -> memoryview:
        """Where the next bytes go."""
        view = self.view
        if view is None:
            if self._much:
                self._buffer, at = self._pool.acquire(CHUNK), 0
            else:
                self._buffer, at = self._pool.chunk()
            self.view = view = memoryview(self._buffer)
            self.start = self.end = self._from = at
            return view[at:] if at else view
        if self._lent:
            self._move(self.end - self.start + CHUNK)
            view = self.view
            assert view is not None
        if self.end - self.start >= 4:
            wanted = self.start + 4 + SIZE.unpack_from(view, self.start)[0]
            if wanted > self.end:
                return view[self.end : wanted + _SLACK]
        return view[self.end :]

    def lend_tail(self) -> None:
        """Let other connections read behind what has arrived. What arrives here next goes to another buffer."""
        if isinstance(self._buffer, bytearray) and not self._lent:
            self._lent = self._pool.lend(self._buffer, self.end)

    def keep_rest(self) -> None:
        """After parsing: let go of the buffer, or make room for the rest of an incomplete request."""
        rest = self.end - self.start
        if rest == 0:
            self.drop()
            return
        buffer, view = self._buffer, self.view
        assert buffer is not None and view is not None
        if self._lent:
            return
        need = 4 + (SIZE.unpack_from(view, self.start)[0] if rest >= 4 else 0)
        room = len(buffer) - self.end
        if self.start + need <= len(buffer):
            if rest >= 4 or room >= _SLACK:
                return
        elif self.start == 0 and room >= _SLACK:
            return  # a large request whose buffer grows when it is full
        if need >= _FOR_ONCE and rest >= LARGE // 2:  # it is admitted
            self._move(need + _SLACK, buffer_for_once(need + _SLACK))
        else:
            self._move(min(need + _SLACK, max(_TRUSTED, 2 * rest)))

    def _move(self, size: int, buffer: bytearray | mmap.mmap | None = None) -> None:
        """Take the incomplete request over to another buffer, one of the pool if none is given."""
        old, view = self._buffer, self.view
        assert old is not None and view is not None
        rest = self.end - self.start
        if buffer is None:
            buffer = self._pool.acquire(size)
        buffer[:rest] = view[self.start : self.end]
        self._buffer, self.view = buffer, memoryview(buffer)
        self.start, self.end, self._from = 0, rest, 0
        del view
        if self._lent:
            self._lent = False
        else:
            self._release(old)

    def _release(self, buffer: bytearray | mmap.mmap) -> None:
        if isinstance(buffer, bytearray):
            self._pool.release(buffer)

    def shrink(self) -> None:
        """An incomplete small request of a slow client should not hold a whole chunk."""
        rest = self.end - self.start
        if self.view is None or self._buffer is None or len(self._buffer) != CHUNK or rest > 512 or self._lent:
            return
        old = self._buffer
        buffer: bytearray = bytearray(1024)
        buffer[:rest] = self.view[self.start : self.end]
        self._buffer, self.view = buffer, memoryview(buffer)
        self.start, self.end = 0, rest
        self._release(old)

    def drop(self) -> None:
        """Let go of the buffer and of what is in it."""
        if self._buffer is not None:
            self.view = None
            self._much = self.end - self._from > _MUCH
            if self._lent:
                self._lent = False
            elif isinstance(self._buffer, bytearray) and not self._pool.lend(self._buffer, self.end):
                self._pool.release(self._buffer)
            self._buffer = None
            self.start = self.end = 0
