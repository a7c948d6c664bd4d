"""The sparse indexes of a segment: offset -> position (`.index`) and timestamp -> offset (`.timeindex`).

An offset index entry is (offset relative to the segment's base: int32, file position of its batch: int32); the offset
is the last one of the batch. A time index entry is (timestamp ms: int64, relative offset: int32): no record up to that
offset has a larger timestamp. Kafka allocates the files in full length and trims them when the segment closes, so a
file left by a killed Kafka ends in zeros, which are not entries.

Entries of the active segment gather in memory and go to the file a page at a time; what is on disk is searched there,
so that an open partition costs no descriptor and no memory for its indexes. The part of an index that was searched last
is kept, for the few indexes that were: a reader goes on where it was, and needs no system call then. A lost or damaged
index is rebuilt from the segment: the owner sees to that.
"""

from __future__ import annotations

import struct
from typing import Final

from broadsheet_broker.seams import Files

OFFSET_ENTRY: Final = struct.Struct(">ii")
TIME_ENTRY: Final = struct.Struct(">qi")

_FLUSH_BYTES: Final = 4096
_PAGE_BYTES: Final = 12 * 1024
"""What is read at a time: 1,536 entries of an offset index, of 6 MiB and more of a segment. One read costs less than
a dozen."""

_AHEAD: Final = 8
"""The entry that was searched for is in the first eighth of what is read; readers go forward."""

MOST_PAGES: Final = 96
"""Indexes of which a page is kept, in this process."""


class IndexCorruptError(ValueError):
    """The file cannot be an index of this segment."""


