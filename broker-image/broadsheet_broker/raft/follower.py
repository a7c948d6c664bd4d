"""A replica that follows the leader of its epoch: it fetches, appends, goes back where it has diverged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.raft.messages import (
    Address,
    AppendFetched,
    Fetch,
    FetchAnswer,
    FetchSnapshot,
    Question,
    SnapshotAnswer,
    SnapshotId,
    StoreSnapshotPiece,
    Truncate,
    UpdateVoter,
    Vote,
)
from broadsheet_broker.raft.observer import find_leader
from broadsheet_broker.raft.role_state import NEVER, RoleState
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.voters import Voter
from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft


class Follower(RoleState):
    """One request to the leader at a time. A voter that hears nothing for the fetch timeout asks for an election."""

    role = Role.FOLLOWER

    def __init__(self, raft: Raft, leader_id: int, address: Address) -> None:
        super().__init__(raft)
        self.leader_id = leader_id
        self.address = address
        self.deadline_ms = raft.now_ms + raft.settings.fetch_timeout_ms
        self.has_fetched = False
        """Whether the leader has answered, and nothing since has spoken against its being alive (KIP-996)."""
        self.snapshot: SnapshotId | None = None
        """What is being fetched."""
        self._position = 0
        self._busy = False
        """The log or a snapshot is being written; the next request waits for it."""
        self._update_after_ms = raft.now_ms

    def poll(self) -> float:
        raft = self.raft
        is_late = raft.now_ms >= self.deadline_ms
        if is_late and raft.may_campaign:
            raft.become_prospective()
            return raft.now_ms
        next_ms = NEVER if is_late else self.deadline_ms
        if self._busy or not raft.may_fetch:
            return next_ms
        ready_at = raft.outbox.ready_at(self.leader_id, raft.now_ms)
        if ready_at <= raft.now_ms:
            raft.send(self.leader_id, self.address, self._question())
        else:
            next_ms = min(next_ms, ready_at)
        if raft.outbox.has_failed(self.leader_id) or is_late:
            next_ms = min(next_ms, find_leader(raft))  # there may be another leader
        return next_ms

    def _question(self) -> Question:
        raft = self.raft
        if self._is_elsewhere() and raft.now_ms >= self._update_after_ms:
            self._update_after_ms = raft.now_ms + 3 * raft.settings.fetch_timeout_ms
            return UpdateVoter(raft.epoch, Voter(raft.local, raft.local_endpoints))
        if self.snapshot is not None:
            most = raft.settings.snapshot_max_bytes
            return FetchSnapshot(raft.epoch, raft.local, self.snapshot, self._position, most)
        return raft.make_fetch(raft.settings.max_wait_ms)

    def _is_elsewhere(self) -> bool:
        """Whether the log names other endpoints for this voter than it has."""
        raft = self.raft
        voter = raft.voters.voters.get(raft.local.id)
        return (
            raft.voters.dynamic
            and raft.is_voter
            and voter is not None
            and bool(raft.local_endpoints)
            and voter.endpoints != raft.local_endpoints
        )

    def led_by(self, leader_id: int) -> None:
        self.deadline_ms = self.raft.now_ms + self.raft.settings.fetch_timeout_ms

    def succeed(self, delay_ms: float) -> None:
        self.has_fetched = False
        self.deadline_ms = min(self.deadline_ms, self.raft.now_ms + delay_ms)

    def may_grant(self, vote: Vote, up_to_date: bool) -> bool:
        if vote.pre_vote:
            return up_to_date and not self.has_fetched
        voted = self.raft.election.voted
        return voted is not None and voted.matches(vote.candidate)

    def not_answered(self, node_id: int, question: Question, failure: str) -> None:
        """The leader's port refuses connections: its process is dead, so the fetch timeout need not pass."""
        if node_id == self.leader_id and failure == "refused":
            self.succeed(self.raft.random.uniform(0, self.raft.settings.election_timeout_ms / 10))

    # Fetching.

    def fetch_answered(self, node_id: int, question: Fetch, answer: FetchAnswer) -> None:
        raft = self.raft
        if node_id != self.leader_id or answer.error:
            raft.outbox.back_off(node_id, raft.now_ms)
            return
        self._heard()
        if answer.diverging is not None:
            offset = self._common_end(*answer.diverging)
            raft.flushed_end = min(raft.flushed_end, offset)
            raft.emit(Truncate(offset))
        elif answer.snapshot is not None:
            if answer.snapshot.offset <= raft.log.end_offset and answer.snapshot.offset <= raft.high_watermark:
                raft.outbox.back_off(node_id, raft.now_ms)  # it is older than what is known to be committed
                return
            self.snapshot, self._position = answer.snapshot, 0
        elif len(answer.records):
            self._busy = True
            raft.emit(AppendFetched(answer.records, answer.high_watermark))
        else:
            self._learn(answer.high_watermark, raft.log.end_offset)

    def _heard(self) -> None:
        self.has_fetched = True
        self.raft.lost_elections = 0
        self.raft.leader_heard = self.leader_id, self.raft.now_ms
        self.deadline_ms = self.raft.now_ms + self.raft.settings.fetch_timeout_ms

    def _common_end(self, epoch: int, end_offset: int) -> int:
        """Where this log and the leader's may still agree (KIP-595)."""
        log = self.raft.log
        if epoch == 0:
            return min(end_offset, log.end_offset)
        own_epoch, own_end = log.end_of_epoch(epoch)
        return min(own_end, end_offset) if own_epoch == epoch else own_end

    def fetched_appended(self, end_offset: int, high_watermark: int) -> None:
        self._busy = False
        if high_watermark >= 0:
            self._learn(high_watermark, end_offset)

    def _learn(self, high_watermark: int, end_offset: int) -> None:
        """The leader says what is committed; this log has it as far as it reaches."""
        self.raft.advance_high_watermark(min(high_watermark, end_offset))
        if high_watermark <= end_offset:
            self.raft.is_behind = False

    # Snapshots.

    def snapshot_answered(self, node_id: int, answer: SnapshotAnswer) -> None:
        raft = self.raft
        if node_id != self.leader_id or self.snapshot is None:
            return
        lost = answer.error in (ErrorCode.SNAPSHOT_NOT_FOUND, ErrorCode.POSITION_OUT_OF_RANGE)
        if answer.error or answer.snapshot != self.snapshot or answer.position != self._position:
            if lost:
                self.snapshot = None  # there is a newer one by now
            raft.outbox.back_off(node_id, raft.now_ms)
            return
        self._heard()
        end = self._position + len(answer.data)
        if end > answer.size or (end < answer.size and not len(answer.data)):
            self.snapshot = None
            raft.outbox.back_off(node_id, raft.now_ms)
            return
        last = end == answer.size
        raft.emit(StoreSnapshotPiece(self.snapshot, self._position, answer.data, last))
        self._position = end
        if last:
            self._busy = True
            raft.installing = self.snapshot

    def snapshot_installed(self, id: SnapshotId) -> None:
        """The log begins at the snapshot, which stands for what is committed."""
        if self.snapshot == id:
            self.snapshot, self._busy = None, False

    def snapshot_refused(self, id: SnapshotId) -> None:
        if self.snapshot == id:
            self.snapshot, self._busy = None, False
            self.raft.outbox.back_off(self.leader_id, self.raft.now_ms)
