"""One replica of the metadata log at work: carries out what the state machine decides.

Appends of one turn of the event loop, and all that arrive while an fsync is under way, become durable with one fsync.
Followers fetch them meanwhile. When a majority has them, the high watermark moves, and the listener hears of everything
below it in one call.

Messages for the machine are taken one after the other: what comes up while effects are carried out waits until they
all are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broadsheet_broker.log.errors import StorageError, is_passing
from broadsheet_broker.raft import messages as m
from broadsheet_broker.raft import quorum_state
from broadsheet_broker.raft.control_records import leader_change_row, voter_rows, voters_of
from broadsheet_broker.raft.leader import Leader
from broadsheet_broker.raft.listener import Committed, RaftListener, RaftSettings, SnapshotSource
from broadsheet_broker.raft.machine import Raft
from broadsheet_broker.raft.messages import SnapshotId
from broadsheet_broker.raft.node_delivery import Delivery
from broadsheet_broker.raft.node_flushing import Flushing, failure_of
from broadsheet_broker.raft.node_sending import Sending, reply_records
from broadsheet_broker.raft.node_snapshots import RETRY_SECONDS, Snapshots
from broadsheet_broker.raft.resigned import Resigned
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.snapshot import Snapshot
from broadsheet_broker.raft.storage import MAX_BATCH_BYTES, MetadataLog
from broadsheet_broker.raft.voter_history import VoterHistory
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.peers import Address, Peers
from broadsheet_broker.wire.records import BatchHeader, build_batch, decode_records, iterate_batches

__all__ = ["Committed", "RaftListener", "RaftNode", "RaftSettings", "SnapshotSource"]

logger = logging.getLogger(__name__)

_FAREWELL_SECONDS = 1.0
"""How long a leader that stops waits for the others to have heard of it."""
_NOT_RUNNING = "This node has not joined the metadata quorum yet, or is stopping."


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
        *,
        peers: Peers | None = None,
        cluster_id: str = "",
        endpoints: Mapping[str, tuple[str, int]] | None = None,
        bootstrap_servers: Sequence[tuple[str, int]] = (),
    ) -> None:
        """`voters`: of the configuration; `endpoints`: this node's controller listeners, if it has any;
        `bootstrap_servers`: who may know the quorum (controller.quorum.bootstrap.servers)."""
        self._environment = environment
        self._local = local
        self._history = VoterHistory(voters)
        self._settings = settings
        self._listener = listener
        self._peers = peers
        self.cluster_id = cluster_id
        self.storage: MetadataLog = MetadataLog(environment, log_dir, settings.segment_bytes, settings.segment_ms)
        self._raft = Raft(
            local,
            voters,
            m.ElectionState(),
            self.storage,
            environment.random,
            settings.quorum,
            bootstrap_servers=bootstrap_servers,
            local_endpoints=endpoints,
        )
        self.flushing: Flushing = Flushing(environment, self.storage, self)
        self.delivery = Delivery(self.storage, listener, self.now_ms)
        self._snapshots = Snapshots(environment, self.storage, self._history, self.flushing, listener, settings, self)
        self._sending = Sending(peers, cluster_id, settings.quorum.request_timeout_ms, self.step)
        self._opened = False
        self.is_running = False
        self._inbox: deque[m.Message] = deque()
        self._stepping = False
        self._timer: asyncio.TimerHandle | None = None
        self._loaded: Snapshot | None = None
        self.failure: KafkaError | None = None
        """Why the metadata log can no longer be written."""
        self.appended_records = 0
        """By this replica as leader."""
        self.fetched_records = 0
        """From leaders."""
        self._refusal = ""
        """What the disk said last when it refused an append."""
        self._news: asyncio.Future[None] | None = None

    # Questions.

    @property
    def voters(self) -> VoterSet:
        """From the configuration, until the log says otherwise (kraft.version 1)."""
        return self._history.newest

    @property
    def epoch(self) -> int:
        return self._raft.epoch

    @property
    def leader_id(self) -> int | None:
        return self._raft.leader_id if self._raft.role in (Role.LEADER, Role.FOLLOWER) else None

    @property
    def voted_id(self) -> int | None:
        """Node id that this replica has voted for in the present epoch."""
        voted = self._raft.election.voted
        return None if voted is None else voted.id

    @property
    def is_leader(self) -> bool:
        return self._raft.role is Role.LEADER

    @property
    def is_behind(self) -> bool:
        """The disk refused what the leader sent: more may be decided than the listener has heard."""
        return self._raft.is_behind

    @property
    def role(self) -> Role:
        return self._raft.role

    @property
    def leader_address(self) -> Address | None:
        """Where the leader is reached, be it one of the voters known here or not."""
        if self.leader_id is None:
            return None
        address = self._raft.own_address if self.is_leader else self._raft.address_of(self.leader_id)
        return None if address is None else Address(*address)

    @property
    def former_leader(self) -> tuple[int, float] | None:
        """The other leader that this replica heard last, and when, in monotonic seconds."""
        heard = self._raft.leader_heard
        return None if heard is None else (heard[0], heard[1] / 1000)

    @property
    def leader_state(self) -> Leader | None:
        """What the leader knows of the others; None unless this node leads."""
        return self._raft.leader

    @property
    def local_key(self) -> ReplicaKey:
        return self._local

    @property
    def high_watermark(self) -> int:
        """-1 while unknown."""
        return self._raft.high_watermark

    def now_ms(self) -> float:
        return self._environment.monotonic() * 1000

    # Life.

    async def start(self) -> None:
        """Load the snapshot into the listener, then join the quorum.

        A quorum of one loads its log too and leads when this returns; others have to wait for a leader, and hear of
        what is committed from it.
        """
        await self._environment.offload(self._open)
        self._load()
        self._raft.voters = self.voters
        self._raft.election = quorum_state.load(self._environment.files, self.storage.directory)
        self.is_running = True
        alone = self.voters.is_sole_voter(self._local)
        if alone:
            self._deliver(self.storage.end_offset)
        self.step(m.Started())
        self.flushing.start()
        if alone:
            await self.flushed()
            if self.failure is not None:
                raise self.failure.again()
            if self.high_watermark < 0:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, self._refusal)

    def _open(self) -> None:
        self._loaded = self.storage.open()
        self._opened = True

    def _load(self) -> None:
        """Give the newest snapshot to the listener, and learn from the log behind it who votes."""
        snapshot, self._loaded = self._loaded, None
        if snapshot is not None:
            self._snapshots.give(self.storage.snapshots[-1], snapshot)
        for header, batch in self.storage.read(self.applied):
            if header.is_control:
                self._learn_voters(header, batch)

    def _learn_voters(self, header: BatchHeader, batch: memoryview) -> bool:
        found = voters_of(decode_records(batch))
        if found is not None:
            self._history.add(header.base_offset, found)
        return found is not None

    async def stop(self) -> None:
        """Hand over what this replica leads, finish what is under way and close the log cleanly.

        Also after a start that failed.
        """
        if not self._opened:
            return
        await self.flushed()
        await self._snapshots.finish()
        if self.is_running:
            self.step(m.ShutDown())
            await self._say_farewell()
        self.kill()
        if self.failure is None:
            try:
                await self._environment.offload(self.storage.log.close)
            except StorageError as error:  # the next start checks every batch anyway
                logger.error("The metadata log was not closed cleanly: %s", error)
        else:
            self.storage.log.close_files()

    async def _say_farewell(self) -> None:
        """Wait until the voters know that this leader is gone, or for a while."""
        epoch = self.epoch
        deadline = self._environment.monotonic() + _FAREWELL_SECONDS
        while self.epoch == epoch and isinstance(self._raft.state, Resigned) and not self._raft.state.told_everybody:
            left = deadline - self._environment.monotonic()
            if left <= 0 or self._peers is None:
                return
            self._news = self._environment.loop.create_future()
            await asyncio.wait([self._news], timeout=left)

    def kill(self) -> None:
        """Do nothing more."""
        self.is_running = False
        if self._timer is not None:
            self._timer.cancel()

    # Appending.

    def append(self, values: Sequence[bytes], tag: Any) -> int:
        """Append records as one atomic batch; returns the offset of the last. `handle_commit` gets `tag` back.

        Raises KafkaError(NOT_CONTROLLER) when this replica does not lead, and KAFKA_STORAGE_ERROR when its log failed.
        """
        if self.failure is not None:
            raise self.failure.again()
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
        self.delivery.appended(
            Committed(info.first_offset, info.last_offset, self.epoch, now, len(batch), (), None if control else tag)
        )
        self.appended_records += len(rows)
        self.flushing.start()
        return info.last_offset

    async def flushed(self) -> None:
        """Wait until nothing is waiting for its fsync."""
        await self.flushing.done()

    # What its parts ask of this replica (node_flushing.FlushingHost, node_snapshots.SnapshotHost).

    @property
    def has_failed(self) -> bool:
        return self.failure is not None

    @property
    def applied(self) -> int:
        """The listener has everything below this offset."""
        return self.delivery.applied

    def is_taken_back(self) -> bool:
        return self.delivery.is_taken_back()

    def refuse_waiting(self, error: KafkaError) -> None:
        refused = self.delivery.take_back()
        self._refusal = error.message
        logger.error("The metadata log cannot be written: %s", error.message)
        before = self.voters
        self._history.truncate(self.storage.end_offset)
        self._report_refused(refused, error)
        if self.voters != before:
            self.step(m.VotersChanged(self.voters))
        if len(self.voters) > 1:
            self.step(m.Resign())  # others may have room

    def fail(self, error: KafkaError) -> None:
        """The log can no longer be trusted. What it holds and is not committed will not be by this replica."""
        self.failure = error.again()
        self.step(m.LogFailed())
        waiting = self.delivery.forget_waiting()
        self._refusal = error.message
        logger.error("The metadata log cannot be used: %s", error.message)
        self._report_refused(waiting, error)

    def _report_refused(self, tags: Sequence[Any], error: KafkaError) -> None:
        refused = [tag for tag in tags if tag is not None]
        self._listener.handle_append_failure(refused, KafkaError(error.code, error.message))

    def snapshot_loaded(self, id: SnapshotId) -> None:
        self.delivery.starts_at(id.offset)
        self._raft.voters = self.voters

    def _deliver(self, high_watermark: int) -> None:
        size = self.delivery.deliver(high_watermark)
        if size:
            self._snapshots.committed(size)

    # The machine.

    def ask(self, question: m.Question, reply: Callable[[m.Answer], None]) -> None:
        """Another replica's question; the reply may come now or later."""
        self._require_running()
        self.step(m.Asked(reply, question))

    async def change_voters(self, make: Callable[[Any], m.AddVoter | m.RemoveVoter]) -> m.ChangeAnswer:
        """Carry out the order that `make` makes of a token; the answer comes when it is committed or refused."""
        self._require_running()
        answer: asyncio.Future[m.ChangeAnswer] = self._environment.loop.create_future()
        self.step(make(lambda found: None if answer.done() else answer.set_result(found)))
        return await answer

    def _require_running(self) -> None:
        if not self.is_running:
            raise KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, _NOT_RUNNING)

    def step(self, message: m.Message) -> None:
        self._inbox.append(message)
        if self._stepping or not self.is_running:
            return
        self._stepping = True
        try:
            while self._inbox:
                self._take(self._inbox.popleft())
        finally:
            self._stepping = False
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _take(self, message: m.Message) -> None:
        try:
            for effect in self._raft.step(message, self.now_ms()):
                self._carry_out(effect)
        except OSError as error:  # what could not be stored must not be promised: the effects after it are dropped
            self.fail(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)))
        except Exception as error:  # a defect: this replica can no longer be trusted
            if self.failure is not None:
                raise
            self.fail(failure_of(error))

    def _carry_out(self, effect: m.Effect) -> None:
        if isinstance(effect, m.Reply):
            effect.token(effect.answer)
        elif isinstance(effect, m.ReplyRecords):
            reply_records(self.storage, effect)
        elif isinstance(effect, m.Send):
            self._sending.send(effect)
        elif isinstance(effect, m.SetTimer):
            self._set_timer(effect.at_ms)
        elif isinstance(effect, m.HighWatermarkAdvanced):
            self._deliver(effect.offset)
        elif isinstance(effect, m.AppendFetched):
            self._append_fetched(effect)
        elif isinstance(effect, m.LeaderChanged):
            self._leader_changed(effect)
        elif isinstance(effect, m.StoreElection):
            quorum_state.store(self._environment.files, self.storage.directory, effect.state, self.voters)
        elif isinstance(effect, m.AppendLeaderChange):
            self._begin_epoch(effect)
        elif isinstance(effect, m.AppendVoters):
            self._append_voters(effect.voters)
        elif isinstance(effect, m.Truncate):
            self._truncate(effect.offset)
        elif isinstance(effect, m.ReplySnapshot):
            self._snapshots.reply_piece(effect)
        else:
            self._snapshots.store_piece(effect)

    def _set_timer(self, at_ms: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_ms is not None:
            # A microsecond later: in milliseconds again, rounding may make the time a little earlier than asked for.
            self._timer = self._environment.loop.call_at((at_ms + 0.001) / 1000, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.step(m.TimerFired())

    def _leader_changed(self, effect: m.LeaderChanged) -> None:
        if effect.leader_id != self._local.id:
            self.delivery.forget_waiting()  # whether it is ever committed is up to others; then it comes from the log
        else:
            logger.info("Node %d leads the metadata quorum in epoch %d", self._local.id, effect.epoch)
        self._listener.handle_leader(effect.epoch, effect.leader_id)

    # Appending what the machine wants.

    def _begin_epoch(self, effect: m.AppendLeaderChange) -> None:
        now = self._environment.clock.time_ms()
        rows = [leader_change_row(effect.leader_id, effect.voters, effect.granting, now)]
        if self.voters.dynamic and self.storage.end_offset == 0:
            rows += voter_rows(self.voters, now)  # they stood in the snapshot that formatting wrote (KIP-853)
        self.delivery.forget_waiting()
        self._append(rows, now, control=True)

    def _append_voters(self, voters: VoterSet) -> None:
        now = self._environment.clock.time_ms()
        offset = self._append(voter_rows(voters, now)[1:], now, control=True)
        self._history.add(offset, voters)
        self._inbox.append(m.VotersChanged(voters))

    def _append_fetched(self, effect: m.AppendFetched) -> None:
        records = memoryview(effect.records)
        end = self.storage.end_offset
        try:
            self.storage.append_fetched(records)
        except KafkaError as error:
            logger.error("What the leader of the metadata quorum sent cannot be appended: %s", error.message)
            self._inbox.append(m.AppendRefused())
            if isinstance(error, StorageError) and error.errno is not None and not is_passing(error):
                self.fail(error)  # the directory is lost: this replica would never hear of anything
                return
            self._listener.handle_refusal(error)
            done = m.FetchedAppended(self.storage.end_offset, -1)
            self._environment.loop.call_later(RETRY_SECONDS, self.step, done)
            return
        changed = False
        for header, batch in iterate_batches(records):
            if header.is_control and header.base_offset >= end:
                changed = self._learn_voters(header, batch) or changed
        if changed:
            self._inbox.append(m.VotersChanged(self.voters))
        self.fetched_records += self.storage.end_offset - end
        self._inbox.append(m.FetchedAppended(self.storage.end_offset, effect.high_watermark))
        self.flushing.start()

    def _truncate(self, offset: int) -> None:
        if offset < self.applied:
            raise RuntimeError(f"committed records from {offset} to {self.applied} would be taken away")
        logger.info(
            "The metadata log goes back from offset %d to %d, as its leader has it", self.storage.end_offset, offset
        )
        before = self.voters
        self.storage.log.truncate_to(offset)
        self.flushing.truncated()
        self._history.truncate(self.storage.end_offset)
        if self.voters != before:
            self._inbox.append(m.VotersChanged(self.voters))

    # Snapshots.

    async def write_snapshot(self) -> SnapshotId | None:
        """Write what the listener has now, and let go of what retention no longer wants."""
        return await self._snapshots.write()

    def take_snapshot(self) -> None:
        """Begin to write a snapshot, unless one is being written."""
        self._snapshots.take()

    # Orders and reports.

    async def add_voter(self, voter: Voter, timeout_ms: int, ack_when_committed: bool) -> m.ChangeAnswer:
        """Let a replica vote (KIP-853)."""
        return await self.change_voters(lambda token: m.AddVoter(token, voter, timeout_ms, ack_when_committed))

    async def remove_voter(self, key: ReplicaKey) -> m.ChangeAnswer:
        return await self.change_voters(lambda token: m.RemoveVoter(token, key))

    def wall_ms(self, at_ms: float) -> int:
        """A time of the machine by the wall clock; -1 for never."""
        return -1 if at_ms < 0 else round(self._environment.clock.time_ms() - (self.now_ms() - at_ms))
