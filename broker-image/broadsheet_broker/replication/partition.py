"""One partition as this broker holds it: leader or follower, its ISR, its high watermark, and who waits for it.

The arithmetic is Kafka's (kafka.cluster.Partition): the high watermark is the smallest log end offset of the replicas
that are in the ISR, may be in it (`maximal_isr`) or are about to join; it never goes back while one leader leads, and
it stands still while the ISR is smaller than the effective `min.insync.replicas` (KIP-966). Only bytes that the
operating system has taken (`flushed`) count, on the leader and on followers.

Two kinds of waiters hang on a partition. A produce with acks=all waits for the high watermark to pass its last record
(`on_high_watermark`). A fetch that found nothing leaves its positions here (`watch`); they are taken out and told
when there is more to read: once, so that a reader that never comes back costs a single call.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from broadsheet_broker.replication.admission import ALL_ACKS as ALL_ACKS
from broadsheet_broker.replication.admission import CLIENT, IN_DOUBT, check_append
from broadsheet_broker.replication.in_sync import ANY_EPOCH, Follower, IsrChange
from broadsheet_broker.replication.isr import (
    about_to_join,
    credit_followers,
    followers_of,
    propose_member,
    propose_without_laggards,
)
from broadsheet_broker.replication.readable_bytes import ReadableBytes
from broadsheet_broker.replication.surroundings import Alone, AppendQueue, LeadershipState, PartitionHost, Watcher
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.log import AppendInfo, Log
    from broadsheet_broker.log.validation import Checked
    from broadsheet_broker.seams.metrics import TopicCounters

logger = logging.getLogger(__name__)

Buffer = bytes | bytearray | memoryview
CommitCallback = Callable[[ErrorCode], None]

NO_LEADER: Final = -1
_ALONE: Final = Alone()


class Partition:
    """A replica on this broker."""

    __slots__ = (
        "_commit_waiters",
        "_fails",
        "_queue",
        "_start_waiters",
        "_unwritten_bytes",
        "_watchers",
        "broker_id",
        "bytes",
        "cluster",
        "counters",
        "dirty",
        "epoch_start_offset",
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
        "maximal_isr",
        "min_insync_replicas",
        "partition_epoch",
        "pending_isr",
        "replicas",
        "retired",
        "topic",
        "topic_id",
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
        cluster: PartitionHost = _ALONE,
    ) -> None:
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.log: Log = log
        self.broker_id = broker_id
        self.counters = counters
        self.cluster = cluster
        self._queue = queue
        self.leader_id: int = NO_LEADER
        self.leader_epoch: int = -1
        self.partition_epoch = -1
        self.is_leader: bool = False
        self.epoch_start_offset = 0
        """Where this broker's leadership began: consumers get no offset before the high watermark is there."""
        self.replicas: Sequence[int] = ()
        self.isr: Sequence[int] = ()
        """As the controller has it."""
        self.maximal_isr: Sequence[int] = ()
        """With the member that has been proposed: every replica that may be in the ISR."""
        self.pending_isr: IsrChange | None = None
        """The proposal that is under way."""
        self.followers: dict[int, Follower] = {}
        """The other replicas, while this one leads."""
        self.min_insync_replicas = min_insync_replicas
        end = log.log_end_offset
        self.high_watermark: int = min(max(high_watermark, log.log_start_offset), end)
        self.flushed_end_offset = end
        """Log end offset up to which the operating system has the bytes: what may be acknowledged."""
        self.bytes = ReadableBytes(end - self.high_watermark)
        self.dirty = False
        """True while the log holds appends of this loop turn that are not written yet."""
        self.flush_error: ErrorCode | None = None
        """Why the last write of gathered appends failed, if it did."""
        self.retired: ErrorCode | None = None
        """Set once this object is no longer the partition: look it up again."""
        self._fails = False
        """The last write failed, and that was told."""
        self._unwritten_bytes = 0
        self._commit_waiters: deque[tuple[int, CommitCallback]] | None = None
        """Requests without an answer (what gives up is taken out) and coordinators' appends, which bound themselves."""
        self._start_waiters: list[tuple[int, CommitCallback]] | None = None
        self._watchers: dict[Watcher, bool] = {}

    def __repr__(self) -> str:
        role = "leader" if self.is_leader else "follower"
        return f"Partition({self.topic}-{self.index}, {role}, epoch {self.leader_epoch}, hw {self.high_watermark})"

    # -- leadership ---------------------------------------------------------------------------------------------------

    def become_leader(self, state: LeadershipState) -> bool:
        """Lead in the epoch of `state`, or only take over a changed ISR; True when a new leader epoch began."""
        new_epoch = state.leader_epoch > self.leader_epoch or not self.is_leader
        if not new_epoch and state.partition_epoch < self.partition_epoch:
            return False  # the controller's answer to our proposal was here first
        self.replicas = state.replicas
        known = self.followers
        if new_epoch:
            now_ms = self.cluster.time_ms()
            for replica in state.isr:
                if replica in known:
                    known[replica].caught_up_ms = now_ms
            self.epoch_start_offset = self.log.log_end_offset
            if not self.dirty:
                self.flushed_end_offset = self.log.log_end_offset
            self.log.epochs.assign(state.leader_epoch, self.log.log_end_offset)
            self.followers = followers_of(self, dict.fromkeys(state.isr, now_ms))
        elif len(known) + 1 != len(state.replicas) or not known.keys() <= set(state.replicas):
            self.followers = followers_of(self, {})
        self.leader_id = state.leader
        self.leader_epoch = state.leader_epoch
        self.is_leader = True
        if new_epoch or state.partition_epoch > self.partition_epoch:
            if not new_epoch:
                self.cluster.isr_changed(len(state.isr) - len(self.isr))
            self.partition_epoch = state.partition_epoch
            self.commit_isr(state.isr)
        if new_epoch and self._watchers:
            self.wake_readers()  # they know another epoch
        return new_epoch

    def commit_isr(self, isr: Sequence[int]) -> None:
        """The controller has spoken: this is the ISR, and nothing is under way."""
        left = any(replica not in isr for replica in self.maximal_isr)
        self.isr = self.maximal_isr = isr
        self.pending_isr = None
        self._advance_high_watermark()
        self._release_start_waiters()
        if left and self._watchers:
            self.wake_readers()  # a fetch of a replica that left must be checked again, even without records

    def become_follower(self, state: LeadershipState) -> bool:
        """Follow, or be leaderless; True when the leader epoch changed. Waiting requests are sent elsewhere."""
        if self.dirty:
            self.flush()  # as the leader that it was appended by
        changed = state.leader_epoch > self.leader_epoch or self.is_leader
        self.replicas = state.replicas
        self.isr = self.maximal_isr = state.isr
        self.pending_isr = None
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
        self.pending_isr = None
        self._release(code)

    def _release(self, code: ErrorCode) -> None:
        waiters = [*(self._commit_waiters or ()), *(self._start_waiters or ())]
        self._commit_waiters = self._start_waiters = None
        for _, callback in waiters:
            callback(code)
        self.wake_readers()

    @property
    def may_be_replaced(self) -> bool:
        """Another broker may lead by now, without this one having heard of it. None can without a replica."""
        return len(self.replicas) > 1 and self.cluster.may_be_replaced()

    def check_leader(self, current_leader_epoch: int = -1, *, or_follower: bool = False) -> None:
        """Refuse unless this broker leads (or follows, where that does), in the epoch that the caller knows."""
        if self.retired is not None:
            raise KafkaError(self.retired)
        if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:
            if current_leader_epoch < self.leader_epoch:
                raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
            raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)
        if self.is_leader:
            if self.may_be_replaced:
                raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, IN_DOUBT)
        elif not or_follower:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    # -- writing ------------------------------------------------------------------------------------------------------

    @property
    def effective_min_insync_replicas(self) -> int:
        """`min.insync.replicas`, never more than there are replicas."""
        return min(self.min_insync_replicas, max(len(self.replicas), 1))

    def require_replicas(self, min_insync_replicas: int) -> None:
        """The topic's `min.insync.replicas` may have changed: fewer may be enough now."""
        if min_insync_replicas != self.min_insync_replicas:
            self.min_insync_replicas = min_insync_replicas
            if self.is_leader:
                self._advance_high_watermark()

    def append(
        self, records: Buffer, required_acks: int, now_ms: int, origin: str = CLIENT, checked: Checked | None = None
    ) -> AppendInfo:
        """Append a batch as the leader. It is written, and may be acknowledged, when the queue has been flushed.

        `checked`: what the work of `Log.checking` returned for these records.
        """
        check_append(self, required_acks, origin)
        info = self.log.append_as_leader(memoryview(records), self.leader_epoch, now_ms, origin=origin, checked=checked)
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
        if not self.dirty:
            return
        self.dirty = False
        self.flush_error = None
        size, self._unwritten_bytes = self._unwritten_bytes, 0
        try:
            self.log.flush_appends()
            if self.retired == ErrorCode.KAFKA_STORAGE_ERROR:
                raise KafkaError(self.retired)
        except KafkaError as error:
            self.flush_error = self.retired or error.code
            if self.retired is None and not self._fails:  # clients retry many times a second: logged once
                self._fails = True
                logger.error("cannot append to %s-%d: %s", self.topic, self.index, error.message)
            return
        except OSError:
            self.flush_error = ErrorCode.KAFKA_STORAGE_ERROR
            return
        self._fails = False
        if self.followers:
            credit_followers(self)
        self._written(size)
        if not (self.is_leader and self._advance_high_watermark()) and self._watchers:
            self.wake_readers()  # followers read up to the log end

    def _written(self, size: int) -> None:
        self.flushed_end_offset = self.log.log_end_offset
        self.bytes.written += size
        if len(self.replicas) > 1:
            self.bytes.note(self.flushed_end_offset)

    def on_high_watermark(self, offset: int, callback: CommitCallback) -> None:
        """Call back with NONE once the high watermark has reached `offset`, with an error if leadership ends first.

        Offsets of one partition come in ascending order, since its appends do.
        """
        if not self.is_leader:
            callback(self.retired or ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif self.high_watermark >= offset:
            callback(ErrorCode.NONE)
        else:
            if self._commit_waiters is None:
                self._commit_waiters = deque()
            self._commit_waiters.append((offset, callback))

    def stop_waiting(self, offset: int, callback: CommitCallback) -> None:
        """Take back `on_high_watermark`: while replicas are missing, what gave up would pile up here."""
        if self._commit_waiters is not None:
            with contextlib.suppress(ValueError):  # called back already
                self._commit_waiters.remove((offset, callback))

    # -- the followers of a leader ------------------------------------------------------------------------------------

    def update_follower(
        self, replica: int, log_end_offset: int, log_start_offset: int, now_ms: int, broker_epoch: int = ANY_EPOCH
    ) -> None:
        """A follower fetched from `log_end_offset`: it has everything before."""
        follower = self.followers.get(replica)
        if follower is None:
            raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH, f"Broker {replica} is not a replica of this partition")
        if broker_epoch != follower.broker_epoch:
            if ANY_EPOCH < broker_epoch < self.cluster.broker_epoch(replica):
                raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"Broker {replica} has restarted (stale epoch)")
            follower.broker_epoch = broker_epoch
        moved = log_end_offset != follower.log_end_offset
        started = log_start_offset != follower.log_start_offset
        follower.fetched(log_end_offset, log_start_offset, self.flushed_end_offset, now_ms)
        if replica not in self.maximal_isr:
            propose_member(self, follower)
        if moved:
            self._advance_high_watermark()
        if started:
            self._release_start_waiters()

    def shrink_isr(self, now_ms: int) -> None:
        """Propose to leave out followers that lag for too long."""
        if self.is_leader and self.pending_isr is None and len(self.isr) > 1:
            propose_without_laggards(self, now_ms)

    def _advance_high_watermark(self) -> bool:
        """Recompute as the leader; True (and everybody told) when it moved."""
        mark = self.flushed_end_offset
        if self.followers:
            isr = self.maximal_isr
            for replica, follower in self.followers.items():
                end = follower.log_end_offset
                if end < mark and (replica in isr or about_to_join(self, follower)):
                    mark = end
        if mark <= self.high_watermark or len(self.isr) < self.effective_min_insync_replicas:
            return False
        self._move_high_watermark(mark)
        return True

    def _move_high_watermark(self, mark: int) -> None:
        assert mark > self.high_watermark, f"{self!r} would go back to {mark}"
        self.high_watermark = mark
        self.bytes.committed(mark, self.flushed_end_offset)
        waiters = self._commit_waiters
        while waiters and waiters[0][0] <= mark:
            waiters.popleft()[1](ErrorCode.NONE)
        if self._watchers:
            self.wake_readers()

    # -- following ----------------------------------------------------------------------------------------------------

    def append_fetched(self, records: Buffer) -> None:
        """Take over batches from the leader, with one write. Raises what the log raises; then nothing was taken."""
        log = self.log
        try:
            log.append_as_follower(records)
        finally:
            before = self.flushed_end_offset
            log.flush_appends()
            if log.log_end_offset != before:
                self._written(len(records))

    def follow_marks(self, high_watermark: int, log_start_offset: int) -> None:
        """Take over the leader's high watermark and log start, as far as this log reaches."""
        mark = min(high_watermark, self.flushed_end_offset)
        if mark > self.high_watermark:
            self._move_high_watermark(mark)
        if log_start_offset > self.log.log_start_offset:
            self.log.advance_log_start_offset(min(log_start_offset, self.high_watermark), self.high_watermark)

    def truncate_to(self, offset: int) -> None:
        """Take away what the leader does not have."""
        start = self.log.log_start_offset
        self.log.truncate_to(offset)
        # Even where no record goes: a leader that was deposed before it appended anything has noted its epoch.
        self.log.epochs.truncate_from_end(self.log.log_end_offset)
        self._ends_at(self.log.log_end_offset, start)

    def start_again_at(self, offset: int) -> None:
        """Empty the log and go on at `offset`: what the leader has begins only there."""
        start = self.log.log_start_offset
        self.log.truncate_fully_and_start_at(offset)
        self._ends_at(offset, start)
        self.high_watermark = offset

    def _ends_at(self, end: int, start_before: int) -> None:
        """The log was cut to `end`. Below the high watermark that is a loss, if there were records: a new replica
        begins its log at the leader's start, and again before that if a batch reaches over it."""
        self.flushed_end_offset = end
        self.bytes.forget_notes()
        if self.high_watermark > end:
            if self.high_watermark > start_before:
                logger.warning(
                    "%s-%d is cut to offset %d, below its high watermark %d: records were lost with an earlier leader",
                    *(self.topic, self.index, end, self.high_watermark),
                )
            self.high_watermark = end
        self.wake_readers()

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

    # -- deleting -----------------------------------------------------------------------------------------------------

    @property
    def low_watermark(self) -> int:
        """The smallest log start offset of all replicas that live: records before it are gone (DeleteRecords)."""
        mark = self.log.log_start_offset
        for follower in self.followers.values():
            if follower.log_start_offset < mark and self.cluster.broker_epoch(follower.broker_id) != ANY_EPOCH:
                mark = follower.log_start_offset
        return mark

    def delete_records_before(self, offset: int) -> int:
        """Move the log start offset (-1: to the high watermark) and return where it is to be."""
        target = self.high_watermark if offset == -1 else offset
        if target < 0 or target > self.high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"The specified offset {target} is beyond the high watermark {self.high_watermark}",
            )
        if target > self.log.log_start_offset:
            self.log.advance_log_start_offset(target, self.high_watermark)
            self.wake_readers()
        return target

    def on_low_watermark(self, offset: int, callback: CommitCallback) -> None:
        """Call back with NONE once no living replica has records before `offset`, or with why it is not to be."""
        if not self.is_leader:
            callback(self.retired or ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif self.low_watermark >= offset:
            callback(ErrorCode.NONE)
        else:
            if self._start_waiters is None:
                self._start_waiters = []
            self._start_waiters.append((offset, callback))

    def stop_waiting_for_start(self, offset: int, callback: CommitCallback) -> None:
        """Take back `on_low_watermark`: while a replica is missing, what gave up would pile up here."""
        if self._start_waiters is not None:
            with contextlib.suppress(ValueError):  # called back already
                self._start_waiters.remove((offset, callback))

    def _release_start_waiters(self) -> None:
        if self._start_waiters is None:
            return
        mark = self.low_watermark
        waiters, self._start_waiters = self._start_waiters, None
        self._start_waiters = [waiter for waiter in waiters if waiter[0] > mark] or None
        for offset, callback in waiters:
            if offset <= mark:
                callback(ErrorCode.NONE)
