"""A voter that asks in its old epoch whether it would be elected, which disturbs no replica (pre-vote, KIP-996)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.raft.messages import Vote, VoteAnswer
from broadsheet_broker.raft.role_state import NEVER, RoleState
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.tally import Tally
from broadsheet_broker.raft.unattached import may_grant_without_leader

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft


class Campaign(RoleState):
    """What pre-votes and votes have in common: everybody is asked until the outcome is clear."""

    pre_vote: bool

    def __init__(self, raft: Raft) -> None:
        super().__init__(raft)
        self.tally = Tally(raft.voters, raft.local.id)
        self.deadline_ms = raft.now_ms + raft.random_election_timeout()

    def poll(self) -> float:
        raft = self.raft
        if self.tally.is_won:
            self.won()
            return raft.now_ms
        if raft.now_ms >= self.deadline_ms or self.is_hopeless():
            self.lost()
            return raft.now_ms
        next_ms = self.deadline_ms
        for id in self.tally.undecided:
            ready_at = raft.outbox.ready_at(id, raft.now_ms)
            address = raft.address_of(id)
            if ready_at > raft.now_ms or address is None:
                next_ms = min(next_ms, ready_at if address is not None else NEVER)
                continue
            key = raft.voters.voters[id].key
            log = raft.log
            vote = Vote(raft.epoch, raft.local, key, log.last_epoch, log.end_offset, self.pre_vote)
            raft.send(id, address, vote)
        return next_ms

    def is_hopeless(self) -> bool:
        return self.tally.is_lost()

    def vote_answered(self, node_id: int, question: Vote, answer: VoteAnswer) -> None:
        self.tally.record(node_id, answer.granted and not answer.error)

    def voters_changed(self) -> None:
        self.tally.voters = self.raft.voters

    def won(self) -> None:
        raise NotImplementedError

    def lost(self) -> None:
        raise NotImplementedError


class Prospective(Campaign):
    """Becomes a candidate when a majority agrees that it is time; else it waits on, following whom it knows."""

    role = Role.PROSPECTIVE
    pre_vote = True

    def won(self) -> None:
        self.raft.become_candidate()

    def lost(self) -> None:
        raft = self.raft
        leader_id = raft.election.leader_id
        address = None if leader_id is None else raft.address_of(leader_id)
        if leader_id is not None and leader_id != raft.local.id and address is not None:
            raft.become_follower(raft.epoch, leader_id, address)
        else:
            raft.become_unattached(raft.epoch, leader_id)

    def may_grant(self, vote: Vote, up_to_date: bool) -> bool:
        return may_grant_without_leader(self.raft, vote, up_to_date)

    def succeed(self, delay_ms: float) -> None:
        """It is trying already."""
