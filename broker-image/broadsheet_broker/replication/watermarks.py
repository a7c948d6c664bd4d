"""High watermarks over a restart: read from the checkpoint of each log directory, and written from time to time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from broadsheet_broker.log.checkpoints import HIGH_WATERMARK_CHECKPOINT as CHECKPOINT
from broadsheet_broker.log.checkpoints import CheckpointError, read_offsets, write_offsets

if TYPE_CHECKING:
    from broadsheet_broker.log import LogManager
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)

Offsets = dict[tuple[str, int], int]
"""High watermarks by topic and partition."""


class Watermarks:
    """`start`, then `take` what each partition had, and at the end `stop` and `checkpoint`."""

    def __init__(
        self,
        environment: Environment,
        logs: LogManager,
        interval: float,
        partitions: Callable[[], Iterable[Partition]],
    ) -> None:
        """`interval`: seconds between checkpoints."""
        self._environment = environment
        self._logs = logs
        self._interval = interval
        self._partitions = partitions
        self._recovered: Offsets = {}
        """From the checkpoints, until their partitions are opened."""
        self._written: dict[str, Offsets] = {}
        """What stands in the checkpoint of each directory."""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read the checkpoints, and write them from now on."""
        for directory in self._logs.directories:
            try:
                offsets = read_offsets(self._environment.files, f"{directory}/{CHECKPOINT}")
            except (CheckpointError, OSError) as error:
                # Nothing is lost: the high watermark is found again once the ISR has fetched.
                logger.error("%s: starting from the log start offsets instead", error)
                offsets = {}
            self._recovered.update(offsets)
            self._written[directory] = offsets
        self._schedule()

    def take(self, topic: str, index: int) -> int:
        """The high watermark that a partition had; 0 when none was written, and when asked again."""
        return self._recovered.pop((topic, index), 0)

    def kill(self) -> None:
        """Stop writing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def stop(self) -> None:
        """Stop writing, and wait for what is being written."""
        self.kill()
        if self._task is not None:
            await asyncio.wait([self._task])

    def checkpoint(self) -> None:
        """Write `replication-offset-checkpoint` of every log directory where something has moved. Blocks."""
        for directory, offsets in self._moved():
            self._write(directory, offsets)

    def _moved(self) -> list[tuple[str, Offsets]]:
        current: dict[str, Offsets] = {directory: {} for directory in self._logs.directories}
        for partition in self._partitions():
            here = current.setdefault(partition.log.parent, {})
            here[partition.topic, partition.index] = partition.high_watermark
        return [(path, offsets) for path, offsets in current.items() if offsets != self._written.get(path)]

    def _write(self, directory: str, offsets: Offsets) -> None:
        try:
            write_offsets(self._environment.files, f"{directory}/{CHECKPOINT}", offsets)
        except OSError as error:
            logger.error("the high watermark checkpoint of %s was not written: %s", directory, error)
        else:
            self._written[directory] = offsets

    def _schedule(self) -> None:
        self._timer = self._environment.loop.call_later(self._interval, self._begin)

    def _begin(self) -> None:
        moved = self._moved()
        if moved:
            self._task = self._environment.loop.create_task(self._write_off_loop(moved))
        else:
            self._schedule()

    async def _write_off_loop(self, moved: Iterable[tuple[str, Offsets]]) -> None:
        for directory, offsets in moved:
            await self._environment.offload(self._write, directory, offsets)
        self._task = None
        if self._timer is not None:
            self._schedule()
