"""Answers that are too large to be handed to a transport at once, and records that are still in their files.

A transport gets the next piece when the client has taken most of what it had before. So a client that reads slowly
makes the broker hold a piece, not its answer, and no answer holds up the loop for longer than it takes to read
`IN_A_ROW` bytes from the page cache. Pieces grow while the client takes each of them at once, and are small for clients
that do not, and for all once `MOST_STUCK` bytes are stuck.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from broadsheet_broker.seams.files import StoredBytes

if TYPE_CHECKING:
    from broadsheet_broker.seams import Buffer

SHORT_PIECE = 128 * 1024
"""Bytes that are read and handed over at a time, at first."""

PIECE = 1024 * 1024
"""The same for a client that keeps up."""

MOST_STUCK = 8 * 1024 * 1024
"""Bytes in transports that wait for their clients, from which on all pieces are short."""

IN_ONE_WRITE = 512 * 1024
"""Answers in memory up to this size are handed over as they are."""

IN_A_ROW = 1024 * 1024
"""Bytes that one connection hands over in a turn of the loop while the client keeps up."""

PLAIN = 64 * 1024
"""Answers that are smaller have no stored bytes (`READ_AT_ONCE` of the Fetch) and are handed over as they are."""


class CutShortError(Exception):
    """What was to be sent is no longer in its file."""


def held_bytes(buffers: list[Buffer | StoredBytes]) -> int:
    """Bytes of an answer that are in memory."""
    return sum(len(buffer) for buffer in buffers if type(buffer) is not StoredBytes)


class Pieces:
    """What one connection has still to hand over, in order."""

    __slots__ = ("_at", "_items", "_last", "_size", "_stuck", "left")

    def __init__(self) -> None:
        self._items: deque[Buffer | StoredBytes] = deque()
        self._at = 0
        """Bytes of the first item that are handed over already."""
        self.left = 0
        """Bytes that are not handed over."""
        self._size = SHORT_PIECE
        self._last = 0
        """Bytes of the last piece, while it is not known whether the client takes it at once."""
        self._stuck = 0

    def stuck(self) -> int:
        """The client does not take the last piece at once. Returns its bytes."""
        self._stuck, self._last = self._last, 0
        self._size = SHORT_PIECE
        return self._stuck

    def moving(self) -> int:
        """The client has taken it after all, or is gone. Returns the bytes that `stuck` did."""
        stuck, self._stuck = self._stuck, 0
        return stuck

    def add(self, buffers: list[Buffer | StoredBytes], size: int) -> None:
        self._items.extend(buffers)
        self.left += size

    def take(self, all_stuck_bytes: int) -> tuple[list[Buffer], int, int]:
        """The next buffers, how many bytes they have, and how many of them were in memory already.

        Raises CutShortError or OSError where a file cannot be read: then the connection cannot go on.
        """
        taken: list[Buffer] = []
        size = held = 0
        if self._last:
            self._size *= 2
        piece_bytes = self._size = min(self._size, SHORT_PIECE if all_stuck_bytes > MOST_STUCK else PIECE)
        items = self._items
        while items and size < piece_bytes:
            item = items[0]
            at, most = self._at, min(len(item) - self._at, piece_bytes - size)
            if type(item) is StoredBytes:
                piece = item.read(at, most)
                if len(piece) != most:
                    raise CutShortError(f"{len(piece)} bytes instead of {most} at {item.offset + at}")
            else:
                buffer = cast("Buffer", item)
                piece = buffer if most == len(buffer) else memoryview(buffer)[at : at + most]
                held += most
            taken.append(piece)
            size += most
            if at + most == len(item):
                items.popleft()
                self._at = 0
            else:
                self._at = at + most
        self.left -= size
        self._last = size
        return taken, size, held

    def clear(self) -> None:
        self._items.clear()
        self._at = self.left = 0
