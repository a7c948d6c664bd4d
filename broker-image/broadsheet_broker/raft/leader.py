"""The leader of an epoch: it answers fetches, counts how far the voters' logs are durable, and so what is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from broadsheet_broker.raft.messages import (
    BeginEpoch,
    EpochAnswer,
    Fetch,
    FetchSnapshot,
    Question,
    ReplyRecords,
    ReplySnapshot,
    SnapshotAnswer,
    Vote,
)
from broadsheet_broker.raft.progress import Progress, majority_end
from broadsheet_broker.raft.role_state import NEVER, RoleState
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.voter_changes import VoterChanges
from broadsheet_broker.raft.voters import ReplicaKey
from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft

OBSERVER_SESSION_MS = 300_000
"""An observer that has not fetched for this time is forgotten."""

CHECK_QUORUM_FACTOR = 1.5
"""Fetch timeouts for which a leader may hear from less than a majority before it resigns."""


class Parked(NamedTuple):
    """A fetch that waits for something to answer with."""

    token: Any
    question: Fetch
    deadline_ms: float


class Leader(RoleState):
    """Leads one epoch, from its LeaderChange record at `epoch_start_offset` on."""

    role = Role.LEADER

    def __init__(self, raft: Raft, epoch_start_offset: int, granting: list[int]) -> None:
        super().__init__(raft)
        self.epoch_start_offset = epoch_start_offset
        self.granting = granting
        self.high_watermark: int | None = None
        """Unknown until a majority holds a record of this epoch; other epochs' high watermarks are no measure."""
        self.voters: dict[int, Progress] = {}
        self.observers: dict[ReplicaKey, Progress] = {}
        self.parked: list[Parked] = []
        self.changes = VoterChanges(self)
        self._fetched: set[int] = set()
        """Voters that have fetched since the last time that a majority had."""
        self._check_ms = raft.now_ms + CHECK_QUORUM_FACTOR * raft.settings.fetch_timeout_ms
        self._set_voters()

    def leave(self) -> None:
        self.changes.leave()

    # Time.

    def poll(self) -> float:
        raft = self.raft
        if len(raft.voters) > 1 or not raft.is_voter:
            if raft.now_ms >= self._check_ms:
                raft.become_resigned(self.successors())
                return raft.now_ms
            next_ms = self._check_ms
        else:
            next_ms = NEVER
        return min(next_ms, self._answer_late_fetches(), self._send_begin_epoch(), self.changes.poll())

    def _send_begin_epoch(self) -> float:
        """Tell the voters of whom nothing is heard who leads (again and again: a voter may have restarted)."""
        raft = self.raft
        interval, next_ms = raft.settings.fetch_timeout_ms / 2, NEVER
        for id, progress in sorted(self.voters.items()):
            address = raft.address_of(id)
            if id == raft.local.id or address is None:
                continue
            due = max(progress.next_begin_ms, progress.last_fetch_ms + interval, raft.outbox.ready_at(id, raft.now_ms))
            if due > raft.now_ms:
                next_ms = min(next_ms, due)
                continue
            raft.send(id, address, BeginEpoch(raft.epoch, raft.local.id, progress.key, raft.local_endpoints))
        return next_ms

    def epoch_answered(self, node_id: int, question: Question, answer: EpochAnswer) -> None:
        progress = self.voters.get(node_id)
        if answer.error or progress is None:
            self.raft.outbox.back_off(node_id, self.raft.now_ms)
        else:
            progress.next_begin_ms = self.raft.now_ms + self.raft.settings.fetch_timeout_ms / 2

    def successors(self) -> tuple[ReplicaKey, ...]:
        """Who should lead next: the voter with the longest log first."""
        others = [progress for id, progress in sorted(self.voters.items()) if id != self.raft.local.id]
        return tuple(progress.key for progress in sorted(others, key=lambda p: -p.end_offset))

    def may_grant(self, vote: Vote, up_to_date: bool) -> bool:
        return False

    # Fetches.

    def asked_fetch(self, token: Any, question: Fetch) -> None:
        raft, log = self.raft, self.raft.log
        self._heard_of(question.replica)
        if question.offset < 0 or question.last_epoch < 0 or question.last_epoch > raft.epoch:
            raft.reply(token, raft.fetch_answer(ErrorCode.INVALID_REQUEST))
            return
        snapshot = log.oldest_snapshot
        if (
            snapshot is not None
            and log.start_offset > 0
            and (
                question.offset < log.start_offset
                or (question.offset == log.start_offset and question.last_epoch != snapshot.epoch)
                or question.last_epoch < snapshot.epoch
            )
        ):
            raft.reply(token, raft.fetch_answer(snapshot=log.newest_snapshot))
            return
        if question.offset or question.last_epoch:
            epoch, end = log.end_of_epoch(question.last_epoch)
            if epoch != question.last_epoch or end < question.offset:
                raft.reply(token, raft.fetch_answer(diverging=(epoch, end)))
                return
        self._note_progress(question)
        if raft.state is not self:  # it has committed the removal of this leader
            raft.reply(token, raft.fetch_answer(ErrorCode.NOT_LEADER_OR_FOLLOWER))
            return
        parked = Parked(token, question, raft.now_ms + question.max_wait_ms)
        if question.max_wait_ms <= 0 or self._is_worth_an_answer(question):
            self._answer(parked)
        else:
            self.parked.append(parked)

    def _is_worth_an_answer(self, question: Fetch) -> bool:
        known = self.high_watermark
        return question.offset < self.raft.log.end_offset or (known is not None and known > question.high_watermark)

    def _answer(self, parked: Parked) -> None:
        question = parked.question
        answer = self.raft.fetch_answer()
        if question.offset < self.raft.log.end_offset:
            self.raft.emit(ReplyRecords(parked.token, answer, question.offset, question.max_bytes))
        else:
            self.raft.reply(parked.token, answer)

    def _answer_fetches(self) -> None:
        """Answer the fetches that there is something for now."""
        waiting, self.parked = self.parked, []
        for parked in waiting:
            if self._is_worth_an_answer(parked.question):
                self._answer(parked)
            else:
                self.parked.append(parked)

    def _answer_late_fetches(self) -> float:
        late = [parked for parked in self.parked if parked.deadline_ms <= self.raft.now_ms]
        if late:
            self.parked = [parked for parked in self.parked if parked.deadline_ms > self.raft.now_ms]
            for parked in late:
                self._answer(parked)
        return min((parked.deadline_ms for parked in self.parked), default=NEVER)

    def asked_snapshot(self, token: Any, question: FetchSnapshot) -> None:
        raft = self.raft
        self._heard_of(question.replica)
        answer = SnapshotAnswer(ErrorCode.NONE, raft.epoch, raft.local.id, raft.own_address, question.snapshot)
        raft.emit(ReplySnapshot(token, answer, question.position, question.max_bytes))

    # Progress.

    def _set_voters(self) -> None:
        """Follow the voters that the log names; one that was an observer keeps what is known of it."""
        before, self.voters = self.voters, {}
        for id in self.raft.voters.ids:
            key = self.raft.voters.voters[id].key
            known = before.get(id)
            if known is None or not known.key.matches(key):
                known = next((seen for other, seen in self.observers.items() if other.matches(key)), None)
            self.voters[id] = Progress(key) if known is None else known
            self.voters[id].key = key
        for progress in before.values():
            if not self.raft.voters.is_voter(progress.key) and progress.key.id != self.raft.local.id:
                self.observers[progress.key] = progress
        self.observers = {key: seen for key, seen in self.observers.items() if not self.raft.voters.is_voter(key)}

    def _heard_of(self, key: ReplicaKey) -> None:
        raft = self.raft
        voter = self.voters.get(key.id)
        if voter is None or not voter.key.matches(key) or key.id == raft.local.id:
            return
        self._fetched.add(key.id)
        needed = raft.voters.majority - raft.is_voter
        if len(self._fetched & self.voters.keys()) >= needed:
            self._fetched.clear()
            self._check_ms = raft.now_ms + CHECK_QUORUM_FACTOR * raft.settings.fetch_timeout_ms

    def progress_of(self, key: ReplicaKey) -> Progress | None:
        """What is known of a replica that has said who it is."""
        voter = self.voters.get(key.id)
        if voter is not None and voter.key.matches(key):
            return voter
        return self.observers.get(key)

    def _note_progress(self, question: Fetch) -> None:
        raft, key = self.raft, question.replica
        if key.id < 0 or key.id == raft.local.id:
            return
        progress = self.progress_of(key)
        if progress is None:
            for other in [k for k, seen in self.observers.items() if seen.is_gone(raft.now_ms, OBSERVER_SESSION_MS)]:
                del self.observers[other]
            progress = self.observers[key] = Progress(key)
        progress.fetched(question.offset, raft.log.end_offset, raft.now_ms)
        self._count()

    def _count(self) -> None:
        """Commit what a majority holds durably.

        An entry of an earlier epoch is never committed by counting copies, only by committing one of this epoch after
        it (Raft, section 5.4.2): so the high watermark is unknown until a majority holds the LeaderChange record.
        """
        raft = self.raft
        end = majority_end((progress.end_offset for progress in self.voters.values()), raft.voters.majority)
        if end <= self.epoch_start_offset or (self.high_watermark is not None and end <= self.high_watermark):
            return
        first = self.high_watermark is None
        self.high_watermark = end
        if first:
            raft.tell_leader()
        raft.advance_high_watermark(end)
        raft.is_behind = False
        self._answer_fetches()
        self.changes.committed(end)

    def appended(self, end_offset: int) -> None:
        self._answer_fetches()

    def flushed(self) -> None:
        own = self.voters.get(self.raft.local.id)
        if own is not None and self.raft.is_voter:
            own.end_offset = self.raft.flushed_end
        self._count()

    def voters_changed(self) -> None:
        self.changes.check_log()
        self._set_voters()
        self._fetched.clear()
        self._check_ms = self.raft.now_ms + CHECK_QUORUM_FACTOR * self.raft.settings.fetch_timeout_ms
        self.flushed()
