"""The Raft state machine of one replica: messages in, effects out, nothing else touched.

The machine knows its log by its ends and epochs only (`LogView`), time by the number it is given with each message,
and other replicas by what they ask and answer. What a replica does in each role stands in a module of its own; this one
has what roles share: epochs and leaders that are heard of, and the transitions between roles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol

from broadsheet_broker.raft.asked import asked, change_voters
from broadsheet_broker.raft.candidate import Candidate
from broadsheet_broker.raft.follower import Follower
from broadsheet_broker.raft.leader import Leader
from broadsheet_broker.raft.messages import (
    Address,
    AddVoter,
    Answer,
    Answered,
    Appended,
    AppendLeaderChange,
    AppendRefused,
    Asked,
    ChangeAnswer,
    Effect,
    ElectionState,
    EpochAnswer,
    Fetch,
    FetchAnswer,
    FetchedAppended,
    Flushed,
    HighWatermarkAdvanced,
    LeaderChanged,
    LogFailed,
    Message,
    Question,
    RemoveVoter,
    Reply,
    Resign,
    SetTimer,
    ShutDown,
    SnapshotId,
    SnapshotInstalled,
    SnapshotRefused,
    Started,
    StoreElection,
    TimerFired,
    Vote,
    VoteAnswer,
    VotersChanged,
)
from broadsheet_broker.raft.outbox import Outbox
from broadsheet_broker.raft.prospective import Prospective
from broadsheet_broker.raft.resigned import Resigned
from broadsheet_broker.raft.role_state import NEVER, RoleState
from broadsheet_broker.raft.roles import START, TRANSITIONS, Role
from broadsheet_broker.raft.unattached import Unattached
from broadsheet_broker.raft.voters import ReplicaKey, VoterSet
from broadsheet_broker.wire.errors import ErrorCode


class RaftError(Exception):
    """Raft does not allow what was about to happen: a defect, here or in another replica."""


class LogView(Protocol):
    """What the machine may ask its log. Effects of a step show in it when they have been carried out."""

    @property
    def start_offset(self) -> int: ...

    @property
    def end_offset(self) -> int: ...

    @property
    def last_epoch(self) -> int:
        """Epoch of the last record, in the log or only in a snapshot; 0 before the first."""
        ...

    @property
    def oldest_snapshot(self) -> SnapshotId | None: ...

    @property
    def newest_snapshot(self) -> SnapshotId | None: ...

    def end_of_epoch(self, epoch: int) -> tuple[int, int]:
        """The largest epoch in the log that is not above this one, and where it ends."""
        ...


class QuorumSettings(NamedTuple):
    """Properties `controller.quorum.*`, in ms and bytes."""

    election_timeout_ms: int = 1000
    fetch_timeout_ms: int = 2000
    backoff_max_ms: int = 1000
    """controller.quorum.election.backoff.max.ms"""
    retry_backoff_ms: int = 20
    request_timeout_ms: int = 2000
    fetch_max_bytes: int = 1024 * 1024
    snapshot_max_bytes: int = 1024 * 1024
    max_wait_ms: int = 500
    """How long a leader may keep a fetch for which it has nothing; a constant in Kafka."""


DEFAULTS = QuorumSettings()


class Raft:
    """One replica. `step` is the only way to change it."""

    def __init__(
        self,
        local: ReplicaKey,
        voters: VoterSet,
        stored: ElectionState,
        log: LogView,
        random: Random,
        settings: QuorumSettings = DEFAULTS,
        *,
        bootstrap_servers: Sequence[Address] = (),
        local_endpoints: Mapping[str, Address] | None = None,
        flushed_end: int = 0,
    ) -> None:
        self.local = local
        self.voters = voters
        """The newest that the log names, committed or not; else those of the configuration."""
        self.election = stored
        self.log = log
        self.random = random
        self.settings = settings
        self.bootstrap_servers = bootstrap_servers
        self.local_endpoints = dict(local_endpoints or {})
        self.state: RoleState | None = None
        """None before `Started`."""
        self.is_behind = False
        """The disk refused what the leader sent: this replica does not know what is decided. Until it has all that the
        leader says is committed."""
        self.flushed_end = flushed_end
        """The log is durable below this offset."""
        self.high_watermark = -1
        """Everything below is committed, as far as this replica has ever known."""
        self.installing: SnapshotId | None = None
        """This snapshot is about to take the place of the log: nothing is fetched meanwhile, from any leader."""
        self.is_stopping = False
        self.is_broken = False
        self.lost_elections = 0
        """In a row."""
        self.leader_heard: tuple[int, float] | None = None
        """Which leader answered a fetch of this replica last, and when (ms)."""
        self.now_ms = 0.0
        self.outbox = Outbox(random, settings.retry_backoff_ms)
        self._addresses: dict[int, Address] = {}
        """Learned from answers."""
        self._told: tuple[int, int | None] | None = None
        self._timer: float | None = None
        self._effects: list[Effect] = []

    # Questions.

    @property
    def role(self) -> Role:
        return Role.UNATTACHED if self.state is None else self.state.role

    @property
    def leader(self) -> Leader | None:
        """Set while this replica leads."""
        return self.state if isinstance(self.state, Leader) else None

    @property
    def epoch(self) -> int:
        return self.election.leader_epoch

    @property
    def leader_id(self) -> int | None:
        """The leader of this epoch, as far as known; None when this replica was it and has resigned."""
        return None if self.role is Role.RESIGNED else self.election.leader_id

    @property
    def is_voter(self) -> bool:
        return self.voters.is_voter(self.local)

    @property
    def may_campaign(self) -> bool:
        return self.is_voter and not self.is_stopping and not self.is_broken

    @property
    def may_fetch(self) -> bool:
        """The log is durable as it is, and stays so: what a fetch says of it is an acknowledgement."""
        return self.flushed_end >= self.log.end_offset and self.installing is None

    @property
    def own_address(self) -> Address | None:
        return next(iter(self.local_endpoints.values()), None) or self.address_of(self.local.id)

    def address_of(self, id: int) -> Address | None:
        voter = self.voters.voters.get(id)
        configured = None if voter is None else voter.address
        return configured or self._addresses.get(id)

    def random_election_timeout(self) -> float:
        return self.settings.election_timeout_ms * (1 + self.random.random())

    # Steps.

    def step(self, message: Message, now_ms: float) -> list[Effect]:
        """Take one message at the given monotonic time and say what must be done, in order."""
        self.now_ms = now_ms
        effects = self._effects = []
        self._take(message)
        if self.state is not None and (not self.is_broken or self.role is Role.RESIGNED):
            self._poll()
        return effects

    def _poll(self) -> None:
        for _ in range(20):
            state = self.state
            assert state is not None
            next_ms = state.poll()
            if self.state is state:
                break
        else:
            raise RaftError(f"role transitions do not settle: {self.role.name} in epoch {self.epoch}")
        at = None if next_ms == NEVER else next_ms
        if at != self._timer:
            self._timer = at
            self.emit(SetTimer(at))

    def _take(self, message: Message) -> None:
        state = self.state
        if isinstance(message, Started):
            self._start()
        elif state is None:
            raise RaftError(f"{message} before Started")
        elif isinstance(message, Asked):
            asked(self, message.token, message.question)
        elif isinstance(message, Answered):
            if not self.is_broken or self.role is Role.RESIGNED:
                self._answered(message)
        elif isinstance(message, Appended):
            state.appended(message.end_offset)
        elif isinstance(message, Flushed):
            self.flushed_end = message.end_offset
            state.flushed()
        elif isinstance(message, FetchedAppended):
            state.fetched_appended(message.end_offset, message.high_watermark)
        elif isinstance(message, AppendRefused):
            self.is_behind = True
        elif isinstance(message, VotersChanged):
            self.voters = message.voters
            state.voters_changed()
        elif isinstance(message, SnapshotInstalled):
            self.installing = None
            self.flushed_end = self.log.end_offset
            self.advance_high_watermark(message.id.offset)
            if isinstance(state, Follower):
                state.snapshot_installed(message.id)
        elif isinstance(message, SnapshotRefused):
            self.installing = None if self.installing == message.id else self.installing
            if isinstance(state, Follower):
                state.snapshot_refused(message.id)
        elif isinstance(message, AddVoter | RemoveVoter):
            change_voters(self, message)
        elif isinstance(message, Resign | ShutDown | LogFailed):
            self._stop(message)
        else:
            assert isinstance(message, TimerFired)
            self._timer = None

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def reply(self, token: Any, answer: Answer | ChangeAnswer) -> None:
        self.emit(Reply(token, answer))

    def send(self, node_id: int, address: Address, question: Question) -> None:
        self.emit(self.outbox.send(node_id, address, question))

    # Start and stop.

    def _start(self) -> None:
        # An epoch never comes back: never below the last one in the log, should the quorum-state file have been lost.
        if self.election.leader_epoch < self.log.last_epoch:
            self.election = ElectionState(self.log.last_epoch)
        leader_id = self.election.leader_id
        if self.voters.is_sole_voter(self.local):
            self._enter(Prospective(self))
            return
        if leader_id == self.local.id:
            # It may have lost what it had not flushed, so it must not lead or vote in that epoch again.
            self._enter(Resigned(self, ()))
            return
        address = None if leader_id is None else self.address_of(leader_id)
        if leader_id is not None and address is not None:
            self._enter(Follower(self, leader_id, address))
        else:
            # A pre-vote disturbs no other replica, so there is no reason to wait for long at the start.
            wait = self.settings.election_timeout_ms * self.random.uniform(0.1, 1)
            self._enter(Unattached(self, self.now_ms + wait))
        self._tell(self.leader_id)

    def _stop(self, message: Resign | ShutDown | LogFailed) -> None:
        self.is_stopping = self.is_stopping or not isinstance(message, Resign)
        self.is_broken = self.is_broken or isinstance(message, LogFailed)
        leader = self.leader
        if leader is not None:
            self.become_resigned(leader.successors())

    # Transitions.

    def become_unattached(self, epoch: int, leader_id: int | None = None) -> None:
        voted = self.election.voted if epoch == self.epoch else None
        deadline = self.now_ms + self.random_election_timeout()
        if isinstance(self.state, Unattached):
            deadline = self.state.election_deadline_ms  # candidates that come and go must not put it off for ever
        self.elect(ElectionState(epoch, leader_id, voted))
        self._enter(Unattached(self, deadline))
        self._tell(leader_id)

    def become_prospective(self) -> None:
        self._enter(Prospective(self))

    def become_candidate(self) -> None:
        epoch = self.epoch + 1
        alone = self.voters.is_sole_voter(self.local)
        if alone:
            self.election = ElectionState(epoch)  # its vote and its election are stored in one write
        else:
            self.elect(ElectionState(epoch, None, self.local))
        self._enter(Candidate(self))
        if not alone:
            self._tell(None)

    def become_leader(self, granting: list[int]) -> None:
        self.elect(ElectionState(self.epoch, self.local.id))
        leader = Leader(self, self.log.end_offset, granting)
        self._enter(leader)
        self.lost_elections = 0
        keys = tuple(self.voters.voters[id].key for id in self.voters.ids)
        votes = tuple(self.voters.voters[id].key for id in granting)
        self.emit(AppendLeaderChange(self.epoch, self.local.id, keys, votes))
        if self.voters.is_sole_voter(self.local):
            self.tell_leader()  # everything in its log is committed

    def become_resigned(self, successors: tuple[ReplicaKey, ...]) -> None:
        self._enter(Resigned(self, successors))
        self._tell(None)

    def become_follower(self, epoch: int, leader_id: int, address: Address) -> None:
        if leader_id == self.local.id:
            raise RaftError(f"replica {leader_id} cannot follow itself in epoch {epoch}")
        voted = self.election.voted if epoch == self.epoch else None
        self._addresses[leader_id] = address
        self.elect(ElectionState(epoch, leader_id, voted))
        self._enter(Follower(self, leader_id, address))
        self._tell(leader_id)

    def elect(self, election: ElectionState) -> None:
        """Remember an epoch, its leader or a vote, durably before another replica learns of it."""
        if election.leader_epoch < self.epoch:
            raise RaftError(f"epoch {election.leader_epoch} after {self.epoch}")
        if election != self.election:
            self.election = election
            self.emit(StoreElection(election))

    def _enter(self, state: RoleState) -> None:
        before = self.state
        if state.role not in (START if before is None else TRANSITIONS[before.role]):
            raise RaftError(f"a replica that is {self.role.name} cannot become {state.role.name}")
        self.outbox.forget()
        self.state = state
        if before is not None:
            before.leave()
        if isinstance(before, Leader):
            for parked in before.parked:
                self.reply(parked.token, self.fetch_answer(ErrorCode.NOT_LEADER_OR_FOLLOWER))

    def _tell(self, leader_id: int | None) -> None:
        if self._told != (self.epoch, leader_id):
            self._told = self.epoch, leader_id
            self.emit(LeaderChanged(self.epoch, leader_id))

    def tell_leader(self) -> None:
        """This replica leads, and its listener is about to hear of all that earlier leaders committed."""
        self._tell(self.local.id)

    def advance_high_watermark(self, offset: int) -> None:
        if offset > self.high_watermark:
            self.high_watermark = offset
            self.emit(HighWatermarkAdvanced(offset))

    # Epochs and leaders that others speak of.

    def heard_of(self, epoch: int, leader_id: int | None, address: Address | None) -> None:
        """Somebody speaks of a newer epoch, or of the leader of this one, where none was known or reachable."""
        if leader_id is None or leader_id == self.local.id:
            if epoch > self.epoch:
                self.become_unattached(epoch)
            return
        if epoch == self.epoch and self.election.leader_id not in (None, leader_id):
            return  # an answer that is older than what is known by now
        if address is not None:
            self._addresses[leader_id] = address
        found = self.address_of(leader_id)
        if found is not None:
            self.become_follower(epoch, leader_id, found)
        elif epoch > self.epoch or self.election.leader_id is None:
            self.become_unattached(epoch, leader_id)

    def _lacks_leader(self) -> bool:
        """Whether a leader of this epoch would be news."""
        return self.election.leader_id is None or self.role is Role.UNATTACHED

    # What is said of the leader.

    @property
    def known_leader_address(self) -> Address | None:
        """Where the leader of this epoch is, as far as this replica knows."""
        leader_id = self.election.leader_id
        if leader_id is None:
            return None
        return self.own_address if leader_id == self.local.id else self.address_of(leader_id)

    def fetch_answer(
        self,
        error: ErrorCode = ErrorCode.NONE,
        *,
        diverging: tuple[int, int] | None = None,
        snapshot: SnapshotId | None = None,
    ) -> FetchAnswer:
        leader = self.leader
        known = None if leader is None else leader.high_watermark
        return FetchAnswer(
            error,
            self.epoch,
            self.election.leader_id,
            self.known_leader_address,
            -1 if known is None else known,
            self.log.start_offset,
            diverging,
            snapshot,
        )

    # Answers of other replicas.

    def make_fetch(self, max_wait_ms: int) -> Fetch:
        """What the next fetch says of this replica."""
        known = max(self.high_watermark, -1)
        log, most = self.log, self.settings.fetch_max_bytes
        return Fetch(self.epoch, self.local, log.end_offset, log.last_epoch, known, max_wait_ms, most)

    def _answered(self, message: Answered) -> None:
        sent = self.outbox.take(message.request_id)
        if sent is None:
            return  # asked in another role
        (node_id, question), answer = sent, message.answer
        state = self.state
        assert state is not None
        if answer is None:
            self.outbox.back_off(node_id, self.now_ms)
            state.not_answered(node_id, question, message.failure)
            return
        if answer.epoch > self.epoch:
            self.heard_of(answer.epoch, answer.leader_id, answer.address)
            return
        stale = answer.epoch < self.epoch or answer.error in (
            ErrorCode.UNKNOWN_LEADER_EPOCH,
            ErrorCode.BROKER_NOT_AVAILABLE,
        )
        if stale:
            self.outbox.back_off(node_id, self.now_ms)
            return
        if answer.leader_id not in (None, self.local.id) and self._lacks_leader():
            self.heard_of(answer.epoch, answer.leader_id, answer.address)
            if self.state is not state:
                return
        self.outbox.succeeded(node_id)
        if isinstance(answer, VoteAnswer):
            assert isinstance(question, Vote)
            state.vote_answered(node_id, question, answer)
        elif isinstance(answer, EpochAnswer):
            state.epoch_answered(node_id, question, answer)
        elif isinstance(answer, FetchAnswer):
            assert isinstance(question, Fetch)
            if isinstance(state, Follower):
                state.fetch_answered(node_id, question, answer)
            else:
                self.outbox.back_off(node_id, self.now_ms)  # it does not know more than this replica
        else:
            state.snapshot_answered(node_id, answer)
