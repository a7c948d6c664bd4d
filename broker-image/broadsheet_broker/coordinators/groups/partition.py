"""One partition of `__consumer_offsets` that this broker leads: its groups, its writes on their way, its timers.

Writes of one turn of the event loop go to the log as one batch (Kafka's `group.coordinator.append.linger.ms`, with the
turn as linger time), and are answered in order when the batch is committed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from enum import Enum

from broadsheet_broker.config.internal_topics import GROUP_METADATA_TOPIC
from broadsheet_broker.coordinators.groups.classic import ClassicProtocol
from broadsheet_broker.coordinators.groups.group import ClassicGroup
from broadsheet_broker.coordinators.groups.shard import GroupShard
from broadsheet_broker.coordinators.groups.storage import Storage, StoredBatch
from broadsheet_broker.coordinators.groups.turn import NEVER, GroupSettings, Record, Turn, Write, client_error, log
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

LOAD_RECORDS_A_TURN = 500
"""Records loaded before the event loop gets its turn: some milliseconds."""


class PartitionState(Enum):
    """Whether requests can be served."""

    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    CLOSED = "closed"


class _Batch:
    """Writes that went to the log together."""

    __slots__ = ("sent", "writes")

    def __init__(self, writes: list[Write], sent: float) -> None:
        self.writes = writes
        self.sent = sent
        """Monotonic seconds."""


class CoordinatedPartition:
    """The shell around one `GroupShard`."""

    __slots__ = (
        "_alarms",
        "_cleanup_timer",
        "_environment",
        "_flush_scheduled",
        "_in_flight",
        "_loaded_records",
        "_loading_since",
        "_queue",
        "_settings",
        "_storage",
        "_timeout_timer",
        "epoch",
        "index",
        "shard",
        "state",
    )

    def __init__(
        self,
        environment: Environment,
        settings: GroupSettings,
        storage: Storage,
        protocol: ClassicProtocol,
        index: int,
        epoch: int,
    ) -> None:
        self.index = index
        self.epoch = epoch
        """Leader epoch of the partition."""
        self.state = PartitionState.LOADING
        self.shard = GroupShard(settings, protocol)
        self._environment = environment
        self._settings = settings
        self._storage = storage
        self._queue: list[Write] = []
        self._flush_scheduled = False
        self._in_flight: deque[_Batch] = deque()
        self._alarms: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._timeout_timer: asyncio.TimerHandle | None = None
        self._cleanup_timer: asyncio.TimerHandle | None = None
        self._loaded_records = 0
        self._loading_since = environment.monotonic()

    # Life

    def load(self) -> None:
        """Read the log in slices; requests are refused meanwhile."""
        self._environment.loop.call_soon(self._load_slice, self._storage.read(self.index))

    def _load_slice(self, batches: Iterator[StoredBatch]) -> None:
        if self.state is not PartitionState.LOADING:
            return
        enough = self._loaded_records + LOAD_RECORDS_A_TURN
        try:
            for batch in batches:
                self._replay(batch)
                if self._loaded_records >= enough:
                    self._environment.loop.call_soon(self._load_slice, batches)
                    return
        except Exception as error:
            # One partition that cannot be read must not hurt the others; its groups are refused until it is led anew.
            self.state = PartitionState.FAILED
            expected = isinstance(error, KafkaError | OSError)
            log.error("%s-%d cannot be loaded: %s", GROUP_METADATA_TOPIC, self.index, error, exc_info=not expected)
            return
        self._loaded()

    def _replay(self, batch: StoredBatch) -> None:
        shard = self.shard
        for key, value in batch.records:
            shard.replay(key, value, batch.producer_id)
        if batch.commits is not None and batch.producer_id is not None:
            shard.replay_transaction_end(batch.producer_id, batch.commits)
        self._loaded_records += len(batch.records) or 1

    def _loaded(self) -> None:
        self.state = PartitionState.ACTIVE
        turn = self.turn()
        self.shard.loaded(turn)
        self.run(turn)
        for group_id in self.shard.groups:
            self.arm(group_id)
        self._schedule_cleanup()
        if self._loaded_records:
            log.info(
                "%s-%d: %d groups from %d records in %.0f ms",
                GROUP_METADATA_TOPIC,
                self.index,
                len(self.shard.groups),
                self._loaded_records,
                (turn.now - self._loading_since) * 1000,
            )

    def close(self, error: ErrorCode) -> None:
        """Stop, and answer everything that waits with an error."""
        self.state = PartitionState.CLOSED
        for _, timer in self._alarms.values():
            timer.cancel()
        self._alarms.clear()
        for handle in (self._timeout_timer, self._cleanup_timer):
            if handle is not None:
                handle.cancel()
        waiting = [write for batch in self._in_flight for write in batch.writes] + self._queue
        self._in_flight.clear()
        self._queue = []
        turn = self.turn()
        for write in waiting:
            self._finish(write, turn, error, ended=True)
        self.shard.unload(turn, error)
        for callback, message in turn.replies:
            callback(message)

    # Steps

    def turn(self) -> Turn:
        """A step that begins now."""
        return Turn(self._environment.monotonic(), self._environment.clock.time_ms())

    def run(self, turn: Turn, group_id: str | None = None) -> None:
        """Do what a step asked for."""
        if turn.writes:
            self._queue.extend(turn.writes)
            if not self._flush_scheduled:
                self._flush_scheduled = True
                self._environment.loop.call_soon(self._flush)
        for callback, message in turn.replies:
            callback(message)
        if group_id is not None:
            self.arm(group_id)

    def after_writes(self, write: Write) -> bool:
        """Let something wait for all writes made so far; False when there are none."""
        if self._queue:
            self._queue.append(write)
        elif self._in_flight:
            self._in_flight[-1].writes.append(write)
        else:
            return False
        return True

    # Writes

    def _flush(self) -> None:
        self._flush_scheduled = False
        queue, self._queue = self._queue, []
        while queue:
            queue = self._append_some(queue)

    def _append_some(self, queue: list[Write]) -> list[Write]:
        """Append as many writes as fit into one batch, and return the others."""
        records: list[Record] = []
        size = 0
        taken = 0
        for write in queue:
            more = sum(len(key) + len(value or b"") + 32 for key, value in write.records)
            if taken and more and size + more > self._settings.max_batch_bytes:
                break
            size += more
            taken += 1
            records.extend(write.records)
        now = self._environment.monotonic()
        batch = _Batch(queue[:taken], now)
        self._in_flight.append(batch)
        if self._timeout_timer is None:
            delay = self._settings.offsets_commit_timeout_ms / 1000
            self._timeout_timer = self._environment.loop.call_later(delay, self._give_up_waiting)
        try:
            self._storage.append(
                self.index, records, self._environment.clock.time_ms(), lambda error: self._appended(batch, error)
            )
        except Exception:
            log.exception("%s-%d: a write failed", GROUP_METADATA_TOPIC, self.index)
            if batch in self._in_flight:
                self._appended(batch, ErrorCode.UNKNOWN_SERVER_ERROR)
        return queue[taken:]

    def _appended(self, batch: _Batch, error: ErrorCode) -> None:
        if self.state is PartitionState.CLOSED:
            return
        self._in_flight.remove(batch)
        if error:
            log.warning("%s-%d: a write failed: %s", GROUP_METADATA_TOPIC, self.index, error.name)
        turn = self.turn()
        seen = client_error(error) if error else error
        for write in batch.writes:
            self._finish(write, turn, seen, ended=True)
        self.run(turn)
        self._arm_all(batch.writes)

    def _give_up_waiting(self) -> None:
        """Answer commits that take longer than `offsets.commit.timeout.ms`. They may still be committed later."""
        self._timeout_timer = None
        turn = self.turn()
        timeout = self._settings.offsets_commit_timeout_ms / 1000
        late: list[Write] = []
        for batch in self._in_flight:
            if batch.sent + timeout > turn.now:
                break
            late.extend(batch.writes)
        for write in late:
            self._finish(write, turn, client_error(ErrorCode.REQUEST_TIMED_OUT), ended=False)
        self.run(turn)
        self._arm_all(late)
        if self._in_flight:
            waited = max((b.sent + timeout for b in self._in_flight if b.sent + timeout > turn.now), default=None)
            delay = timeout if waited is None else waited - turn.now
            self._timeout_timer = self._environment.loop.call_later(delay, self._give_up_waiting)

    def _finish(self, write: Write, turn: Turn, error: ErrorCode, *, ended: bool) -> None:
        if ended and write.apply is not None:
            write.apply(turn, error)
        done, write.done = write.done, None
        if done is not None:
            done(turn, error)

    # Time

    def arm(self, group_id: str) -> None:
        """See that the group is woken in time."""
        group = self.shard.groups.get(group_id)
        if not isinstance(group, ClassicGroup):
            return
        wake_at = group.wake_at
        armed = self._alarms.get(group_id)
        if wake_at == NEVER or (armed is not None and armed[0] <= wake_at):
            return
        if armed is not None:
            armed[1].cancel()
        self._alarms[group_id] = (wake_at, self._environment.loop.call_at(wake_at, self._wake, group_id))

    def _arm_all(self, writes: list[Write]) -> None:
        for write in writes:
            if write.group_id is not None:
                self.arm(write.group_id)

    def _wake(self, group_id: str) -> None:
        del self._alarms[group_id]
        group = self.shard.groups.get(group_id)
        if isinstance(group, ClassicGroup):
            turn = self.turn()
            self.shard.protocol.wake(group, turn)
            self.run(turn, group_id)

    def _schedule_cleanup(self) -> None:
        delay = self._settings.offsets_retention_check_interval_ms / 1000
        self._cleanup_timer = self._environment.loop.call_later(delay, self._cleanup)

    def _cleanup(self) -> None:
        turn = self.turn()
        count = self.shard.cleanup(turn)
        if count:
            log.info("%s-%d: %d tombstones for what has expired", GROUP_METADATA_TOPIC, self.index, count)
        self.run(turn)
        self._schedule_cleanup()
