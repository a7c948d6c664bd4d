"""All logs of a broker: which directories hold them, opening them, and what has to be done from time to time."""

from __future__ import annotations

import asyncio
import errno
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from broadsheet_broker.log.checkpoints import TopicPartition
from broadsheet_broker.log.cleaner_schedule import CleanerSchedule
from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import PASSING, CorruptLogError, StorageError
from broadsheet_broker.log.file_pool import FilePool
from broadsheet_broker.log.housekeeping import Housekeeping
from broadsheet_broker.log.keeper import LogManagerSettings
from broadsheet_broker.log.log import Log
from broadsheet_broker.log.log_directory import DELETE_SUFFIX, STRAY_SUFFIX, LogDirectory
from broadsheet_broker.log.recovery import split_directory_name
from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)


class LogManager:
    """Opens, finds, creates, deletes and closes logs. Lives on the event loop; what blocks for long is offloaded."""

    def __init__(
        self,
        environment: Environment,
        directories: list[str],
        *,
        config_for: Callable[[str], LogConfig],
        settings: LogManagerSettings | None = None,
    ) -> None:
        self.environment = environment
        self.settings = settings or LogManagerSettings()
        self.config_for = config_for
        """Effective configuration of a topic by name."""
        self.high_watermark_of: Callable[[Log], int] = lambda log: log.log_end_offset
        """Replication's view of what is committed, which bounds retention."""
        self.on_full_disk: Callable[[], None] = lambda: None
        self.on_directory_failure: Callable[[str, StorageError], None] = lambda path, error: None
        """Called once for each directory that goes offline."""
        self.pool = FilePool(environment.files, self.settings.open_files)
        self.offline_directories: dict[str, StorageError] = {}
        self.cleaner = CleanerSchedule(self)
        self.housekeeping = Housekeeping(self)
        self._all_directories = list(directories)
        self.live: dict[str, LogDirectory] = {}
        """The directories that are in use, by path."""
        self._logs: dict[TopicPartition, Log] = {}
        self.failed: dict[TopicPartition, tuple[str, StorageError]] = {}
        """Partitions whose log cannot be opened: their directory and why."""
        self._opening: set[TopicPartition] = set()
        """Those of them that a thread tries again."""
        self._doomed: list[str] = []
        self.closing = False
        self.complete = False
        """Set by the owner when every partition that was here before has been asked for: from then on a partition
        without a log and without a directory is a new one, even if a directory could not be read at the start."""

    # Questions.

    @property
    def directories(self) -> list[str]:
        """Paths of the live log directories."""
        return list(self.live)

    def directory_id(self, path: str) -> uuid.UUID | None:
        directory = self.live.get(path)
        return directory.directory_id if directory is not None else None

    @property
    def previous_broker_epoch(self) -> int:
        """The broker epoch of the last stop if that was clean in every directory, else -1 (KIP-966)."""
        return min((directory.previous_broker_epoch for directory in self.live.values()), default=-1)

    def get(self, topic: str, partition: int) -> Log | None:
        return self._logs.get((topic, partition))

    def __iter__(self) -> Iterator[Log]:
        return iter(self._logs.values())

    def __len__(self) -> int:
        return len(self._logs)

    def logs(self) -> Mapping[TopicPartition, Log]:
        """The logs by topic and partition."""
        return self._logs

    def failure(self, topic: str, partition: int) -> StorageError | None:
        """Why this partition's log could not be opened."""
        failed = self.failed.get((topic, partition))
        return failed[1] if failed is not None else None

    # Start.

    async def start(self) -> None:
        """Take the directories and open every log in them. Raises StorageError when no directory is usable.

        A directory that cannot be used goes offline alone, and so does a log that cannot be opened. Directories in use
        by another process are an error at once, since that is a mistake of configuration.
        """
        for path in self._all_directories:
            directory = LogDirectory(self.environment, path)
            try:
                directory.prepare()
                names = directory.partitions()
                self._doomed += [f"{path}/{name}" for name in directory.doomed()]
            except OSError as error:
                self.lose(path, StorageError(f"{path}: this log directory cannot be used: {error}", error))
                continue
            self.live[path] = directory
            await self._open_all(directory, names)
        if not self.live:
            reasons = "; ".join(str(error) for error in self.offline_directories.values())
            raise StorageError(f"none of log.dirs can be used: {reasons}")
        self.housekeeping.start(self.cleaner.run)
        if self._doomed:
            self.housekeeping.run(self._remove_doomed())

    async def _open_all(self, directory: LogDirectory, names: list[str]) -> None:
        """A few at a time, so that recovery of many logs needs the memory of a few."""
        waiting = iter(names)

        async def worker() -> None:
            for name in waiting:
                partition = split_directory_name(name)
                try:
                    log = await self.environment.offload(self._open, directory, name, partition)
                except StorageError as error:
                    self.failed[partition] = (directory.path, error.again())
                    logger.error("%s stays offline: %s", name, error)
                    continue
                except Exception as error:
                    path = f"{directory.path}/{name}"
                    self.failed[partition] = (directory.path, StorageError(f"{path}: cannot be opened: {error!r}"))
                    logger.exception("%s stays offline", name)
                    continue
                self._admit(partition, log)

        await asyncio.gather(*(worker() for _ in range(min(self.settings.recovery_threads, max(1, len(names))))))
        for partition, point in directory.recovery_points.items():
            if point and partition not in self._logs and partition not in self.failed:
                logger.warning(
                    "%s: checkpoint lists %s-%d up to offset %d, but the directory is missing",
                    directory.path,
                    *partition,
                    point,
                )

    def _open(self, directory: LogDirectory, name: str, partition: TopicPartition) -> Log:
        """In a worker thread."""
        return Log.open(
            self.environment,
            f"{directory.path}/{name}",
            config=self.config_for(partition[0]),
            recovery_point=directory.recovery_points.get(partition, 0),
            log_start_offset=directory.log_start_offsets.get(partition, 0),
            clean_shutdown=directory.clean,
            pool=self.pool,
            producer_id_expiration_ms=self.settings.producer_id_expiration_ms,
        )

    def _admit(self, partition: TopicPartition, log: Log) -> None:
        known = self._logs.get(partition)
        if known is not None:
            error = StorageError(f"{log.directory} and {known.directory} hold the same partition. Move one away")
            self.failed[partition] = (log.parent, error)
            logger.error("%s", error)
            del self._logs[partition]
            return
        log.segments.on_failure = partial(self._on_log_failure, log)
        log.segments.on_full_disk = self._on_full_disk
        self._logs[partition] = log

    async def open_again(self, topic: str, partition: int) -> bool:
        """Try again to open a log that could not be opened at the start; True when it is open now."""
        key = (topic, partition)
        path, _ = self.failed[key]
        directory = self.live.get(path)
        if directory is None:
            return False
        log: Log | None = None
        failure: StorageError | None = None
        self._opening.add(key)
        try:
            log = await self.environment.offload(self._open_existing, directory, f"{topic}-{partition}", key)
        except StorageError as error:
            failure = error.again()
        except Exception as error:
            failure = StorageError(f"{path}/{topic}-{partition}: cannot be opened: {error!r}")
            logger.exception("%s-%d stays offline", topic, partition)
        finally:
            self._opening.discard(key)
        wanted = key in self.failed
        if self.live.get(path) is not directory:
            failure = self.offline_directories[path]
        if log is not None and not self.closing and wanted and failure is None:
            del self.failed[key]
            self._admit(key, log)
            return True
        if log is not None:
            log.close_files()
        if not wanted and path in self.live:  # `delete` left it to us
            self._move_aside(path, topic, partition)
        elif wanted and failure is not None:
            self.failed[key] = path, failure
        return False

    def _open_existing(self, directory: LogDirectory, name: str, partition: TopicPartition) -> Log:
        """In a worker thread. An empty log in the place of one that is gone could be followed by its replicas."""
        path = f"{directory.path}/{name}"
        if not self.environment.files.exists(path):
            raise StorageError(f"{path} is gone. Put it back and start the broker again")
        return self._open(directory, name, partition)

    # Logs that come and go.

    def get_or_create(
        self,
        topic: str,
        partition: int,
        topic_id: uuid.UUID | None,
        config: LogConfig,
        directory_id: uuid.UUID | None = None,
    ) -> Log:
        """The partition's log. One that belongs to an earlier topic of that name is moved aside, not deleted.

        `directory_id`: the directory that the cluster has it in; None when that is unknown. Raises StorageError when
        the log cannot be opened, no directory takes it, or it may be in one that is offline: an empty one in its place
        could be followed by replicas that have more.
        """
        key = (topic, partition)
        log = self._logs.get(key)
        if log is not None:
            if topic_id is None or log.topic_id is None or log.topic_id == topic_id:
                if log.topic_id is None and topic_id is not None:
                    log.identify(topic_id)
                log.reconfigure(config)
                return log
            logger.warning("%s holds an earlier topic of that name (id %s)", log.directory, log.topic_id)
            self._remove(log, STRAY_SUFFIX)
        failed = self.failed.get(key)
        if failed is not None:
            raise failed[1].again()
        if key in self._opening:
            raise StorageError(
                f"{topic}-{partition}: the log of a deleted topic with the same name is still being opened",
                OSError(errno.EBUSY, "it has to be moved aside first"),
            )
        if not self.live:
            raise StorageError("every log directory is offline")
        path = self._path_of(directory_id)
        if path is None and self.offline_directories and (directory_id is not None or not self.complete):
            offline = ", ".join(self.offline_directories)
            reason = f"{topic}-{partition} may be in {offline}, which is offline"
            if directory_id is None:  # once everything that was here is found, it must not pass for a new one
                self.failed[key] = next(iter(self.offline_directories)), StorageError(reason)
            raise StorageError(reason)
        path = path or self._emptiest()
        directory = self.live[path]
        try:
            if not self.environment.files.is_directory(path):  # removed, or unmounted, under a running broker
                raise FileNotFoundError(errno.ENOENT, "it is not there any more", path)
            directory.forget(key)
        except OSError as error:
            raise self._not_made(path, error) from error
        log = Log.open(
            self.environment, f"{path}/{topic}-{partition}", config=config, topic_id=topic_id, pool=self.pool
        )
        log.segments.on_failure = partial(self._on_log_failure, log)
        log.segments.on_full_disk = self._on_full_disk
        self._logs[key] = log
        return log

    def _not_made(self, path: str, error: OSError) -> StorageError:
        failure = StorageError(f"{path}: no log can be made here: {error}", error)
        return failure if error.errno in PASSING else self.lose(path, failure)

    def _path_of(self, directory_id: uuid.UUID | None) -> str | None:
        """The live directory with that id."""
        if directory_id is None:
            return None
        return next((path for path, found in self.live.items() if found.directory_id == directory_id), None)

    def _emptiest(self) -> str:
        """The live directory with the fewest logs."""
        if len(self.live) == 1:
            return next(iter(self.live))
        counts = dict.fromkeys(self.live, 0)
        for log in self._logs.values():
            counts[log.parent] += 1
        return min(counts, key=lambda path: counts[path])

    def delete(self, topic: str, partition: int) -> None:
        """The log is gone at once (renamed, so also after a crash); its files go after file.delete.delay.ms."""
        log = self._logs.get((topic, partition))
        if log is None:
            failed = self.failed.pop((topic, partition), None)
            if failed is not None and failed[0] in self.live and (topic, partition) not in self._opening:
                self._move_aside(failed[0], topic, partition)
            return
        target = self._remove(log, DELETE_SUFFIX)
        self.environment.loop.call_later(log.config.file_delete_delay_ms / 1000, self._begin_removal, target)

    def set_aside(self, log: Log) -> None:
        """Keep a log that does not belong to this broker under another name, as Kafka does."""
        source = log.directory
        target = self._remove(log, STRAY_SUFFIX)
        logger.warning("%s does not belong to this broker; kept as %s", source, target)

    def _new_name(self, topic: str, partition: int, suffix: str) -> str:
        """`<topic>-<partition>.<unique><suffix>`; Kafka cuts the topic where the whole would be over 255 bytes."""
        tail = f"-{partition}.{self.environment.uuid().hex}{suffix}"
        return topic[: 255 - len(tail)] + tail

    def _move_aside(self, parent: str, topic: str, partition: int) -> None:
        """The topic was deleted, but this log could not be read: keep it for inspection."""
        source = f"{parent}/{topic}-{partition}"
        target = f"{parent}/{self._new_name(topic, partition, STRAY_SUFFIX)}"
        try:
            if self.environment.files.exists(source):
                self.environment.files.rename(source, target)
                self.environment.files.sync_directory(parent)
                logger.warning("%s was deleted; its damaged log is kept as %s", source, target)
            self._forget(parent, (topic, partition))
        except OSError as error:
            raise self.lose(parent, StorageError(f"{source}: cannot be moved aside: {error}", error)) from error

    def _forget(self, parent: str, key: TopicPartition) -> None:
        """Take a partition out of its directory's checkpoints. On a full disk, where deleting must go on, that has to
        wait until a log of that name is made."""
        directory = self.live.get(parent)
        if directory is not None:
            try:
                directory.forget(key)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                logger.warning("%s: checkpoints are not written: %s", parent, error)

    def prepare_truncation(self, log: Log, offset: int) -> None:
        """Call before a log is cut to `offset`, so that a crash between the two leaves nothing that looks like loss."""
        directory = self.live.get(log.parent)
        if directory is not None:
            directory.lower_recovery_point((log.topic, log.partition), offset)

    def _remove(self, log: Log, suffix: str) -> str:
        key = (log.topic, log.partition)
        parent, _, name = log.directory.rpartition("/")
        target = f"{parent}/{self._new_name(log.topic, log.partition, suffix)}"
        log.close_files()
        log.segments.take_offline(StorageError(f"{name} was deleted"))
        del self._logs[key]
        self.cleaner.forget(*key)
        files = self.environment.files
        try:
            files.rename(log.directory, target)
            files.sync_directory(parent)
            self._forget(parent, key)
        except OSError as error:
            raise self.lose(parent, StorageError(f"{log.directory}: cannot be deleted: {error}", error)) from error
        return target

    def _begin_removal(self, path: str) -> None:
        if not self.closing:  # else the next start sees to it
            self._doomed.append(path)
            self.housekeeping.run(self._remove_doomed())

    async def _remove_doomed(self) -> None:
        while self._doomed and not self.closing:  # what is left then, the next start removes
            path = self._doomed.pop()
            try:
                await self.environment.offload(self.environment.files.remove_tree, path)
            except OSError as error:
                logger.warning("%s was not removed: %s", path, error)

    # Failures.

    def _on_full_disk(self) -> None:
        """A write was refused because the disk is full. May run in a worker thread."""
        if not self.closing:
            self.environment.loop.call_soon_threadsafe(self.on_full_disk)

    def _on_log_failure(self, log: Log, error: StorageError) -> None:
        """A write or fsync failed, and not because the disk is full. May run in a worker thread."""
        self.environment.loop.call_soon_threadsafe(self._lose_directory_of, log, error)

    def _lose_directory_of(self, log: Log, error: StorageError) -> None:
        if self._logs.get((log.topic, log.partition)) is log:  # else it was deleted, and its files with it
            self.lose(log.parent, error)

    def lose(self, path: str, error: StorageError) -> StorageError:
        """Take a directory and all its logs offline; returns an error to raise."""
        error = error.again()
        if path in self.offline_directories:
            return error
        self.offline_directories[path] = error
        logger.error("log directory %s is offline: %s", path, error)
        directory = self.live.pop(path, None)
        for key, log in list(self._logs.items()):
            if log.parent == path:
                log.segments.take_offline(error)
                log.close_files()
                self.failed[key] = (path, error)
                del self._logs[key]
        if directory is not None:
            directory.unlock()
        self.on_directory_failure(path, error)
        return error.again()

    # Stop.

    async def close(self, *, clean: bool = True, broker_epoch: int = -1) -> None:
        """Write everything out and mark the directories as cleanly stopped; or with `clean=False` just let go."""
        self.closing = True
        await self.housekeeping.close()
        unclean: set[str] = set()
        if clean:
            waiting = iter(list(self._logs.values()))

            async def worker() -> None:
                for log in waiting:
                    try:
                        log.flush_appends()
                        await self.environment.offload(log.close)
                    except StorageError as error:
                        logger.error("%s-%d was not closed cleanly: %s", log.topic, log.partition, error)
                        unclean.add(log.parent)

            await asyncio.gather(*(worker() for _ in range(self.settings.recovery_threads * 2)))
        for directory in self.live.values():
            if clean:
                # A log that was not recovered must be looked at again: without the marker, recovery does so.
                unclean.update(
                    path
                    for path, error in self.failed.values()
                    if path == directory.path and (not directory.clean or isinstance(error, CorruptLogError))
                )
                await self._close_directory(directory, marked=directory.path not in unclean, broker_epoch=broker_epoch)
            directory.unlock()
        if not clean:
            for log in self._logs.values():
                log.close_files()

    async def _close_directory(self, directory: LogDirectory, *, marked: bool, broker_epoch: int) -> None:
        try:
            await self.environment.offload(
                directory.store_recovery_points, self.housekeeping.recovery_points(directory)
            )
            await self.environment.offload(
                directory.store_log_start_offsets, self.housekeeping.log_start_offsets(directory)
            )
            if marked:
                await self.environment.offload(directory.write_marker, broker_epoch)
        except OSError as error:
            logger.error("%s was not closed cleanly: %s", directory.path, error)
