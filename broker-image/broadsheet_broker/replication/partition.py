"""One partition as this broker holds it: leader or follower, its ISR, its high watermark, and who waits for it.

The arithmetic is Kafka's (kafka.cluster.Partition): the high watermark is the smallest log end offset in the ISR, it
never goes back while one leader leads, and it stands still while the ISR is smaller than the effective
`min.insync.replicas` (KIP-966). Only bytes that the operating system has taken (`flushed`) count for the leader.

Two kinds of waiters hang on a partition. A produce with acks=all waits for the high watermark to pass its last record
(`on_high_watermark`). A fetch that found nothing leaves its positions here (`watch`); they are taken out and told
when there is more to read: once, so that a reader who never comes back costs one call and no more.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.log import AppendInfo, Log
    from broadsheet_broker.seams.metrics import TopicCounters

logger = logging.getLogger(__name__)

Buffer = bytes | bytearray | memoryview
CommitCallback = Callable[[ErrorCode], None]

NO_LEADER = -1
ALL_ACKS = -1
_MOST_NOTES = 64


class LeadershipState(Protocol):
    """What the metadata image says of one partition (`PartitionImage`)."""

    @property
    def replicas(self) -> Sequence[int]: ...
    @property
    def isr(self) -> Sequence[int]: ...
    @property
    def leader(self) -> int: ...
    @property
    def leader_epoch(self) -> int: ...
    @property
    def partition_epoch(self) -> int: ...


class Watcher(Protocol):
    """A reader's place in a partition that waits for more."""

    def wake(self) -> None: ...


class AppendQueue(Protocol):
    """Where a partition says that it has bytes to write before the answers of this loop turn go out."""

    def needs_flush(self, partition: Partition) -> None: ...


class Follower:
    """What a leader knows of another replica of the partition."""

    __slots__ = ("_end_at_last_fetch", "_last_fetch_ms", "caught_up_ms", "log_end_offset", "log_start_offset")

    def __init__(self) -> None:
        self.log_end_offset = -1
        """-1 until it has fetched from this leader."""
        self.log_start_offset = -1
        self.caught_up_ms = 0
        """Wall clock of the last moment at which it had everything that the leader had."""
        self._last_fetch_ms = 0
        self._end_at_last_fetch = 0

    def fetched(self, log_end_offset: int, log_start_offset: int, leader_end_offset: int, now_ms: int) -> None:
        """It asked for what follows `log_end_offset`, so it has everything before.

        One that never quite reaches the end while the leader takes appends is still in step if it has all that was
        there when it fetched the last time (Kafka's Replica.updateFetchState).
        """
        if log_end_offset >= leader_end_offset:
            self.caught_up_ms = max(self.caught_up_ms, now_ms)
        elif log_end_offset >= self._end_at_last_fetch:
            self.caught_up_ms = max(self.caught_up_ms, self._last_fetch_ms)
        self.log_end_offset = log_end_offset
        self.log_start_offset = log_start_offset
        self._last_fetch_ms = now_ms
        self._end_at_last_fetch = leader_end_offset


