"""What a log has on disk: its segments, the producers' snapshots and the leader epochs, and how far that is durable.

`Segments` is the only one that changes its fields. What moves a log's end is `Tail`'s, which stands on top.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, overload

from broadsheet_broker.log.errors import FULL_DISK, NO_DESCRIPTORS, PASSING, StorageError
from broadsheet_broker.log.segment import (
    DELETED_SUFFIX,
    INDEX_SUFFIXES,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    Segment,
    stem_of,
)

if TYPE_CHECKING:
    from broadsheet_broker.log.config import LogConfig
    from broadsheet_broker.log.file_pool import FilePool
    from broadsheet_broker.log.leader_epochs import LeaderEpochs
    from broadsheet_broker.log.producer_state import ProducerState
    from broadsheet_broker.seams import Environment, File

_MAX_HINTS: Final = 8


class Segments(Sequence[Segment]):
    """The segments in ascending order, the last of which takes the appends; and what stands beside them.

    Used on the event loop, apart from `purge`, and what `durability.sync` calls.
    """

    __slots__ = (
        "bases",
        "config",
        "cut_at",
        "cuts",
        "directory",
        "directory_dirty",
        "environment",
        "epochs",
        "files",
        "generation",
        "hints",
        "items",
        "offline",
        "on_failure",
        "on_full_disk",
        "pool",
        "producers",
        "recovery_point",
        "snapshots",
        "start_offset",
        "synced_ms",
        "trash",
    )

    def __init__(
        self,
        environment: Environment,
        directory: str,
        items: list[Segment],
        *,
        config: LogConfig,
        start_offset: int,
        recovery_point: int,
        epochs: LeaderEpochs,
        producers: ProducerState,
        snapshots: list[int],
        pool: FilePool,
        directory_dirty: bool,
    ) -> None:
        self.environment = environment
        self.files = environment.files
        self.directory = directory
        self.config = config
        self.items = items
        self.bases = [segment.base_offset for segment in items]
        self.start_offset = start_offset
        """The first offset that readers may ask for: it may lie within the first segment (DeleteRecords)."""
        self.recovery_point = recovery_point
        """Everything below survives a loss of power."""
        self.synced_ms = environment.clock.time_ms()
        """When it was last made so."""
        self.epochs = epochs
        self.producers = producers
        self.snapshots = snapshots
        """Offsets of the producers' snapshots, ascending."""
        self.pool = pool
        self.trash: list[str] = []
        """Files renamed to `.deleted`, for `purge`."""
        self.offline: StorageError | None = None
        """Why nothing can be appended or read; None while the log is usable."""
        self.on_failure: Callable[[StorageError], None] | None = None
        """Called with failures other than a full disk: the directory may be lost. May be in a worker thread."""
        self.on_full_disk: Callable[[], None] | None = None
        """Called when a write was refused because the disk is full. May be in a worker thread."""
        self.hints: dict[int, tuple[Segment, int]] = {}
        """Where batches begin that readers will probably ask for: offset -> segment and position."""
        self.generation = 0
        """Grows when segments are taken away or cut: a copy or a sync that began before is void."""
        self.cuts = 0
        self.cut_at = 0
        """How often the end was cut, and where it was last."""
        self.directory_dirty = directory_dirty
        """Whether names in the directory may be lost with the power."""

    # A sequence of segments.

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | list[Segment]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"<Segments {self.name} {self.bases}>"

    @property
    def name(self) -> str:
        """`<topic>-<partition>`."""
        return self.directory.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """The log directory of the broker that this log's directory is in."""
        return self.directory.rpartition("/")[0]

    @property
    def size(self) -> int:
        """Bytes in the segments."""
        return sum(segment.size for segment in self.items)

    def number_of(self, offset: int) -> int:
        """Which segment has `offset`; -1 below the first."""
        return bisect_right(self.bases, offset) - 1

    def end_of(self, number: int, log_end_offset: int) -> int:
        """Where a segment ends: at the base of the next one, or with the log."""
        return self.bases[number + 1] if number + 1 < len(self.bases) else log_end_offset

    def file(self, segment: Segment, *, create: bool = False) -> File:
        """The segment's open file."""
        return self.pool.file(segment, create=create)

    def remember(self, offset: int, segment: Segment, position: int) -> None:
        """A reader will probably go on at `offset`: spare it the index."""
        hints = self.hints
        if len(hints) >= _MAX_HINTS:
            del hints[next(iter(hints))]
        hints[offset] = (segment, position)

    # Segments that come and go.

    def new(self, base_offset: int, now_ms: int) -> Segment:
        """An empty segment, which is not one of these yet."""
        segment = Segment(
            stem_of(self.directory, base_offset),
            base_offset,
            0,
            created_ms=now_ms,
            jitter_ms=self.config.random_jitter_ms(self.environment.random),
        )
        segment.begin_empty()
        return segment

    def add(self, segment: Segment) -> None:
        """A new last one, whose file is there."""
        self.items.append(segment)
        self.bases.append(segment.base_offset)
        self.directory_dirty = True

    def give_up(self, segment: Segment) -> None:
        """A new one that is not needed after all."""
        self.pool.close(segment)
        try:
            self.files.remove(segment.path)
        except OSError:
            return

    def replace(self, group: Sequence[Segment], copy: Segment) -> None:
        """One compacted segment in the place of neighbours."""
        at = self.items.index(group[0])
        self.items[at : at + len(group)] = [copy]
        self._changed()

    def discard(self, doomed: Sequence[Segment]) -> None:
        """Rename the segments' files to `.deleted`, so that a crash does not bring them back; `purge` removes them."""
        for segment in doomed:
            self.set_aside(segment)
            self.items.remove(segment)
        self.generation += 1
        self.directory_dirty = True
        self._changed()

    def set_aside(self, segment: Segment) -> None:
        """Rename a segment's files to `.deleted`."""
        self.pool.close(segment)
        for suffix in (LOG_SUFFIX, *INDEX_SUFFIXES):
            path = segment.stem + suffix
            if suffix == LOG_SUFFIX or self.files.exists(path):
                self.files.rename(path, path + DELETED_SUFFIX)
                self.trash.append(path + DELETED_SUFFIX)

    def purge(self) -> None:
        """Remove what was renamed to `.deleted`. Freeing large files takes a while: any thread."""
        while self.trash:
            path = self.trash.pop()
            try:
                self.files.remove(path)
            except OSError:
                return  # the next start removes it

    def close_files(self) -> None:
        """Let go of descriptors, writing nothing."""
        for segment in self.items:
            self.pool.close(segment)

    def _changed(self) -> None:
        self.bases = [segment.base_offset for segment in self.items]
        self.hints.clear()

    # Ends.

    def start_at(self, offset: int) -> None:
        """Readers begin at `offset` from now on."""
        self.start_offset = offset
        self.epochs.truncate_from_start(offset)

    def cut(self, end_offset: int) -> None:
        """The log ends at `end_offset` now: what was changed in files was changed already."""
        self.generation += 1  # first, so that a sync under way finds out in any case
        self.cuts += 1
        self.cut_at = end_offset
        self.recovery_point = min(self.recovery_point, end_offset)
        self._changed()

    def begin_again(self, segment: Segment) -> None:
        """All others are gone; the log is empty and begins where this segment does, and nothing of it can be lost."""
        self.add(segment)
        self.start_offset = segment.base_offset
        self.cut(segment.base_offset)
        self.recovery_point = segment.base_offset
        self.epochs.clear()
        self.producers.clear(segment.base_offset)

    # Snapshots of the producers.

    def snapshot_path(self, offset: int) -> str:
        return f"{self.directory}/{offset:020d}{SNAPSHOT_SUFFIX}"

    def write_snapshot(self, end_offset: int) -> bool:
        """Write the producers' state as of the log's end; False when there is nothing that is not written yet."""
        if (self.snapshots and self.snapshots[-1] >= end_offset) or end_offset <= self.start_offset:
            return False
        file = self.files.open(self.snapshot_path(end_offset), create=True)
        try:
            file.truncate(0)
            file.append([self.producers.to_snapshot()])
        finally:
            file.close()
        self.snapshots.append(end_offset)
        return True

    def remove_snapshots(self, offsets: Sequence[int]) -> None:
        for offset in offsets:
            self.files.remove(self.snapshot_path(offset))
            self.snapshots.remove(offset)

    # Durability and failures.

    def names_changed(self) -> None:
        """The next sync is to make the names in the directory durable too."""
        self.directory_dirty = True

    def names_synced(self) -> bool:
        """A sync begins; returns whether names changed since the last one."""
        dirty = self.directory_dirty
        if dirty:
            self.directory_dirty = False
        return dirty

    def synced(self, end_offset: int, generation: int, cuts: int) -> None:
        """Everything below `end_offset` is durable, as of the `generation` and the `cuts` that the sync began with."""
        self.synced_ms = self.environment.clock.time_ms()
        if generation == self.generation:
            self.recovery_point = max(self.recovery_point, end_offset)
            if cuts != self.cuts:  # the loop has truncated the log in this very moment
                self.recovery_point = min(self.recovery_point, self.cut_at)

    def reconfigure(self, config: LogConfig) -> None:
        self.config = config

    def take_offline(self, error: StorageError) -> None:
        """Nothing can be appended or read from now on."""
        self.offline = error

    def failure(self, path: str, error: OSError) -> StorageError:
        """What to raise for a failed write or read, after those who must know were called."""
        passing = error.errno in PASSING
        what = "the directory may be lost"
        if passing:
            what = "the disk is full, free space and producing goes on"
            if error.errno in NO_DESCRIPTORS:
                what = "too many files and connections are open, see `ulimit -n`"
        failure = StorageError(f"{path}: {error.strerror or error}: {what}", error)
        if error.errno in FULL_DISK and self.on_full_disk is not None:
            self.on_full_disk()
        if not passing and self.on_failure is not None:
            self.on_failure(failure)
        return failure

    def failure_of_sync(self, error: OSError) -> StorageError:
        """fsync failed: what was written may be gone, also where it reports a full disk (delayed allocation)."""
        failure = StorageError(f"{self.directory}: fsync failed, the directory may be lost: {error}", error)
        if error.errno not in NO_DESCRIPTORS and self.on_failure is not None:
            self.on_failure(failure)
        return failure
