"""Snapshots of a replica of the metadata log: those that it takes, sends, and gets from its leader."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Protocol

from broadsheet_broker.raft import messages as m
from broadsheet_broker.raft.listener import RaftListener, RaftSettings
from broadsheet_broker.raft.messages import SnapshotId
from broadsheet_broker.raft.node_flushing import Flushing
from broadsheet_broker.raft.snapshot import Snapshot, encode_snapshot
from broadsheet_broker.raft.storage import MetadataLog
from broadsheet_broker.raft.voter_history import VoterHistory
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""Pause after the disk refused what the leader sent."""


class SnapshotHost(Protocol):
    """The replica that the snapshots are of."""

    @property
    def is_running(self) -> bool: ...

    @property
    def applied(self) -> int:
        """The listener has everything below this offset."""
        ...

    def step(self, message: m.Message) -> None:
        """Give the state machine a message."""
        ...

    def snapshot_loaded(self, id: SnapshotId) -> None:
        """The listener has been given the snapshot."""
        ...


class Snapshots:
    """When a snapshot is due, and the pieces of those on their way."""

    def __init__(
        self,
        environment: Environment,
        storage: MetadataLog,
        history: VoterHistory,
        flushing: Flushing,
        listener: RaftListener,
        settings: RaftSettings,
        host: SnapshotHost,
    ) -> None:
        self._environment = environment
        self._storage = storage
        self._history = history
        self._flushing = flushing
        self._listener = listener
        self._settings = settings
        self._host = host
        self._writing: asyncio.Task[None] | None = None
        self._installing: asyncio.Task[None] | None = None
        self._bytes_since = 0
        """Committed since the last snapshot."""
        self._taken_at = environment.monotonic()

    def give(self, id: SnapshotId, snapshot: Snapshot) -> None:
        """Replace all that the listener knows by a snapshot."""
        if snapshot.voters is not None:
            self._history.add(id.offset - 1, snapshot.voters)
        self._listener.load_snapshot(id, snapshot.last_contained_timestamp, snapshot.values)
        self._host.snapshot_loaded(id)

    async def finish(self) -> None:
        """Wait for what is being written or installed."""
        for task in (self._writing, self._installing):
            if task is not None:
                await task

    # Between replicas.

    def reply_piece(self, effect: m.ReplySnapshot) -> None:
        """Answer with the piece that a replica asks for, or why there is none."""
        answer = effect.answer
        try:
            size, data = self._storage.read_piece(answer.snapshot, effect.position, max(effect.max_bytes, 1))
            answer = replace(answer, size=size, position=effect.position, data=data)
        except KafkaError as error:
            answer = replace(answer, error=error.code)
        except OSError as error:
            logger.error("The snapshot %s cannot be read: %s", answer.snapshot, error)
            answer = replace(answer, error=ErrorCode.KAFKA_STORAGE_ERROR)
        effect.token(answer)

    def store_piece(self, effect: m.StoreSnapshotPiece) -> None:
        """Keep a piece of the leader's snapshot; after the last one, install it."""
        try:
            self._storage.write_piece(effect.id, effect.position, effect.data)
        except OSError as error:
            logger.error("The snapshot %s of the leader cannot be written: %s", effect.id, error)
            self._host.step(m.AppendRefused())
            self._listener.handle_refusal(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)))
            self._environment.loop.call_later(RETRY_SECONDS, self._host.step, m.SnapshotRefused(effect.id))
            return
        if effect.last:
            self._installing = self._environment.loop.create_task(self._install(effect.id))

    async def _install(self, id: SnapshotId) -> None:
        host = self._host
        try:
            await self._flushing.done()
            snapshot = await self._environment.offload(self._storage.finish_pieces, id)
        except (KafkaError, OSError) as error:
            logger.error("The snapshot %s of the leader cannot be used: %s", id, error)
            host.step(m.SnapshotRefused(id))
            return
        finally:
            self._installing = None
        if not host.is_running:
            return
        self._flushing.replacing()
        if self._storage.adopt(id):
            self._flushing.replaced()
            self._history.truncate(0)
        if id.offset > host.applied:
            logger.info("Loaded the snapshot %s of the leader", id)
            self.give(id, snapshot)
        host.step(m.SnapshotInstalled(id))
        host.step(m.VotersChanged(self._history.newest))

    # Taken here.

    def committed(self, size: int) -> None:
        """So many bytes more are committed: take a snapshot if enough have been, or enough time has passed."""
        self._bytes_since += size
        interval = self._settings.snapshot_interval_ms / 1000
        due = self._bytes_since >= self._settings.snapshot_bytes or (
            0 < interval <= self._environment.monotonic() - self._taken_at
        )
        if due:
            self.take()

    def take(self) -> None:
        """Begin to write one, unless one is being written. A failure is logged; the next one comes when it is due."""
        if self._writing is None:
            self._bytes_since = 0
            self._taken_at = self._environment.monotonic()
            self._writing = self._environment.loop.create_task(self._take())

    async def _take(self) -> None:
        try:
            await self.write()
        except (KafkaError, OSError) as error:
            logger.error("A snapshot of the cluster metadata could not be written: %s; trying again later", error)
        finally:
            self._writing = None

    async def write(self) -> SnapshotId | None:
        """Write what the listener has now, and delete what retention no longer keeps. None: there is nothing whole."""
        source = self._listener.snapshot_source()
        if source is None:
            return None
        storage, settings = self._storage, self._settings
        id = SnapshotId(source.last_offset + 1, source.epoch)
        if id not in storage.snapshots:
            now = self._environment.clock.time_ms()
            voters = self._history.before(id.offset)

            def write() -> None:
                data = encode_snapshot(source.values(), id.epoch, source.timestamp_ms, now, voters)
                storage.write_snapshot(id, data)

            await self._environment.offload(write)
            storage.add_snapshot(id)
            logger.info("Wrote the snapshot %s of the cluster metadata", id.file_name)
        self._history.forget_before(id.offset)
        storage.clean(settings.retention_bytes, settings.retention_ms, self._environment.clock.time_ms())
        return id
