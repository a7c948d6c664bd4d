"""Counts answers in a stream of bytes without decoding them, and notices one that is not as it has to be.

All good answers to a ring have one size. So the sizes, the correlation ids and the error codes of all answers in a
buffer are columns: each is cut out by one slice with a stride and compared as a whole. Only an answer that differs is
decoded, for the error.
"""

from __future__ import annotations

from e2e.bench.core.frames import BODY, Ring

SMALL_BYTES = 4096
SIZE = 4
LOW_BYTE_OF_ID = 7
MANY = 8192


class BadAnswerError(RuntimeError):
    """An answer with an error code, of another size, or to another request than the next one."""


class SmallAnswers:
    """Cuts answers of which many fit into one read."""

    def __init__(self, ring: Ring, first: int) -> None:
        """`first` is the frame of the ring that is answered first."""
        self._ring = ring
        self._size = ring.answer.size
        self._columns = [*enumerate((self._size - SIZE).to_bytes(SIZE, "big")), *((at, 0) for at in ring.answer.zeros)]
        once = bytes(ring.id_at(number) for number in range(ring.frames))
        self._ids = once * (MANY // ring.frames + 2)
        self._next = first % ring.frames
        self._rest = b""

    def take(self, view: memoryview) -> int:
        """The number of answers that end in these bytes; raises BadAnswerError."""
        data = self._rest + view if self._rest else bytes(view)
        size, position, taken = self._size, 0, 0
        while (count := min((len(data) - position) // size, MANY)) > 0:
            end = position + count * size
            for at, value in self._columns:
                if data[position + at : end : size].count(value) != count:
                    self._complain(data[position:])
            if data[position + LOW_BYTE_OF_ID : end : size] != self._ids[self._next : self._next + count]:
                self._complain(data[position:])
            self._next = (self._next + count) % self._ring.frames
            position, taken = end, taken + count
        self._rest = data[position:]
        if len(self._rest) >= SIZE and int.from_bytes(self._rest[:SIZE], "big") + SIZE != size:
            self._complain(self._rest)
        return taken

    def _complain(self, data: bytes) -> None:
        """Raise for the first answer that is not good; wait for more bytes if it is not whole yet."""
        size, expected = self._size, self._next
        while len(data) >= SIZE:
            whole = int.from_bytes(data[:SIZE], "big") + SIZE
            frame = data[:whole]
            if whole == size and all(frame[at] == value for at, value in self._columns if at < len(frame)):
                if frame[LOW_BYTE_OF_ID] != self._ring.id_at(expected):
                    raise BadAnswerError(out_of_turn(self._ring, expected, frame))
                data, expected = data[whole:], (expected + 1) % self._ring.frames
                continue
            raise BadAnswerError(complaint(self._ring, frame, whole))
        raise BadAnswerError(
            f"{self._ring.topic}-{self._ring.partition}: an answer that is not good, of {len(data)} bytes"
        )


class LargeAnswers:
    """Cuts answers of which one takes several reads: checks the head of each and counts the rest."""

    def __init__(self, ring: Ring, first: int) -> None:
        self._ring = ring
        self._size = ring.answer.size
        self._head_bytes = max(ring.answer.zeros) + 1
        self._next = first % ring.frames
        self._head = b""
        self._left = 0
        """Bytes of the current answer that have not come, once its head was checked."""

    def take(self, view: memoryview) -> int:
        """The number of answers that end in these bytes; raises BadAnswerError."""
        position, end, taken = 0, len(view), 0
        while position < end:
            if not self._left:
                more = view[position : position + self._head_bytes - len(self._head)]
                self._head += more
                position += len(more)
                if len(self._head) < self._head_bytes:
                    self._check_size()
                    break
                self._check(view[position:])
                self._left, self._head = self._size - self._head_bytes, b""
            step = min(self._left, end - position)
            position += step
            self._left -= step
            if not self._left:
                taken += 1
        return taken

    def _check_size(self) -> None:
        """A refusal may be shorter than the head of a good answer."""
        if len(self._head) >= SIZE and (whole := int.from_bytes(self._head[:SIZE], "big") + SIZE) < self._head_bytes:
            raise BadAnswerError(complaint(self._ring, self._head, whole))

    def _check(self, rest: memoryview) -> None:
        head, expected = self._head, self._next
        whole = int.from_bytes(head[:SIZE], "big") + SIZE
        if whole != self._size or any(head[at] for at in self._ring.answer.zeros):
            raise BadAnswerError(complaint(self._ring, (head + rest)[:whole], whole))
        if head[LOW_BYTE_OF_ID] != self._ring.id_at(expected):
            raise BadAnswerError(out_of_turn(self._ring, expected, head))
        self._next = (expected + 1) % self._ring.frames


def cutter(ring: Ring, first: int) -> SmallAnswers | LargeAnswers:
    """What counts the answers to a ring, beginning with those to frame `first`."""
    return (SmallAnswers if ring.answer.size <= SMALL_BYTES else LargeAnswers)(ring, first)


def complaint(ring: Ring, frame: bytes, size: int) -> str:
    """What is wrong with an answer, with its fields if all of it is here."""
    what = f"{ring.topic}-{ring.partition}: an answer of {size} bytes where one of {ring.answer.size} was expected"
    if size == ring.answer.size:
        codes = ", ".join(f"{frame[at]:#04x} at byte {at}" for at in ring.answer.zeros if frame[at])
        what = f"{ring.topic}-{ring.partition}: an answer with an error code ({codes})"
    if len(frame) >= size and size >= SIZE + BODY:
        try:
            return f"{what}: {ring.answer.decode(frame[SIZE:])!r:.600}"
        except (ValueError, IndexError, EOFError) as error:
            return f"{what}, which cannot be decoded ({error})"
    return f"{what}, beginning with {frame[:64].hex(' ')}"


def out_of_turn(ring: Ring, expected: int, frame: bytes) -> str:
    return (
        f"{ring.topic}-{ring.partition}: an answer with correlation id {frame[LOW_BYTE_OF_ID]} "
        f"where {ring.id_at(expected)} was next: an answer is missing or answers changed places"
    )
