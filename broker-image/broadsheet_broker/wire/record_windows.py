"""Whole records out of the pieces of a payload, whose borders lie anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from broadsheet_broker.seams.steps import Room, Stepwise
from broadsheet_broker.wire.compression import MAX_DECOMPRESSED_BYTES, CompressionError
from broadsheet_broker.wire.pieces import INLINE_BYTES, Payload

_JOINED_AT_ONCE: Final = 4 * 1024 * 1024
_LONGEST_LENGTH: Final = 5
"""Bytes of the varint in front of a record."""


class RecordWindow:
    """Bytes of a payload from the record on that is next.

    A reader takes whole records from `data` at `position` and sets `position` behind them; when there is none, it calls
    `advance`, perhaps several times for a record that is longer than a piece.
    """

    __slots__ = ("_granted", "_held", "_parts", "_pieces", "_wanted", "data", "ended", "position")

    def __init__(self, pieces: Iterator[bytes], granted: int = 0) -> None:
        """`granted`: bytes of room of the budget that its reader holds already."""
        self._pieces = pieces
        self._granted = granted
        self.data = b""
        self.position = 0
        self.ended = False
        """Whether all of the payload was seen."""
        self._parts: list[bytes] | None = None
        self._held = 0
        self._wanted = 0

    @property
    def rest(self) -> int:
        """Bytes that no record was taken from yet."""
        return len(self.data) - self.position

    def make_room(self) -> Stepwise[None]:
        """Before `advance`: wait for room of the budget where the record at `position` is so long that it needs it."""
        wanted = record_bytes(self.data, self.position)
        if wanted > INLINE_BYTES and wanted > self.rest and wanted > self._granted:
            self._granted = wanted
            yield Room(wanted, None)

    def advance(self) -> bool:
        """Take the next piece. True when the reader can go on; False when `advance` must be called again first."""
        if self._parts is None:
            self._wanted = record_bytes(self.data, self.position)
            if self._wanted > MAX_DECOMPRESSED_BYTES:
                raise CompressionError(
                    f"a record of {self._wanted} bytes; {MAX_DECOMPRESSED_BYTES} is the most that is opened at once"
                )
            rest = self.data[self.position :]
            self._parts = [rest] if rest else []
            self._held = len(rest)
            self.data = b""
            self.position = 0
        piece = next(self._pieces, None)
        if piece is None:
            self.ended = True
        else:
            self._parts.append(piece)
            self._held += len(piece)
            if self._held < self._wanted:
                return False
        if self._held <= _JOINED_AT_ONCE:
            self.join()
        return True

    def make_whole(self) -> Stepwise[None]:
        """After `advance`: have the pieces of a long record joined, which may be done in a thread."""
        if self._parts is not None:
            yield Room(self._granted, self.join)

    def join(self) -> None:
        """Put the pieces of a long record together."""
        assert self._parts is not None
        self.data = b"".join(self._parts)  # lets other threads run while it copies megabytes
        self._parts = None


def opened(
    codec: int, data: memoryview, through: Callable[[Iterator[bytes]], Iterator[bytes]] | None = None
) -> Stepwise[RecordWindow]:
    """The records of a batch, from the first one on, once there is room to open it. `through` gets all of its pieces
    before the reader does. Raises CompressionError."""
    payload = Payload(codec, data)
    granted = 0
    room = payload.room()
    if room is not None:
        granted = room.size
        yield room
        room = None  # it knows the payload
    pieces = payload.pieces()
    return RecordWindow(pieces if through is None else through(pieces), granted)


def record_bytes(data: bytes, position: int) -> int:
    """Size of the record at `position` with the length in front of it; 0 when that is not all there or is no length."""
    value = shift = 0
    for at in range(position, min(position + _LONGEST_LENGTH, len(data))):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return 0 if value & 1 else (value >> 1) + at + 1 - position
        shift += 7
    return 0
