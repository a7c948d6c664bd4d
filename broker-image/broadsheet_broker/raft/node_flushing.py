"""Makes the metadata log of a replica durable, with one fsync for everything that arrived meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.raft import messages as m
from broadsheet_broker.raft.storage import MetadataLog
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

logger = logging.getLogger(__name__)


class FlushingHost(Protocol):
    """The replica whose log is flushed."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def has_failed(self) -> bool:
        """The log can no longer be trusted."""
        ...

    def step(self, message: m.Message) -> None:
        """Give the state machine a message."""
        ...

    def is_taken_back(self) -> bool:
        """The log ends before what was appended last."""
        ...

    def refuse_waiting(self, error: KafkaError) -> None:
        """The disk refused what was not written yet: the log is as if it had never been appended."""
        ...

    def fail(self, error: KafkaError) -> None:
        """The log can no longer be trusted."""
        ...


class Flushing:
    """Knows up to where the log is durable."""

    def __init__(self, environment: Environment, storage: MetadataLog, host: FlushingHost) -> None:
        self._environment = environment
        self._storage = storage
        self._host = host
        self._synced_end = 0
        """The log is durable below this offset."""
        self.replacements = 0
        """How often the log was cut or replaced: what was synced before may be other records than those there now."""
        self._task: asyncio.Task[None] | None = None
        self.last_fsync_ms: float = 0.0
        """How long the last fsync took."""

    def start(self) -> None:
        """Begin to flush unless that is under way or nothing is new."""
        if self._task is None and self._storage.end_offset > self._synced_end:
            self._task = self._environment.loop.create_task(self._flush_all())

    async def done(self) -> None:
        """Wait until nothing is waiting for its fsync."""
        while self._task is not None:
            await asyncio.shield(self._task)

    def truncated(self) -> None:
        """The log was cut at its end."""
        self.replacements += 1
        self._synced_end = min(self._synced_end, self._storage.end_offset)

    def replacing(self) -> None:
        """A snapshot is about to take the place of the log: an fsync under way says nothing about what comes."""
        self.replacements += 1

    def replaced(self) -> None:
        """The log begins after a snapshot that is durable."""
        self._synced_end = self._storage.end_offset

    async def _flush_all(self) -> None:
        """Make appends durable, one group after the other, until there are none."""
        host, storage = self._host, self._storage
        try:
            while (storage.end_offset > self._synced_end or host.is_taken_back()) and not host.has_failed:
                try:
                    storage.log.flush_appends()
                    if host.is_taken_back():
                        raise StorageError("what was appended to the metadata log was taken back")
                except StorageError as error:
                    host.refuse_waiting(error)
                    continue
                await self._sync(storage.end_offset, self.replacements)
        except Exception as error:  # a defect: everything that waits must fail, and nothing more may be promised
            host.fail(failure_of(error))
        finally:
            self._task = None

    async def _sync(self, end: int, replacements: int) -> None:
        if self._host.is_leader:
            self._host.step(m.Appended(end))  # followers may have it while this disk works
        began = self._environment.monotonic()
        try:
            await self._environment.offload(self._storage.sync)
        except StorageError as error:
            # After a failed fsync it is unknown what is on the disk: this replica may no longer lead.
            self._host.fail(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.message))
            return
        self.last_fsync_ms = (self._environment.monotonic() - began) * 1000
        if replacements == self.replacements:
            self._synced_end = end
            self._host.step(m.Flushed(end))


def failure_of(error: Exception) -> KafkaError:
    """Why this replica of the metadata log can be used no more. What it was not made for is no defect of it."""
    if isinstance(error, KafkaError) and error.code is ErrorCode.UNSUPPORTED_VERSION:
        return error
    logger.error("The metadata log stopped working", exc_info=error)
    return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"The metadata log stopped working: {error!r}")
