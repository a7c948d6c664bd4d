"""One of the broker's log directories: its lock, its checkpoints, its clean-shutdown marker."""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from collections.abc import Mapping

from broadsheet_broker.config.internal_topics import CLUSTER_METADATA_TOPIC
from broadsheet_broker.log import checkpoints
from broadsheet_broker.log.checkpoints import TopicPartition
from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.recovery import split_directory_name
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.primitives import parse_uuid_text

DELETE_SUFFIX = "-delete"
STRAY_SUFFIX = "-stray"
FUTURE_SUFFIX = "-future"

_DELETED = re.compile(r"\S+-\d+\.[0-9a-f]{32}" + DELETE_SUFFIX)
"""What `LogManager.delete` renames a log to, as Kafka does. Anything else is never removed."""

logger = logging.getLogger(__name__)


class LogDirectory:
    """A live log directory. OSError anywhere here means that the directory is lost."""

    def __init__(self, environment: Environment, path: str) -> None:
        self.path = path
        self.files = environment.files
        self.lock: object | None = None
        self.directory_id: uuid.UUID | None = None
        self.clean = False
        """Whether the last process that used it stopped cleanly."""
        self.previous_broker_epoch = -1
        """Broker epoch in the clean-shutdown marker; -1 without one (KIP-966)."""
        self.recovery_points: dict[TopicPartition, int] = {}
        self.log_start_offsets: dict[TopicPartition, int] = {}
        self.changes = 0
        """Grows with every `forget`."""
        self._writing = threading.Lock()
        """Held while a checkpoint is written: by the loop (`forget`) or a thread."""

    def prepare(self) -> None:
        """Create, lock, and read what the last process left. The marker goes: from now on a crash is a crash."""
        files = self.files
        files.make_directory(self.path)
        self.lock = files.lock(f"{self.path}/.lock")
        if self.lock is None:
            raise StorageError(
                f"{self.path}: another process uses this log directory (it holds {self.path}/.lock). "
                "Stop it, or set other log.dirs"
            )
        self.directory_id = self._read_directory_id()
        marker = f"{self.path}/{checkpoints.CLEAN_SHUTDOWN_MARKER}"
        if files.exists(marker):
            self.clean = True
            self.previous_broker_epoch = _marker_epoch(files.read_bytes(marker))
            files.remove(marker)
            files.sync_directory(self.path)
        self.recovery_points = self._read(checkpoints.RECOVERY_POINT_CHECKPOINT)
        self.log_start_offsets = self._read(checkpoints.LOG_START_OFFSET_CHECKPOINT)

    def _read_directory_id(self) -> uuid.UUID | None:
        """`directory.id` of meta.properties (KIP-858); the storage tool has checked that file as a whole."""
        path = f"{self.path}/meta.properties"
        if not self.files.exists(path):
            return None
        for line in self.files.read_bytes(path).decode(errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "directory.id":
                try:
                    return parse_uuid_text(value.strip())
                except ValueError as error:
                    raise StorageError(f"{path}: directory.id={value.strip()}: {error}") from error
        return None

    def _read(self, name: str) -> dict[TopicPartition, int]:
        """A damaged checkpoint costs time, not data: recovery then reads every segment."""
        try:
            return checkpoints.read_offsets(self.files, f"{self.path}/{name}")
        except checkpoints.CheckpointError as error:
            logger.warning("%s; starting without it: every segment is checked", error)
            self.clean = False
            return {}

    def partitions(self) -> list[str]:
        """Names of the directories `<topic>-<partition>` here, without the metadata log."""
        return [name for name in self._directories() if _is_partition(name)]

    def doomed(self) -> list[str]:
        """Names of directories whose deletion a stop interrupted."""
        return [name for name in self._directories() if _DELETED.fullmatch(name)]

    def _directories(self) -> list[str]:
        return [name for name in self.files.list(self.path) if self.files.is_directory(f"{self.path}/{name}")]

    def store_recovery_points(self, points: Mapping[TopicPartition, int], as_of: int | None = None) -> None:
        """Durable, if anything changed. Not at all if something was forgotten since `changes` was `as_of`."""
        with self._writing:
            if as_of in (None, self.changes) and points != self.recovery_points:
                checkpoints.write_offsets(self.files, f"{self.path}/{checkpoints.RECOVERY_POINT_CHECKPOINT}", points)
                self.recovery_points = dict(points)

    def store_log_start_offsets(self, offsets: Mapping[TopicPartition, int], as_of: int | None = None) -> None:
        with self._writing:
            if as_of in (None, self.changes) and offsets != self.log_start_offsets:
                checkpoints.write_offsets(self.files, f"{self.path}/{checkpoints.LOG_START_OFFSET_CHECKPOINT}", offsets)
                self.log_start_offsets = dict(offsets)

    def forget(self, partition: TopicPartition) -> None:
        """The partition's log goes: a new one of that name must not be measured by old checkpoints."""
        with self._writing:
            self.changes += 1  # what a thread is about to store is out of date
        if partition in self.recovery_points:
            self.store_recovery_points({k: v for k, v in self.recovery_points.items() if k != partition})
        if partition in self.log_start_offsets:
            self.store_log_start_offsets({k: v for k, v in self.log_start_offsets.items() if k != partition})

    def lower_recovery_point(self, partition: TopicPartition, offset: int) -> None:
        """The log is about to be cut to `offset`: a stored point above its end would look like loss after a crash."""
        with self._writing:
            self.changes += 1  # what a thread is about to store is out of date
        if self.recovery_points.get(partition, 0) > offset:
            self.store_recovery_points({**self.recovery_points, partition: offset})
        if self.log_start_offsets.get(partition, 0) > offset:  # it would look as if all that is left had been deleted
            self.store_log_start_offsets({k: v for k, v in self.log_start_offsets.items() if k != partition})

    def write_marker(self, broker_epoch: int) -> None:
        content = json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":"))
        self.files.replace(f"{self.path}/{checkpoints.CLEAN_SHUTDOWN_MARKER}", content.encode())

    def unlock(self) -> None:
        close = getattr(self.lock, "close", None)
        if close is not None:
            close()
        self.lock = None


def _is_partition(name: str) -> bool:
    if name.endswith((DELETE_SUFFIX, STRAY_SUFFIX, FUTURE_SUFFIX)):
        return False
    try:
        return split_directory_name(name)[0] != CLUSTER_METADATA_TOPIC
    except ValueError:
        return False


def _marker_epoch(data: bytes) -> int:
    try:
        return int(json.loads(data)["brokerEpoch"])
    except (ValueError, KeyError, TypeError):
        return -1
