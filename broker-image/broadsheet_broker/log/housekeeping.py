"""Periodic work on logs: retention, syncs, checkpoints."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING

from broadsheet_broker.log.errors import FULL_DISK, StorageError
from broadsheet_broker.log.log_directory import LogDirectory

if TYPE_CHECKING:
    from broadsheet_broker.log.checkpoints import TopicPartition
    from broadsheet_broker.log.keeper import LogKeeper
    from broadsheet_broker.log.log import Log

logger = logging.getLogger(__name__)


class Housekeeping:
    """The timers of a LogManager, and what it lets run beside the broker's other work."""

    def __init__(self, keeper: LogKeeper) -> None:
        self._keeper = keeper
        self._environment = keeper.environment
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, clean: Callable[[], Awaitable[None]]) -> None:
        """Begin the timers; `clean` compacts what needs it."""
        settings = self._keeper.settings
        self._every("retention", settings.retention_check_interval_ms, self.check_retention)
        if settings.flush_scheduler_interval_ms < settings.flush_offset_checkpoint_interval_ms:
            self._every("flush", max(settings.flush_scheduler_interval_ms, 1), self.flush_dirty_logs)
        self._every("recovery", settings.flush_offset_checkpoint_interval_ms, self.checkpoint_recovery_points)
        self._every("start", settings.flush_start_offset_checkpoint_interval_ms, self.checkpoint_log_start_offsets)
        if settings.cleaner_enable:
            self._every("clean", settings.cleaner_backoff_ms, partial(self._compact, clean))

    def kill(self) -> None:
        """Begin nothing more. The keeper is closing."""
        for timer in self._timers.values():
            timer.cancel()

    async def close(self) -> None:
        """The same, and wait for what is under way."""
        self.kill()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _every(self, name: str, interval_ms: int, action: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await action()
            except Exception:
                logger.exception("%s failed; it is tried again", name)
            finally:
                if not self._keeper.closing:
                    self._every(name, interval_ms, action)

        self._timers[name] = self._environment.loop.call_later(interval_ms / 1000, lambda: self.run(run()))

    def run(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._environment.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compact(self, clean: Callable[[], Awaitable[None]]) -> None:
        """Clean, then delete old segments of compacted logs this often, as Kafka does; and close what is old enough to
        be compacted, even if nothing more is written."""
        await clean()
        await self.check_retention(compacted_only=True)

    async def check_retention(self, *, compacted_only: bool = False) -> None:
        """Old segments, old producers, segments due to roll. Yields between logs, since each takes a moment."""
        for log in list(self._keeper):
            if compacted_only and not log.config.compacts:
                continue
            now_ms = self._environment.clock.time_ms()
            try:
                log.roll_if_needed(now_ms)
                log.delete_old_segments(now_ms, self._keeper.high_watermark_of(log))
            except StorageError as error:
                logger.warning("retention of %s-%d: %s", log.topic, log.partition, error)
            log.producers.remove_expired(now_ms, self._keeper.settings.producer_id_expiration_ms)
            if log.segments.trash:
                await self._environment.offload(log.segments.purge)
            else:
                await asyncio.sleep(0)

    async def flush_dirty_logs(self) -> None:
        """Sync the logs that were last synced flush.ms ago or earlier."""
        for log in list(self._keeper):
            due = log.segments.synced_ms + log.config.flush_ms <= self._environment.clock.time_ms()
            if due and log.recovery_point < log.log_end_offset:
                await self._sync(log)

    async def _sync(self, log: Log) -> None:
        if log.offline is None:
            try:
                await self._environment.offload(log.sync)
            except StorageError as error:
                if log.offline is None:  # else it was deleted meanwhile
                    logger.error("%s-%d: %s", log.topic, log.partition, error)

    async def checkpoint_recovery_points(self) -> None:
        """Sync what flush.ms or a rolled segment asks for, then store how far each log is durable."""
        await self.flush_dirty_logs()
        for log in list(self._keeper):
            if log.recovery_point < log.segments[-1].base_offset:
                await self._sync(log)
        await self._store(LogDirectory.store_recovery_points, self.recovery_points)

    async def checkpoint_log_start_offsets(self) -> None:
        await self._store(LogDirectory.store_log_start_offsets, self.log_start_offsets)

    async def _store(
        self,
        store: Callable[[LogDirectory, dict[TopicPartition, int], int], None],
        values: Callable[[LogDirectory], dict[TopicPartition, int]],
    ) -> None:
        for directory in list(self._keeper.live.values()):
            try:
                await self._environment.offload(store, directory, values(directory), directory.changes)
            except OSError as error:
                self._checkpoint_failed(directory.path, error)

    def _checkpoint_failed(self, path: str, error: OSError) -> None:
        """A full disk does not take the directory offline: the old checkpoint stays, and recovery takes longer."""
        if error.errno in FULL_DISK:
            logger.warning("%s: checkpoints are not written, the disk is full", path)
        else:
            self._keeper.lose(path, StorageError(f"{path}: checkpoints cannot be written: {error}", error))

    def recovery_points(self, directory: LogDirectory) -> dict[TopicPartition, int]:
        points = self._kept(directory, directory.recovery_points)
        for key, log in self._keeper.logs().items():
            if log.parent == directory.path:
                points[key] = log.recovery_point
        return points

    def log_start_offsets(self, directory: LogDirectory) -> dict[TopicPartition, int]:
        """Only where the start is not simply that of the first segment, as Kafka has it."""
        offsets = self._kept(directory, directory.log_start_offsets)
        for key, log in self._keeper.logs().items():
            if log.parent == directory.path and log.log_start_offset > log.segments[0].base_offset:
                offsets[key] = log.log_start_offset
        return offsets

    def _kept(self, directory: LogDirectory, stored: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """What the checkpoint says of logs that could not be opened stays."""
        return {
            key: stored[key]
            for key, (path, _) in self._keeper.failed.items()
            if path == directory.path and key in stored
        }
