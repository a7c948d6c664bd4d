"""A segment: one `.log` file of batches and the indexes beside it, all named by the segment's base offset."""

from __future__ import annotations

from typing import Final, NamedTuple

from broadsheet_broker.log.errors import CorruptLogError
from broadsheet_broker.log.index_file import OFFSET_ENTRY, TIME_ENTRY, IndexCorruptError, IndexFile
from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.seams import File, Files
from broadsheet_broker.wire.records import BatchHeader

LOG_SUFFIX: Final = ".log"
INDEX_SUFFIX: Final = ".index"
TIME_INDEX_SUFFIX: Final = ".timeindex"
TRANSACTION_INDEX_SUFFIX: Final = ".txnindex"
SNAPSHOT_SUFFIX: Final = ".snapshot"
DELETED_SUFFIX: Final = ".deleted"
CLEANED_SUFFIX: Final = ".cleaned"
SWAP_SUFFIX: Final = ".swap"

INDEX_SUFFIXES: Final[tuple[str, ...]] = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)

MAX_RELATIVE_OFFSET: Final = 2**31 - 1
NO_TIMESTAMP: Final = -1
_UNKNOWN: Final = -2


def stem_of(directory: str, base_offset: int) -> str:
    """Path of a segment's files without suffix: twenty digits, as Kafka has them."""
    return f"{directory}/{base_offset:020d}"


class Latest(NamedTuple):
    """The largest timestamp of the records from `start` up to `end`."""

    start: int
    end: int
    position: int
    """Where the batch of `end` begins."""
    best: tuple[int, int] | None
    """The timestamp, and the last offset of its batch."""


