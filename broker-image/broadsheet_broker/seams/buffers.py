"""Receive buffers, lent to connections and reused once no view of them is left.

Requests are cut out of the buffer they arrived in: a record batch that a handler appends to a log is a memoryview of
that buffer, perhaps until much later (a delayed answer, a write gathered at the end of the loop's turn). So a buffer
must never be overwritten while any view of it lives. Python knows whether one does: a bytearray with a view
cannot change its size. So callers need not declare when they are done; a buffer whose views are gone is taken again,
and one whose views live on is left to them, and a new one made.

A connection without an incomplete request holds no buffer at all, so ten thousand idle connections cost nothing here.

A small request does not use up a buffer: what is behind it is lent to the connection that reads next. So a thousand
connections that send a record each within a turn of the loop need thirty buffers and not a thousand.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final

CHUNK: Final = 64 * 1024
"""Bytes of the buffer that a connection reads into while nothing is known of what comes."""

_SIZES: Final = tuple(CHUNK * (2 << step) * part // 4 for step in range(12) for part in (2, 3))
"""Sizes in which buffers come: 64, 96, 128, 192 KiB ... 192 MiB."""

_WORTH_LENDING: Final = CHUNK // 2
"""Bytes that are left of a chunk from which on the next connection reads into them."""

_TRIES: Final = 4
"""How many parked buffers of a size are looked at before a new one is made."""


class BufferPool:
    """Buffers of one server. Not for use by several threads."""

    __slots__ = ("_made", "_open", "_open_at", "_parked", "_parked_bytes", "_parked_limit")

    def __init__(self, made: Callable[[int], None] = lambda size: None, parked_limit: int = 16 * 1024 * 1024) -> None:
        """`made` is called with the size of each new buffer."""
        self._made = made
        self._parked: dict[int, deque[bytearray]] = {}
        self._parked_bytes = 0
        self._parked_limit = parked_limit
        """Bytes kept for the next use; more are left to Python to free."""
        self._open: bytearray | None = None
        """A chunk of which only the first `_open_at` bytes are used."""
        self._open_at = 0

    def chunk(self) -> tuple[bytearray, int]:
        """A buffer of CHUNK bytes, and from where on it is free: at least half of it is."""
        buffer = self._open
        if buffer is not None:
            self._open = None
            return buffer, self._open_at
        return self.acquire(CHUNK), 0

    def lend(self, buffer: bytearray, used: int) -> bool:
        """Let the next one read behind the first `used` bytes of a buffer, into which its owner reads no more.

        False if too little is left, or another buffer has room already: then it stays its owner's.
        """
        if self._open is not None or len(buffer) != CHUNK or CHUNK - used < _WORTH_LENDING:
            return False
        self._open, self._open_at = buffer, used
        return True

    def acquire(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes, with anything in it."""
        position = bisect_left(_SIZES, size)
        if position == len(_SIZES):
            self._made(size)
            return bytearray(size)
        size = _SIZES[position]
        parked = self._parked.get(size)
        if parked:
            for _ in range(min(len(parked), _TRIES)):
                buffer = parked.popleft()
                if not is_viewed(buffer):
                    self._parked_bytes -= size
                    return buffer
                parked.append(buffer)
        self._made(size)
        return bytearray(size)

    def trim(self) -> None:
        """Leave all parked buffers to Python."""
        self._parked.clear()
        self._parked_bytes = 0

    def release(self, buffer: bytearray) -> None:
        """Give a buffer back. Views of it may live on; it is not lent again before they are gone."""
        size = len(buffer)
        if size in _SIZE_SET and self._parked_bytes + size <= self._parked_limit:
            self._parked_bytes += size
            self._parked.setdefault(size, deque()).append(buffer)


_SIZE_SET: Final = frozenset(_SIZES)


def buffer_for_once(size: int) -> mmap.mmap:
    """Memory that is given back when the last view of it is gone.

    The kernel clears a page when it is written first: what never arrives takes nothing, and nothing is cleared at once.
    """
    return mmap.mmap(-1, size)


def is_viewed(buffer: bytearray) -> bool:
    """Whether any memoryview of the buffer is alive."""
    try:
        last = buffer.pop()  # refused while anybody views it; costs no allocation, since the capacity stays
    except BufferError:
        return True
    buffer.append(last)
    return False
