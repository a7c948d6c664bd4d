"""One partition of a coordinator's topic that this broker leads: its shard, its writes on their way, its timers.

Writes of one turn of the event loop go to the log as one batch (Kafka's `*.coordinator.append.linger.ms`, with the turn
as linger time), and are answered in order when the batch is committed.

**Bounds.** What waits here is what clients have asked for and the log has not committed. A write that a request asks
for is refused while `max_waiting_writes` or `max_waiting_bytes` are reached. A read that waits for writes is dropped
when it is answered, which happens after the write timeout at the latest, so the network's bound on unanswered requests
holds for it. What the coordinator writes for reasons of its own (`run_internal`) is not refused: it is bounded by the
state that it is about.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Generic, TypeVar

from broadsheet_broker.coordinators.runtime.errors import client_error
from broadsheet_broker.coordinators.runtime.settings import RuntimeSettings
from broadsheet_broker.coordinators.runtime.shard import Shard
from broadsheet_broker.coordinators.runtime.storage import Storage, StoredBatch
from broadsheet_broker.coordinators.runtime.turn import NEVER, Record, Turn, Write
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

logger = logging.getLogger(__name__)

LOAD_RECORDS_A_TURN = 500
"""Records loaded before other work of the event loop may run: a few milliseconds."""

_TIMEOUT_GRAIN = 1 / 16
"""Part of the write timeout by which an answer may be late: batches that were sent close together share a timer."""

AnyShard = TypeVar("AnyShard", bound=Shard)


class PartitionState(Enum):
    """Whether requests can be served."""

    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    CLOSED = "closed"


class _Batch:
    """Writes that went to the log together."""

    __slots__ = ("count", "sent", "size", "writes")

    def __init__(self, writes: list[Write], sent: float) -> None:
        self.writes = writes
        self.sent = sent
        """Monotonic seconds."""
        self.count = sum(1 for write in writes if write.size)
        self.size = sum(write.size for write in writes)


class CoordinatedPartition(Generic[AnyShard]):
    """The shell around one shard."""

    __slots__ = (
        "_alarms",
        "_cleanup_timer",
        "_environment",
        "_flush_scheduled",
        "_in_flight",
        "_loaded_records",
        "_loading_since",
        "_queue",
        "_refusing",
        "_settings",
        "_storage",
        "_timeout_timer",
        "_waiting_bytes",
        "epoch",
        "index",
        "shard",
        "state",
        "waiting_writes",
    )

    def __init__(
        self,
        environment: Environment,
        settings: RuntimeSettings,
        storage: Storage,
        shard: AnyShard,
        index: int,
        epoch: int,
    ) -> None:
        self.index = index
        self.epoch = epoch
        """Leader epoch of the partition."""
        self.state = PartitionState.LOADING
        self.shard = shard
        self._environment = environment
        self._settings = settings
        self._storage = storage
        self._queue: list[Write] = []
        """Writes of this turn of the loop."""
        self._flush_scheduled = False
        self._in_flight: deque[_Batch] = deque()
        self.waiting_writes = 0
        """Writes in the queue and in flight."""
        self._waiting_bytes = 0
        self._refusing = False
        self._alarms: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._timeout_timer: asyncio.TimerHandle | None = None
        self._cleanup_timer: asyncio.TimerHandle | None = None
        self._loaded_records = 0
        self._loading_since = environment.monotonic()

    def __str__(self) -> str:
        return f"{self._storage.topic}-{self.index}"

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
            # One unreadable partition must not affect the others; it is refused until it is led again.
            self.state = PartitionState.FAILED
            expected = isinstance(error, KafkaError | OSError)
            logger.error("%s cannot be loaded: %s", self, error, exc_info=not expected)
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
        self.run_internal(turn)
        for key in list(self.shard.deadlines()):
            self.arm(key)
        self._schedule_cleanup()
        if self._loaded_records:
            milliseconds = (turn.now - self._loading_since) * 1000
            logger.info(
                "%s: %s from %d records in %.0f ms", self, self.shard.contents(), self._loaded_records, milliseconds
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

    def run(self, turn: Turn, key: str | None = None) -> None:
        """Do what a request asked for. `key`: whose deadline this step may have changed.

        When too much waits for the log already, the writes fail with COORDINATOR_NOT_AVAILABLE: they never were.
        """
        refused: list[Write] = []
        if turn.writes and self._is_full():
            refused, turn.writes = turn.writes, []
        self.run_internal(turn, key)
        if refused:
            after = self.turn()
            for write in refused:
                self._finish(write, after, ErrorCode.COORDINATOR_NOT_AVAILABLE, ended=True)
            self.run_internal(after, key)
            self._arm_all(refused)

    def run_internal(self, turn: Turn, key: str | None = None) -> None:
        """Do what a step of the coordinator's own asked for; its writes are never refused for their number."""
        if turn.writes:
            self._queue.extend(turn.writes)
            self.waiting_writes += len(turn.writes)
            self._waiting_bytes += sum(write.size for write in turn.writes)
            if not self._flush_scheduled:
                self._flush_scheduled = True
                self._environment.loop.call_soon(self._flush)
        for callback, message in turn.replies:
            callback(message)
        if key is not None:
            self.arm(key)

    def _is_full(self) -> bool:
        settings = self._settings
        full = self.waiting_writes >= settings.max_waiting_writes or self._waiting_bytes >= settings.max_waiting_bytes
        if full and not self._refusing:
            logger.warning(
                "%s: %d writes (%d bytes) wait to be committed; further ones are refused until the log has caught up. "
                "Are enough of its replicas in sync?",
                self,
                self.waiting_writes,
                self._waiting_bytes,
            )
        self._refusing = full
        return full

    def after_writes(self, read: Write) -> bool:
        """Call a write without records back after all writes made so far; False when there are none to wait for."""
        if self._queue:
            self._queue.append(read)
        elif self._in_flight:
            self._in_flight[-1].writes.append(read)
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
            if taken and write.size and size + write.size > self._settings.max_batch_bytes:
                break
            size += write.size
            taken += 1
            records.extend(write.records)
            write.records = []
        batch = _Batch(queue[:taken], self._environment.monotonic())
        self._in_flight.append(batch)
        if self._timeout_timer is None:
            delay = self._settings.write_timeout_ms / 1000
            self._timeout_timer = self._environment.loop.call_later(delay, self._give_up_waiting)
        try:
            self._storage.append(
                self.index, records, self._environment.clock.time_ms(), lambda error: self._appended(batch, error)
            )
        except Exception:
            logger.exception("%s: a write failed", self)
            if batch in self._in_flight:
                self._appended(batch, ErrorCode.UNKNOWN_SERVER_ERROR)
        return queue[taken:]

    def _appended(self, batch: _Batch, error: ErrorCode) -> None:
        if self.state is PartitionState.CLOSED:
            return
        self._in_flight.remove(batch)
        self.waiting_writes -= batch.count
        self._waiting_bytes -= batch.size
        if error:
            logger.warning("%s: a write failed: %s", self, error.name)
        turn = self.turn()
        seen = client_error(error) if error else error
        for write in batch.writes:
            self._finish(write, turn, seen, ended=True)
        self.run_internal(turn)
        self._arm_all(batch.writes)

    def _give_up_waiting(self) -> None:
        """Answer writes that take longer than the write timeout. They may still be committed later."""
        self._timeout_timer = None
        turn = self.turn()
        timeout = self._settings.write_timeout_ms / 1000
        late: list[Write] = []
        for batch in self._in_flight:
            if batch.sent + timeout > turn.now:
                break
            late.extend(batch.writes)
            batch.writes = [write for write in batch.writes if write.apply is not None]
        for write in late:
            self._finish(write, turn, client_error(ErrorCode.REQUEST_TIMED_OUT), ended=False)
        self.run_internal(turn)
        self._arm_all(late)
        if self._in_flight:
            due = next((b.sent + timeout for b in self._in_flight if b.sent + timeout > turn.now), turn.now + timeout)
            delay = max(due - turn.now, timeout * _TIMEOUT_GRAIN)
            self._timeout_timer = self._environment.loop.call_later(delay, self._give_up_waiting)

    def _finish(self, write: Write, turn: Turn, error: ErrorCode, *, ended: bool) -> None:
        if ended and write.apply is not None:
            write.apply(turn, error)
        done, write.done = write.done, None
        if done is not None:
            done(turn, error)

    # Time

    def arm(self, key: str) -> None:
        """Set the timer of a key to its deadline."""
        wake_at = self.shard.deadline(key)
        armed = self._alarms.get(key)
        if wake_at == NEVER or (armed is not None and armed[0] <= wake_at):
            return
        if armed is not None:
            armed[1].cancel()
        self._alarms[key] = (wake_at, self._environment.loop.call_at(wake_at, self._wake, key))

    def _arm_all(self, writes: Iterable[Write]) -> None:
        for write in writes:
            if write.key is not None:
                self.arm(write.key)

    def _wake(self, key: str) -> None:
        del self._alarms[key]
        turn = self.turn()
        self.shard.wake(key, turn)
        self.run_internal(turn, key)

    def _schedule_cleanup(self) -> None:
        delay = self._settings.cleanup_interval_ms / 1000
        self._cleanup_timer = self._environment.loop.call_later(delay, self._cleanup)

    def _cleanup(self) -> None:
        turn = self.turn()
        count = self.shard.cleanup(turn)
        if count:
            logger.info("%s: %d tombstones for what has expired", self, count)
        self.run_internal(turn)
        self._schedule_cleanup()