class Segment:
    """Sizes, positions in bytes; timestamps in ms. Holds a descriptor only while it is read or written."""

    __slots__ = (
        "aborted",
        "base_offset",
        "bytes_since_index",
        "created_ms",
        "file",
        "first_timestamp",
        "indexes_loaded",
        "jitter_ms",
        "latest",
        "max_timestamp",
        "max_timestamp_offset",
        "offsets",
        "size",
        "stem",
        "times",
    )

    def __init__(self, stem: str, base_offset: int, size: int, *, created_ms: int, jitter_ms: int = 0) -> None:
        self.stem = stem
        self.base_offset = base_offset
        self.size = size
        self.file: File | None = None
        self.offsets = IndexFile(stem + INDEX_SUFFIX, OFFSET_ENTRY)
        self.times = IndexFile(stem + TIME_INDEX_SUFFIX, TIME_ENTRY)
        self.indexes_loaded = False
        self.max_timestamp = _UNKNOWN
        self.max_timestamp_offset = base_offset
        self.latest: Latest | None = None
        """Kept by `lookup`."""
        self.first_timestamp: int | None = None
        """Timestamp of the first batch, by which the segment's age is measured (segment.ms); None: not read yet."""
        self.created_ms = created_ms
        self.jitter_ms = jitter_ms
        self.bytes_since_index = 0
        self.aborted = False
        """Whether there is a transaction index."""

    @property
    def path(self) -> str:
        return self.stem + LOG_SUFFIX

    def begin_empty(self) -> None:
        """This segment was just created: there is nothing to load."""
        self.indexes_loaded = True
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset

    def close_file(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def forget_timestamps(self) -> None:
        """The segment was cut: its timestamps have to be read again."""
        self.max_timestamp = _UNKNOWN
        self.max_timestamp_offset = self.base_offset
        self.latest = None
        self.first_timestamp = None

    # Bookkeeping of an append.

    def note(self, last_offset: int, max_timestamp: int, size: int, index_interval_bytes: int) -> None:
        """A batch of `size` bytes is (or will be) at the end."""
        if not self.size:
            self.first_timestamp = max_timestamp
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.bytes_since_index > index_interval_bytes:
            self.offsets.append(last_offset - self.base_offset, self.size)
            self.note_time()
            self.bytes_since_index = 0
        self.bytes_since_index += size
        self.size += size

    def note_time(self) -> None:
        """Put the largest timestamp so far in the time index, unless it is there."""
        last = self.times.last
        if self.max_timestamp > (last[0] if last else NO_TIMESTAMP):
            self.times.append(self.max_timestamp, self.max_timestamp_offset - self.base_offset)

    def mark(self) -> tuple[object, ...]:
        """Everything `note` changes, for `reset_to`."""
        return (
            self.size,
            self.max_timestamp,
            self.max_timestamp_offset,
            self.bytes_since_index,
            self.first_timestamp,
            self.offsets.mark(),
            self.times.mark(),
        )

    def reset_to(self, mark: tuple[object, ...]) -> None:
        (
            self.size,
            self.max_timestamp,
            self.max_timestamp_offset,
            self.bytes_since_index,
            self.first_timestamp,
            offsets,
            times,
        ) = mark  # type: ignore[assignment]
        self.offsets.reset_to(offsets)  # type: ignore[arg-type]
        self.times.reset_to(times)  # type: ignore[arg-type]

    def index_is_full(self, segment_index_bytes: int) -> bool:
        return (
            self.offsets.size + OFFSET_ENTRY.size > segment_index_bytes
            or self.times.size + TIME_ENTRY.size > segment_index_bytes
        )

    def finish(self, files: Files) -> None:
        """The segment takes no more batches: complete its indexes on disk."""
        self.note_time()
        self.offsets.flush(files)
        self.times.flush(files)

    # Loading.

    def load_indexes(self, files: Files, file: File) -> None:
        """Make the indexes searchable; rebuilds them when they are missing or cannot be right."""
        if self.indexes_loaded:
            return
        try:
            self.offsets.load(files)
            self.times.load(files)
            last = self.offsets.last
            if last is not None and last[1] >= self.size:
                raise IndexCorruptError(f"{self.offsets.path}: points to byte {last[1]} of {self.size}")
        except (FileNotFoundError, IndexCorruptError):
            self.rebuild_indexes(files, file)
        self.indexes_loaded = True

    def rebuild_indexes(self, files: Files, file: File, index_interval_bytes: int = 4096) -> None:
        """From the headers of all batches, as appending them would have."""
        self.offsets.clear()
        self.times.clear()
        end, self.size, self.bytes_since_index = self.size, 0, 0
        self.max_timestamp, self.max_timestamp_offset = NO_TIMESTAMP, self.base_offset
        try:
            for _, header in walk(file, 0, end, self.base_offset):
                self.note(
                    header.last_offset,
                    header.latest_timestamp,
                    header.size,
                    index_interval_bytes,
                )
        except BadBatchError as error:
            raise self.corrupt(error) from error
        finally:
            self.size = end
        self.finish(files)
        self.indexes_loaded = True

    def load_max_timestamp(self, files: Files, file: File) -> None:
        """The largest timestamp and its batch's last offset: of the time index, and of the batches after its end."""
        if self.max_timestamp != _UNKNOWN:
            return
        self.load_indexes(files, file)
        last = self.times.last
        timestamp, offset = (last[0], self.base_offset + last[1]) if last else (NO_TIMESTAMP, self.base_offset)
        position = self.position_floor(files, offset) if last else 0
        try:
            for _, header in walk(file, position, self.size, self.base_offset):
                if header.latest_timestamp > timestamp:
                    timestamp, offset = header.latest_timestamp, header.last_offset
        except BadBatchError as error:
            raise self.corrupt(error) from error
        self.max_timestamp, self.max_timestamp_offset = timestamp, offset

    def load_first_timestamp(self, file: File) -> int:
        if self.first_timestamp is None:
            self.first_timestamp = NO_TIMESTAMP
            try:
                for _, header in walk(file, 0, self.size, self.base_offset):
                    self.first_timestamp = header.latest_timestamp
                    break
            except BadBatchError as error:
                raise self.corrupt(error) from error
        return self.first_timestamp

    def corrupt(self, error: BadBatchError) -> CorruptLogError:
        return CorruptLogError(
            self.path,
            error.position,
            f"expected a record batch, found {error.reason}",
            "Nothing was changed. Restore the file from a replica or a backup; or, to give up everything from there "
            f"on, stop the broker, cut the file to {error.position} bytes and remove the segments after it",
        )

    # Searching.

    def position_floor(self, files: Files, offset: int) -> int:
        """A position at or before the first batch whose last offset is `offset` or more, by the offset index."""
        entry = self.offsets.floor(files, 0, offset - self.base_offset)
        return entry[1] if entry is not None else 0

    def seek(self, files: Files, file: File, offset: int) -> tuple[int, BatchHeader | None]:
        """Position and header of the first batch whose last offset is `offset` or more; (size, None) if none is."""
        self.load_indexes(files, file)
        start = self.position_floor(files, offset)
        try:
            return self._seek_from(file, start, offset)
        except BadBatchError:
            if not start:
                raise
        self.rebuild_indexes(files, file)  # the index pointed into the middle of a batch
        return self._seek_from(file, self.position_floor(files, offset), offset)

    def _seek_from(self, file: File, start: int, offset: int) -> tuple[int, BatchHeader | None]:
        for position, header in walk(file, start, self.size, self.base_offset):
            if header.last_offset >= offset:
                return position, header
        return self.size, None

    def boundary_floor(self, files: Files, file: File, position: int) -> int:
        """A known start of a batch at or before `position`."""
        self.load_indexes(files, file)
        entry = self.offsets.floor(files, 1, position)
        return entry[1] if entry is not None else 0