class IndexFile:
    """Entries of two integers, both ascending; searched by either."""

    __slots__ = ("_in_file", "_page", "_page_at", "_tail", "entry", "last", "path")

    def __init__(self, path: str, entry: struct.Struct) -> None:
        self.path = path
        self.entry = entry
        self._in_file = 0
        self._tail: bytearray | None = None
        self._page: bytes | None = None
        self._page_at = 0
        """The number of the first entry in `_page`."""
        self.last: tuple[int, int] | None = None
        """The last entry: asked for at every append."""

    def __len__(self) -> int:
        return self._in_file + (len(self._tail) // self.entry.size if self._tail else 0)

    @property
    def size(self) -> int:
        return len(self) * self.entry.size

    def load(self, files: Files) -> None:
        """Take the entries of the file as they are; raises IndexCorruptError, or FileNotFoundError."""
        self.forget_page()
        size = files.size(self.path)
        width = self.entry.size
        if size % width:
            raise IndexCorruptError(f"{self.path}: {size} bytes are no multiple of {width}")
        self._tail = None
        self._in_file = size // width
        self.last = None
        if not self._in_file:
            return
        file = files.open(self.path, read_only=True)
        try:
            zero = bytes(width)
            if file.read(size - width, width) == zero:  # allocated ahead, never trimmed
                low, high = 0, self._in_file
                while low < high:
                    middle = (low + high) // 2
                    if file.read(middle * width, width) == zero:
                        high = middle
                    else:
                        low = middle + 1
                self._in_file = low
            if self._in_file:
                self.last = self.entry.unpack(file.read((self._in_file - 1) * width, width))
        finally:
            file.close()
        if self.last is not None and (self.last[0] < 0 or self.last[1] < 0):
            raise IndexCorruptError(f"{self.path}: last entry is {self.last}")

    def append(self, first: int, second: int) -> None:
        if self._tail is None:
            self._tail = bytearray()
        self._tail += self.entry.pack(first, second)
        self.last = (first, second)

    @property
    def wants_flush(self) -> bool:
        return self._tail is not None and len(self._tail) >= _FLUSH_BYTES

    def flush(self, files: Files) -> None:
        """Write the gathered entries to the file. The file exists afterwards, with exactly the entries there are."""
        tail = self._tail
        kept = self._in_file * self.entry.size
        file = files.open(self.path, create=True)
        try:
            if file.size() != kept:
                file.truncate(kept)
            if tail:
                file.append([tail])
                self._in_file += len(tail) // self.entry.size
        finally:
            file.close()
        self._tail = None

    def mark(self) -> tuple[int, tuple[int, int] | None]:
        """Where the index stands, for `reset_to`."""
        return len(self), self.last

    def reset_to(self, mark: tuple[int, tuple[int, int] | None]) -> None:
        """Forget entries appended after `mark`, none of which was flushed since."""
        count, self.last = mark
        if self._tail is not None:
            del self._tail[(count - self._in_file) * self.entry.size :]

    def clear(self) -> None:
        self.forget_page()
        self._in_file = 0
        self._tail = None
        self.last = None

    def entries(self, files: Files) -> list[tuple[int, int]]:
        """All entries (tests, truncation)."""
        data = b""
        if self._in_file:
            file = files.open(self.path, read_only=True)
            try:
                data = file.read(0, self._in_file * self.entry.size)
            finally:
                file.close()
        data += bytes(self._tail or b"")
        return list(self.entry.iter_unpack(data))

    def truncate(self, files: Files, count: int) -> None:
        """Keep the first `count` entries."""
        if count >= len(self):
            return
        self.forget_page()
        if count <= self._in_file:
            self._tail = None
            self._in_file = count
            file = files.open(self.path, create=True)
            try:
                file.truncate(count * self.entry.size)
                self.last = self._at(file.read((count - 1) * self.entry.size, self.entry.size)) if count else None
            finally:
                file.close()
        else:
            assert self._tail is not None
            del self._tail[(count - self._in_file) * self.entry.size :]
            self.last = self._at(bytes(self._tail[-self.entry.size :]))

    def _at(self, data: bytes) -> tuple[int, int]:
        first, second = self.entry.unpack(data)
        return first, second

    def count_at_most(self, files: Files, column: int, value: int) -> int:
        """How many leading entries have `value` or less in column 0 or 1."""
        tail = self._tail
        if tail and self.entry.unpack_from(tail)[column] <= value:
            return self._in_file + _bisect(tail, self.entry, column, value)
        if not self._in_file:
            return 0
        page = self._page
        if page is None or not self._is_in(page, column, value):
            page = self._load_page(files, column, value)
        return self._page_at + _bisect(page, self.entry, column, value)

    def _is_in(self, page: bytes, column: int, value: int) -> bool:
        """Whether the last entry with at most `value` is in the page, and not before or behind it."""
        width = self.entry.size
        if self._page_at and self.entry.unpack_from(page)[column] > value:
            return False
        behind = self._page_at + len(page) // width
        return behind == self._in_file or bool(self.entry.unpack_from(page, len(page) - width)[column] > value)

    def _load_page(self, files: Files, column: int, value: int) -> bytes:
        """Read the part of the file where the last entry with at most `value` is, and keep it."""
        width = self.entry.size
        count = _PAGE_BYTES // width
        file = files.open(self.path, read_only=True)
        try:
            low, high = 0, self._in_file
            if high > count:
                while high - low > count // _AHEAD:
                    middle = (low + high) // 2
                    if self.entry.unpack(file.read(middle * width, width))[column] <= value:
                        low = middle  # stays in the range: it may be the one
                    else:
                        high = middle
            page = file.read(low * width, min(count, self._in_file - low) * width)
        finally:
            file.close()
        self._page, self._page_at = page, low
        _kept.pop(self, None)
        _kept[self] = None
        if len(_kept) > MOST_PAGES:
            oldest = next(iter(_kept))
            oldest.forget_page()
        return page

    def forget_page(self) -> None:
        """The file changes, or the memory is needed for the page of another index."""
        self._page = None
        _kept.pop(self, None)

    def get(self, files: Files, number: int) -> tuple[int, int]:
        width = self.entry.size
        if number >= self._in_file:
            assert self._tail is not None
            first, second = self.entry.unpack_from(self._tail, (number - self._in_file) * width)
            return first, second
        page = self._page
        if page is not None and 0 <= number - self._page_at < len(page) // width:
            first, second = self.entry.unpack_from(page, (number - self._page_at) * width)
            return first, second
        file = files.open(self.path, read_only=True)
        try:
            return self._at(file.read(number * width, width))
        finally:
            file.close()

    def floor(self, files: Files, column: int, value: int) -> tuple[int, int] | None:
        """The last entry with at most `value` in the column, or None."""
        last = self.last
        if last is None:
            return None
        if last[column] <= value:
            return last
        count = self.count_at_most(files, column, value)
        return self.get(files, count - 1) if count else None


_kept: dict[IndexFile, None] = {}
"""Indexes that have a page, in the order in which they got it."""


def _bisect(data: bytes | bytearray, entry: struct.Struct, column: int, value: int) -> int:
    low, high = 0, len(data) // entry.size
    while low < high:
        middle = (low + high) // 2
        if entry.unpack_from(data, middle * entry.size)[column] <= value:
            low = middle + 1
        else:
            high = middle
    return low
