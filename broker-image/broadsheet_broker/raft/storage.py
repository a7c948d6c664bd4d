"""The metadata log on disk: the log of `__cluster_metadata-0` and the snapshots beside it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from typing import Final

from broadsheet_broker.config.internal_topics import CLUSTER_METADATA_TOPIC
from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.log import RAFT, AppendInfo, Log
from broadsheet_broker.raft.snapshot import SUFFIX, Snapshot, SnapshotId, list_snapshots, read_snapshot
from broadsheet_broker.seams import Buffer, Environment, Files
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.primitives import uuid_text
from broadsheet_broker.wire.records import BatchHeader, iterate_batches

logger = logging.getLogger(__name__)

DIRECTORY: Final = f"{CLUSTER_METADATA_TOPIC}-0"
TOPIC_ID: Final = uuid.UUID(int=1)
"""Kafka's fixed id of the metadata topic (Uuid.METADATA_TOPIC_ID), in text AAAAAAAAAAAAAAAAAAAAAQ."""

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""The largest batch of the metadata log, as in Kafka."""

PART_SUFFIX: Final = ".part"
"""Ends the name of a snapshot that is being fetched, as in Kafka."""

_READ_BYTES: Final = 1024 * 1024


def write_topic_id(files: Files, directory: str) -> None:
    """Say whose directory this is, durably and before anything else is in it."""
    files.replace(f"{directory}/partition.metadata", f"version: 0\ntopic_id: {uuid_text(TOPIC_ID)}".encode())


class MetadataLog:
    """Batches by offset, and snapshots that stand for a prefix of them."""

    def __init__(self, environment: Environment, parent: str, segment_bytes: int, segment_ms: int) -> None:
        self._environment = environment
        self._files = environment.files
        self._parent = parent
        self.directory = f"{parent}/{DIRECTORY}"
        self._config = LogConfig(
            segment_bytes=segment_bytes,
            segment_ms=segment_ms,
            retention_ms=-1,
            max_message_bytes=2 * MAX_BATCH_BYTES,
        )
        self.snapshots: list[SnapshotId] = []
        """On disk, oldest first."""
        self.log: Log
        self._unsynced_names = False
        """The directory, or files in it, are new, and their names may not outlive a loss of power."""

    def open(self) -> Snapshot | None:
        """Open the log, recovering what a crash left, and read the newest sound snapshot.

        Raises KafkaError when snapshot and log leave a hole between them.
        """
        files = self._files
        names = files.list(self.directory) if files.exists(self.directory) else []
        self._unsynced_names = not any(name.endswith(".log") for name in names)
        if self._unsynced_names:
            files.make_directory(self.directory)
            write_topic_id(files, self.directory)
        for name in names:
            if name.endswith((SUFFIX + ".tmp", SUFFIX + ".part", SUFFIX + ".deleted")):
                files.remove(f"{self.directory}/{name}")  # a snapshot that was not finished, or not wanted
        self.snapshots = list(list_snapshots(files, self.directory)) if names else []
        snapshot = self._newest_snapshot()
        start = self.snapshots[0].offset if self.snapshots else 0
        self.log = Log.open(self._environment, self.directory, config=self._config, topic_id=TOPIC_ID)
        newest = self.snapshots[-1].offset if self.snapshots else 0
        if newest and (self.log.log_end_offset < newest or 0 <= self.log.latest_epoch < self.snapshots[-1].epoch):
            # The log is synced before a snapshot of it is written: a file was lost, or the snapshot was fetched.
            logger.warning("%s ends before snapshot %d and starts again there", self.directory, newest)
            self.log.truncate_fully_and_start_at(newest)
        elif start > self.log.log_start_offset:
            self.log.advance_log_start_offset(start, self.log.log_end_offset)
        if newest >= self.log.log_start_offset:
            self._let_go_before(self.log.log_start_offset)
        if self.log.log_start_offset > newest:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{self.directory} begins at offset {self.log.log_start_offset}, and no snapshot stands for what was "
                "before: a file is missing. Restore the directory from a copy.",
            )
        return snapshot

    def _newest_snapshot(self) -> Snapshot | None:
        """The newest snapshot that can be read; damaged ones are skipped and logged."""
        damaged: list[SnapshotId] = []
        for id in reversed(self.snapshots):
            try:
                snapshot = read_snapshot(self._files, self.path(id))
            except KafkaError as error:
                logger.error("%s; trying an older snapshot", error.message)
                damaged.append(id)
                continue
            self.snapshots = [kept for kept in self.snapshots if kept not in damaged]
            return snapshot
        self.snapshots = []
        return None

    def path(self, id: SnapshotId) -> str:
        return f"{self.directory}/{id.file_name}"

    # The log.

    @property
    def start_offset(self) -> int:
        return self.log.log_start_offset

    @property
    def end_offset(self) -> int:
        return self.log.log_end_offset

    @property
    def oldest_snapshot(self) -> SnapshotId | None:
        return self.snapshots[0] if self.snapshots else None

    @property
    def newest_snapshot(self) -> SnapshotId | None:
        return self.snapshots[-1] if self.snapshots else None

    def end_of_epoch(self, epoch: int) -> tuple[int, int]:
        """The largest epoch that is not above this one, and where it ends."""
        found = self.log.end_offset_for_epoch(epoch)
        return found if found[0] >= 0 else (self.last_epoch, self.end_offset)

    @property
    def last_epoch(self) -> int:
        """Epoch of the last record, be it in the log or only in a snapshot; 0 before the first."""
        return max(self.log.latest_epoch, self.snapshots[-1].epoch if self.snapshots else 0, 0)

    def append(self, batch: bytearray, epoch: int, now_ms: int) -> AppendInfo:
        """Queue one batch; it gets its offsets now and is written by `flush`."""
        return self.log.append_as_leader(memoryview(batch), epoch, now_ms, origin=RAFT)

    def append_fetched(self, records: memoryview) -> None:
        """Append what the leader sent, in the file when this returns. Raises KafkaError, with the log as it was."""
        end = self.log.log_end_offset
        try:
            self.log.append_as_follower(records)
        except KafkaError:
            self.log.flush_appends()
            self.log.truncate_to(end)
            raise
        self.log.flush_appends()  # takes back by itself what it could not write

    def sync(self) -> None:
        """Make everything flushed survive a loss of power. Blocks; safe in another thread."""
        if self._unsynced_names:
            self._environment.files.sync_directory(self.directory)
            self._environment.files.sync_directory(self._parent)
            self._unsynced_names = False
        self.log.sync()

    def read(self, offset: int, limit: int | None = None) -> Iterator[tuple[BatchHeader, memoryview]]:
        """The batches from `offset` to the end, or to `limit` (exclusive)."""
        end = self.log.log_end_offset if limit is None else min(limit, self.log.log_end_offset)
        while offset < end:
            fetched = self.log.read(offset, _READ_BYTES, limit_offset=end)
            for header, batch in iterate_batches(fetched.data):
                if header.last_offset >= offset:
                    yield header, batch
            if fetched.next_offset <= offset:
                return
            offset = fetched.next_offset

    # Snapshots.

    def write_snapshot(self, id: SnapshotId, data: bytes) -> None:
        """Write a snapshot durably. Blocks; safe in another thread."""
        self._files.replace(self.path(id), data)

    def add_snapshot(self, id: SnapshotId) -> None:
        """A snapshot of what this log holds, or held until a fetched one took the place of more."""
        self.snapshots = sorted({*self.snapshots, id})
        self._let_go_before(self.log.log_start_offset)

    def _let_go_before(self, offset: int) -> None:
        """Delete the snapshots that end before the log begins: what lies between is lost, so they are of no use, and
        the oldest snapshot shows which epoch the log's first record follows."""
        for id in [id for id in self.snapshots if id.offset < offset]:
            self._files.remove(self.path(id))
            self.snapshots.remove(id)

    def read_piece(self, id: SnapshotId, position: int, size: int) -> tuple[int, bytes]:
        """Size of a snapshot, and some of its bytes. Raises SNAPSHOT_NOT_FOUND and POSITION_OUT_OF_RANGE."""
        if id not in self.snapshots:
            raise KafkaError(ErrorCode.SNAPSHOT_NOT_FOUND)
        file = self._files.open(self.path(id), read_only=True)
        try:
            total = file.size()
            if not 0 <= position < total:
                raise KafkaError(ErrorCode.POSITION_OUT_OF_RANGE)
            return total, file.read(position, size)
        finally:
            file.close()

    def write_piece(self, id: SnapshotId, position: int, data: Buffer) -> None:
        """Write a piece of a snapshot that is being fetched; the first one starts the file again."""
        file = self._files.open(self.path(id) + PART_SUFFIX, create=True)
        try:
            file.truncate(position)
            file.append([data])
        finally:
            file.close()

    def finish_pieces(self, id: SnapshotId) -> Snapshot:
        """Check a fetched snapshot, and let it stand under its name, durably. Blocks; safe in another thread.

        Raises KafkaError(CORRUPT_MESSAGE) for one that is damaged.
        """
        path = self.path(id)
        file = self._files.open(path + PART_SUFFIX)
        try:
            file.sync()
        finally:
            file.close()
        snapshot = read_snapshot(self._files, path + PART_SUFFIX)
        self._files.rename(path + PART_SUFFIX, path)
        self._files.sync_directory(self.directory)
        return snapshot

    def adopt(self, id: SnapshotId) -> bool:
        """A fetched snapshot is there. True when it stands for more than the log had, which now begins behind it."""
        ahead = (self.last_epoch, self.end_offset) < (id.epoch, id.offset)
        if ahead:
            self.log.truncate_fully_and_start_at(id.offset)
        self.add_snapshot(id)
        return ahead

    def clean(self, retention_bytes: int, retention_ms: int, now_ms: int) -> None:
        """Delete the oldest snapshots, and the log before the oldest that stays, as far as retention allows.

        The newest snapshot and the log after it always stay (KIP-630).
        """
        while len(self.snapshots) > 1:
            oldest, following = self.snapshots[0], self.snapshots[1]
            age = now_ms - self._files.modified_ms(self.path(oldest))
            if self._total_bytes() <= retention_bytes and not 0 <= retention_ms < age:
                break
            self._files.remove(self.path(oldest))
            del self.snapshots[0]
            self.log.advance_log_start_offset(following.offset, self.log.log_end_offset)
        start = self.snapshots[0].offset if self.snapshots else 0
        if start > self.log.log_start_offset and self._total_bytes() > retention_bytes:
            self.log.advance_log_start_offset(start, self.log.log_end_offset)
        self.log.delete_old_segments(now_ms, self.log.log_end_offset)

    def _total_bytes(self) -> int:
        return self.log.size + sum(self._files.size(self.path(id)) for id in self.snapshots)
