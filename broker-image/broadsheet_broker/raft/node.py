"""One replica of the metadata log at work: carries out what the state machine decides.

Appends of one turn of the event loop, and all that arrive while an fsync is under way, become durable with one fsync;
then the machine moves the high watermark, and the listener hears of everything below it in one call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.raft import quorum_state
from broadsheet_broker.raft.control_records import leader_change_row, voter_rows, voters_of
from broadsheet_broker.raft.machine import Raft
from broadsheet_broker.raft.messages import (
    AppendLeaderChange,
    Effect,
    ElectionState,
    Flushed,
    HighWatermarkAdvanced,
    LeaderChanged,
    LogFailed,
    Message,
    SetTimer,
    ShutDown,
    Started,
    StoreElection,
)
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.snapshot import Snapshot, SnapshotId, encode_snapshot
from broadsheet_broker.raft.storage import MAX_BATCH_BYTES, MetadataLog
from broadsheet_broker.raft.voters import ReplicaKey, VoterSet
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import build_batch, decode_records

log = logging.getLogger(__name__)


class Committed(NamedTuple):
    """One batch of the metadata log below the high watermark."""

    base_offset: int
    last_offset: int
    epoch: int
    timestamp_ms: int
    size: int
    """Bytes."""
    values: Sequence[bytes]
    """Empty for a control batch. Empty too when this leader appended it: then `tag` says what was appended."""
    tag: Any = None


class SnapshotSource(NamedTuple):
    """What the listener gives for a snapshot: everything up to and including `last_offset`."""

    last_offset: int
    epoch: int
    timestamp_ms: int
    values: Callable[[], Iterable[bytes]]
    """Called in another thread; must not touch what changes."""


class RaftListener(Protocol):
    """Who keeps the state that the log describes. Called on the event loop."""

    def load_snapshot(self, id: SnapshotId, timestamp_ms: int, values: Sequence[bytes]) -> None: ...

    def handle_commit(self, batches: Sequence[Committed]) -> None: ...

    def handle_append_failure(self, tags: Sequence[Any], error: KafkaError) -> None:
        """These appends never happened."""
        ...

    def handle_leader(self, epoch: int, leader_id: int | None) -> None: ...

    def snapshot_source(self) -> SnapshotSource | None:
        """None while the listener has no whole picture."""
        ...


class RaftSettings(NamedTuple):
    """Properties of the metadata log, by their Kafka names."""

    segment_bytes: int = 1 << 30
    """metadata.log.segment.bytes"""
    segment_ms: int = 7 * 24 * 3600 * 1000
    """metadata.log.segment.ms"""
    snapshot_bytes: int = 20 * 1024 * 1024
    """metadata.log.max.record.bytes.between.snapshots"""
    snapshot_interval_ms: int = 3600 * 1000
    """metadata.log.max.snapshot.interval.ms; 0: never by time"""
    retention_bytes: int = 100 * 1024 * 1024
    """metadata.max.retention.bytes"""
    retention_ms: int = 7 * 24 * 3600 * 1000
    """metadata.max.retention.ms"""


class RaftNode:
    """`start`, then `append` while this replica leads, then `stop`."""

    def __init__(
        self,
        environment: Environment,
        log_dir: str,
        local: ReplicaKey,
        voters: VoterSet,
        settings: RaftSettings,
        listener: RaftListener,
    ) -> None:
        self._environment = environment
        self._local = local
        self.voters = voters
        """From the configuration, until the log says otherwise (kraft.version 1)."""
        self._settings = settings
        self._listener = listener
        self.storage = MetadataLog(environment, log_dir, settings.segment_bytes, settings.segment_ms)
        self._raft = Raft(local, voters, ElectionState())
        """Replaced by `start`, which knows the stored election."""
        self._opened = False
        self._waiting: deque[Committed] = deque()
        """Appended, not yet committed, in the order of offsets."""
        self._synced_end = 0
        """The log is durable below this offset."""
        self._loaded: Snapshot | None = None
        self._flush: asyncio.Task[None] | None = None
        self._snapshot: asyncio.Task[None] | None = None
        self._bytes_since_snapshot = 0
        self._snapshot_at_ms = 0.0
        self.failure: KafkaError | None = None
        """Why the metadata log can no longer be written."""
        self._refusal = ""
        """What the disk said last when it refused an append."""
        self.last_fsync_ms = 0.0

    # Questions.

    @property
    def epoch(self) -> int:
        return self._raft.epoch

    @property
    def leader_id(self) -> int | None:
        return self._raft.election.leader_id if self._raft.role in (Role.LEADER, Role.FOLLOWER) else None

    @property
    def is_leader(self) -> bool:
        return self._raft.role is Role.LEADER

    @property
    def high_watermark(self) -> int:
        """-1 while unknown."""
        found = self._raft.high_watermark
        return -1 if found is None else found

    def now_ms(self) -> float:
        return self._environment.monotonic() * 1000

    # Life.

    async def start(self) -> None:
        """Load snapshot and log into the listener, then take part in the quorum. Returns when there is a leader whose
        epoch is committed (at once in a quorum of one)."""
        await self._environment.offload(self._open)
        self._load()
        stored = quorum_state.load(self._environment.files, self.storage.directory)
        self._raft = Raft(self._local, self.voters, stored)
        self._snapshot_at_ms = self.now_ms()
        self._carry_out(self._raft.step(Started(self.storage.end_offset, self.storage.last_epoch), self.now_ms()))
        await self.flushed()
        if self.failure is not None:
            raise self.failure
        if self.high_watermark < 0:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, self._refusal)

    def _open(self) -> None:
        self._loaded = self.storage.open()
        self._opened = True

    def _load(self) -> None:
        snapshot = self._loaded
        offset = 0
        if snapshot is not None:
            id = self.storage.snapshots[-1]
            offset = id.offset
            if snapshot.voters is not None:
                self.voters = snapshot.voters
            self._listener.load_snapshot(id, snapshot.last_contained_timestamp, snapshot.values)
        self._loaded = None
        for header, batch in self.storage.read(offset):
            records = decode_records(batch)
            values: list[bytes] = []
            if header.is_control:
                self.voters = voters_of(records) or self.voters
            else:
                values = [record.value or b"" for record in records if record.offset >= offset]
            self._bytes_since_snapshot += header.size
            # In a quorum of one everything that is in the log is committed; with more voters this waits for the
            # leader's high watermark.
            self._listener.handle_commit(
                [
                    Committed(
                        header.base_offset,
                        header.last_offset,
                        header.partition_leader_epoch,
                        header.max_timestamp,
                        header.size,
                        values,
                    )
                ]
            )

    async def stop(self) -> None:
        """Finish what is under way and close the log cleanly. Also after a start that failed."""
        if not self._opened:
            return
        await self.flushed()
        if self._snapshot is not None:
            await self._snapshot
        self._step(ShutDown())
        if self.failure is None:
            try:
                await self._environment.offload(self.storage.log.close)
            except StorageError as error:  # the next start looks at every batch anyway
                log.error("The metadata log was not closed cleanly: %s", error)
        else:
            self.storage.log.close_files()

    # Appending.

    def append(self, values: Sequence[bytes], tag: Any) -> int:
        """Append records as one atomic batch; returns the offset of the last. `handle_commit` gets `tag` back.

        Raises KafkaError(NOT_CONTROLLER) when this replica does not lead, and KAFKA_STORAGE_ERROR when its log failed.
        """
        if self.failure is not None:
            raise self.failure
        if not self.is_leader:
            raise KafkaError(ErrorCode.NOT_CONTROLLER)
        now = self._environment.clock.time_ms()
        return self._append([(now, None, value, ()) for value in values], now, control=False, tag=tag)

    def _append(self, rows: Sequence[Any], now: int, *, control: bool, tag: Any = None) -> int:
        batch = build_batch(rows, control=control)
        if len(batch) > MAX_BATCH_BYTES:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION,
                f"One change of the cluster metadata would take {len(batch)} bytes; {MAX_BATCH_BYTES} are allowed.",
            )
        info = self.storage.append(batch, self.epoch, now)
        self._waiting.append(
            Committed(info.first_offset, info.last_offset, self.epoch, now, len(batch), (), None if control else tag)
        )
        if self._flush is None:
            self._flush = self._environment.loop.create_task(self._flush_all())
        return info.last_offset

    async def flushed(self) -> None:
        """Wait until nothing is waiting for its fsync."""
        while self._flush is not None:
            await asyncio.shield(self._flush)

    async def _flush_all(self) -> None:
        """Make appends durable, one group after the other, until there are none."""
        try:
            while self.storage.end_offset > self._synced_end and self.failure is None:
                try:
                    self.storage.log.flush_appends()
                except StorageError as error:
                    self._fail_waiting(error)
                    continue
                end = self.storage.end_offset
                began = self.now_ms()
                try:
                    await self._environment.offload(self.storage.sync)
                except StorageError as error:
                    # After a failed fsync nobody knows what is on the disk: this replica may not lead any more.
                    self.failure = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.message)
                    self._step(LogFailed())
                    self._fail_waiting(error)
                    return
                self.last_fsync_ms = self.now_ms() - began
                self._synced_end = end
                self._step(Flushed(end))
        except Exception as error:  # a defect: whoever waits must hear of it, and nothing more may be promised
            log.exception("The metadata log stopped working")
            self.failure = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"The metadata log stopped working: {error!r}")
            self._step(LogFailed())
            self._fail_waiting(self.failure)
        finally:
            self._flush = None

    def _fail_waiting(self, error: KafkaError) -> None:
        """The disk refused what is waiting: the log is as if it had never been appended."""
        refused = [batch.tag for batch in self._waiting if batch.tag is not None]
        self._waiting.clear()
        self._refusal = error.message
        log.error("The metadata log cannot be written: %s", error.message)
        self._listener.handle_append_failure(refused, KafkaError(error.code, error.message))

    # The machine.

    def _step(self, message: Message) -> None:
        self._carry_out(self._raft.step(message, self.now_ms()))

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case StoreElection(state):
                    quorum_state.store(self._environment.files, self.storage.directory, state, self.voters)
                case AppendLeaderChange():
                    self._begin_epoch(effect)
                case LeaderChanged(epoch, leader_id):
                    self._listener.handle_leader(epoch, leader_id)
                case HighWatermarkAdvanced(offset):
                    self._commit(offset)
                case SetTimer():
                    pass  # a quorum of one has no timers

    def _begin_epoch(self, effect: AppendLeaderChange) -> None:
        now = self._environment.clock.time_ms()
        rows = [leader_change_row(effect.leader_id, effect.voters, effect.granting, now)]
        if self.voters.dynamic and self.storage.end_offset == 0:
            rows += voter_rows(self.voters, now)  # they stood in the snapshot that formatting wrote (KIP-853)
        self._append(rows, now, control=True)

    def _commit(self, high_watermark: int) -> None:
        batches = []
        while self._waiting and self._waiting[0].last_offset < high_watermark:
            batch = self._waiting.popleft()
            self._bytes_since_snapshot += batch.size
            batches.append(batch)
        if batches:
            self._listener.handle_commit(batches)
            self._consider_snapshot()

    # Snapshots.

    def _consider_snapshot(self) -> None:
        interval = self._settings.snapshot_interval_ms
        due = self._bytes_since_snapshot >= self._settings.snapshot_bytes or (
            0 < interval <= self.now_ms() - self._snapshot_at_ms
        )
        if due and self._snapshot is None:
            self._snapshot = self._environment.loop.create_task(self._take_snapshot())

    async def _take_snapshot(self) -> None:
        self._bytes_since_snapshot = 0
        self._snapshot_at_ms = self.now_ms()
        try:
            await self.write_snapshot()
        except (KafkaError, OSError) as error:
            log.error("A snapshot of the cluster metadata could not be written: %s; trying again later", error)
        finally:
            self._snapshot = None

    async def write_snapshot(self) -> SnapshotId | None:
        """Write what the listener has now, and let go of what retention no longer wants."""
        source = self._listener.snapshot_source()
        if source is None:
            return None
        id = SnapshotId(source.last_offset + 1, source.epoch)
        if id not in self.storage.snapshots:
            now = self._environment.clock.time_ms()
            voters = self.voters

            def write() -> None:
                data = encode_snapshot(source.values(), id.epoch, source.timestamp_ms, now, voters)
                self.storage.write_snapshot(id, data)

            await self._environment.offload(write)
            self.storage.snapshots.append(id)
            log.info("Wrote the snapshot %s of the cluster metadata", id.file_name)
        self.storage.clean(
            self._settings.retention_bytes, self._settings.retention_ms, self._environment.clock.time_ms()
        )
        return id
