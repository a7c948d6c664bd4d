"""Retries partitions that could not be opened because the disk was full or descriptors were used up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from broadsheet_broker.log.errors import is_passing

if TYPE_CHECKING:
    from broadsheet_broker.log import LogManager
    from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0


class ReopeningHost(Protocol):
    """What trying again needs of the ReplicaManager."""

    environment: Environment
    logs: LogManager

    def serve_again(self, name: str, index: int) -> None: ...


class Reopening:
    """Looks at the offline partitions from time to time, beginning when it is made."""

    def __init__(self, hosts: ReopeningHost, offline: Mapping[tuple[str, int], Exception]) -> None:
        """`offline`: topic and index of each partition that should be here and is not, and why; read, never written."""
        self._hosts = hosts
        self._offline = offline
        self._loop = hosts.environment.loop
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)

    def kill(self) -> None:
        """Nothing more is tried."""
        self._ended = True
        self._timer.cancel()

    async def close(self) -> None:
        """The same, and wait for what is being tried."""
        self.kill()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _look(self) -> None:
        waiting = [key for key, error in self._offline.items() if is_passing(error)]
        if waiting:
            self._task = self._loop.create_task(self._try_again(waiting))
        else:
            self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)

    async def _try_again(self, waiting: list[tuple[str, int]]) -> None:
        for key in waiting:
            if self._ended:
                return
            try:
                await self._open(*key)
            except Exception:
                logger.exception("%s-%d could not be tried again", *key)
        if not self._ended:
            self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)

    async def _open(self, topic: str, index: int) -> None:
        logs = self._hosts.logs
        if logs.failure(topic, index) is not None and not await logs.open_again(topic, index):
            return
        if (topic, index) in self._offline and not self._ended:
            self._hosts.serve_again(topic, index)
            if (topic, index) not in self._offline:
                logger.info("%s-%d could be opened now and is served again", topic, index)