class Partition:
    """A replica on this broker."""

    __slots__ = (
        "_commit_waiters",
        "_queue",
        "_unreplicated",
        "_unwritten_bytes",
        "_watchers",
        "broker_id",
        "counters",
        "dirty",
        "flush_error",
        "flushed_end_offset",
        "followers",
        "high_watermark",
        "index",
        "is_leader",
        "isr",
        "leader_epoch",
        "leader_id",
        "log",
        "min_insync_replicas",
        "partition_epoch",
        "replicas",
        "retired",
        "topic",
        "topic_id",
        "visible_bytes",
        "written_bytes",
    )

    def __init__(
        self,
        topic: str,
        index: int,
        topic_id: UUID,
        log: Log,
        *,
        broker_id: int,
        queue: AppendQueue,
        counters: TopicCounters,
        high_watermark: int = 0,
        min_insync_replicas: int = 1,
    ) -> None:
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.log = log
        self.broker_id = broker_id
        self.counters = counters
        self._queue = queue
        self.leader_id = NO_LEADER
        self.leader_epoch = -1
        self.partition_epoch = -1
        self.is_leader = False
        self.replicas: Sequence[int] = ()
        self.isr: Sequence[int] = ()
        self.followers: dict[int, Follower] = {}
        """The other replicas, while this one leads."""
        self.min_insync_replicas = min_insync_replicas
        end = log.log_end_offset
        self.high_watermark = min(max(high_watermark, log.log_start_offset), end)
        self.flushed_end_offset = end
        """Log end offset up to which the operating system has the bytes: what may be acknowledged."""
        self.written_bytes = 0
        """Bytes of batches written since this object was made: what followers may read. Readers compare two values."""
        self.visible_bytes = 0
        """The part of them below the high watermark: what consumers may read."""
        self._unreplicated: deque[tuple[int, int]] | None = None
        """Log end offset and `written_bytes` after writes above the high watermark. Made when the first one comes: an
        empty deque takes 600 bytes, and there may be thousands of partitions."""
        self.dirty = False
        """True while the log holds appends of this loop turn that are not written yet."""
        self.flush_error: ErrorCode | None = None
        """Why the last write of gathered appends failed, if it did."""
        self.retired: ErrorCode | None = None
        """Set once this object is no longer the partition: look it up again."""
        self._unwritten_bytes = 0
        self._commit_waiters: deque[tuple[int, CommitCallback]] | None = None
        self._watchers: dict[Watcher, bool] = {}

    def __repr__(self) -> str:
        role = "leader" if self.is_leader else "follower"
        return f"Partition({self.topic}-{self.index}, {role}, epoch {self.leader_epoch}, hw {self.high_watermark})"

    # -- leadership ---------------------------------------------------------------------------------------------------

    def become_leader(self, state: LeadershipState) -> bool:
        """Lead in the epoch of `state`, or only take over a changed ISR; True when a new leader epoch began."""
        new_epoch = state.leader_epoch > self.leader_epoch or not self.is_leader
        self.replicas = state.replicas
        self.partition_epoch = state.partition_epoch
        if new_epoch:
            self.followers = {replica: Follower() for replica in state.replicas if replica != self.broker_id}
            self.flushed_end_offset = self.log.log_end_offset
            self.log.epochs.assign(state.leader_epoch, self.log.log_end_offset)
        else:
            self.followers = {
                replica: self.followers.get(replica) or Follower()
                for replica in state.replicas
                if replica != self.broker_id
            }
        self.isr = state.isr
        self.leader_id = state.leader
        self.leader_epoch = state.leader_epoch
        self.is_leader = True
        self._advance_high_watermark()
        return new_epoch

    def become_follower(self, state: LeadershipState) -> bool:
        """Follow, or be leaderless; True when the leader epoch changed. Whoever waits here is sent elsewhere."""
        changed = state.leader_epoch > self.leader_epoch or self.is_leader
        self.replicas = state.replicas
        self.isr = state.isr
        self.partition_epoch = state.partition_epoch
        self.leader_id = state.leader
        self.leader_epoch = state.leader_epoch
        self.is_leader = False
        self.followers = {}
        if changed:
            self._release(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return changed

    def retire(self, code: ErrorCode = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) -> None:
        """The topic was deleted, the replica moved away, or (KAFKA_STORAGE_ERROR) its directory is lost."""
        self.retired = code
        self.is_leader = False
        self._release(code)

    def _release(self, code: ErrorCode) -> None:
        waiters, self._commit_waiters = self._commit_waiters, None
        for _, callback in waiters or ():
            callback(code)
        self.wake_readers()

    def check_leader(self, current_leader_epoch: int = -1) -> None:
        """Refuse unless this broker leads, in the epoch that the client knows (KIP-320)."""
        if self.retired is not None:
            raise KafkaError(self.retired)
        if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:
            if current_leader_epoch < self.leader_epoch:
                raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
            raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)
        if not self.is_leader:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    # -- writing ------------------------------------------------------------------------------------------------------

    @property
    def effective_min_insync_replicas(self) -> int:
        """`min.insync.replicas`, never more than there are replicas."""
        return min(self.min_insync_replicas, max(len(self.replicas), 1))

    def append(self, records: Buffer, required_acks: int, now_ms: int, origin: str = "client") -> AppendInfo:
        """Append a batch as the leader. It is written, and may be acknowledged, when the queue has been flushed."""
        if not self.is_leader:
            raise KafkaError(self.retired or ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if required_acks == ALL_ACKS and len(self.isr) < self.effective_min_insync_replicas:
            raise KafkaError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"The size of the current ISR {sorted(self.isr)} is insufficient to satisfy the min.isr requirement of "
                f"{self.effective_min_insync_replicas} for partition {self.topic}-{self.index}",
            )
        info = self.log.append_as_leader(memoryview(records), self.leader_epoch, now_ms, origin=origin)
        if not info.duplicate:
            self._unwritten_bytes += len(records)
            if not self.dirty:
                self.dirty = True
                self._queue.needs_flush(self)
        return info

    def flush(self) -> None:
        """Write what this loop turn appended with one call, then let the high watermark and the readers follow.

        On failure `flush_error` is set and nothing becomes visible: the log has cut itself back to what was written.
        """
        self.dirty = False
        before, self.flush_error = self.flush_error, None
        size, self._unwritten_bytes = self._unwritten_bytes, 0
        try:
            self.log.flush_appends()
            if self.retired == ErrorCode.KAFKA_STORAGE_ERROR:
                raise KafkaError(self.retired)
        except KafkaError as error:
            self.flush_error = error.code
            if error.code != before:  # clients try again many times a second: told once
                logger.error("%s-%d takes no records: %s", self.topic, self.index, error.message)
            return
        except OSError:
            self.flush_error = ErrorCode.KAFKA_STORAGE_ERROR
            return
        self.flushed_end_offset = self.log.log_end_offset
        self.written_bytes += size
        if len(self.isr) > 1:
            self._note_written()
        if not self._advance_high_watermark() and self._watchers:
            self.wake_readers()  # followers read up to the log end

    def on_high_watermark(self, offset: int, callback: CommitCallback) -> None:
        """Call back with NONE once the high watermark has reached `offset`, with an error if leadership ends first.

        Offsets of one partition come in ascending order, since its appends do.
        """
        if self.high_watermark >= offset:
            callback(ErrorCode.NONE)
        else:
            if self._commit_waiters is None:
                self._commit_waiters = deque()
            self._commit_waiters.append((offset, callback))

    def update_follower(self, replica: int, log_end_offset: int, log_start_offset: int, now_ms: int) -> None:
        """A follower fetched from `log_end_offset`: it has everything before."""
        follower = self.followers.get(replica)
        if follower is None:
            raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH, f"Broker {replica} is not a replica of this partition")
        follower.fetched(log_end_offset, log_start_offset, self.flushed_end_offset, now_ms)
        self._advance_high_watermark()

    def _note_written(self) -> None:
        """Remember where this write ended; a follower that stands still for long makes the notes coarser, not more."""
        notes = self._unreplicated
        if notes is None:
            notes = self._unreplicated = deque()
        elif len(notes) >= _MOST_NOTES:
            notes.pop()
        notes.append((self.flushed_end_offset, self.written_bytes))

    def _advance_high_watermark(self) -> bool:
        """Recompute; True (and everybody told) when it moved."""
        mark = self.flushed_end_offset
        isr = self.isr
        if len(isr) > 1:
            for replica in isr:
                if replica != self.broker_id:
                    follower = self.followers.get(replica)
                    mark = min(mark, follower.log_end_offset if follower is not None else -1)
        if mark <= self.high_watermark or len(isr) < self.effective_min_insync_replicas:
            return False
        self.high_watermark = mark
        if mark >= self.flushed_end_offset:
            self.visible_bytes = self.written_bytes
            self._unreplicated = None
        else:
            notes = self._unreplicated
            while notes and notes[0][0] <= mark:
                self.visible_bytes = notes.popleft()[1]
        waiters = self._commit_waiters
        while waiters and waiters[0][0] <= mark:
            waiters.popleft()[1](ErrorCode.NONE)
        if self._watchers:
            self.wake_readers()
        return True

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def last_stable_offset(self) -> int:
        """Where read_committed readers stop: the first record of an open transaction, or the high watermark."""
        return self.log.last_stable_offset(self.high_watermark)

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher.wake()` once, as soon as there may be something new to read or to know."""
        self._watchers[watcher] = True

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher, None)

    def wake_readers(self) -> None:
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers:
            watcher.wake()

    @property
    def low_watermark(self) -> int:
        """The smallest log start offset of all replicas: records before it are gone everywhere (DeleteRecords)."""
        mark = self.log.log_start_offset
        for follower in self.followers.values():
            mark = min(mark, follower.log_start_offset)
        return mark

    def delete_records_before(self, offset: int) -> int:
        """Move the log start offset (-1: to the high watermark) and return the low watermark."""
        target = self.high_watermark if offset == -1 else offset
        if target < 0 or target > self.high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"The specified offset {target} is beyond the high watermark {self.high_watermark}",
            )
        if target > self.log.log_start_offset:
            self.log.advance_log_start_offset(target, self.high_watermark)
            self.wake_readers()
        return self.low_watermark
