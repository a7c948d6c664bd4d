"""A replica that knows of no leader in its epoch: it waits, and may vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.raft.messages import Vote
from broadsheet_broker.raft.observer import find_leader
from broadsheet_broker.raft.role_state import RoleState
from broadsheet_broker.raft.roles import Role

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft


class Unattached(RoleState):
    """Until a leader is found, or until the election timeout has passed and this replica would be one itself."""

    role = Role.UNATTACHED

    def __init__(self, raft: Raft, election_deadline_ms: float) -> None:
        super().__init__(raft)
        self.election_deadline_ms = election_deadline_ms

    def poll(self) -> float:
        raft = self.raft
        if not raft.may_campaign:
            return find_leader(raft)
        if raft.now_ms >= self.election_deadline_ms:
            raft.become_prospective()
            return raft.now_ms
        return min(self.election_deadline_ms, find_leader(raft))

    def may_grant(self, vote: Vote, up_to_date: bool) -> bool:
        return may_grant_without_leader(self.raft, vote, up_to_date)

    def succeed(self, delay_ms: float) -> None:
        self.election_deadline_ms = min(self.election_deadline_ms, self.raft.now_ms + delay_ms)


def may_grant_without_leader(raft: Raft, vote: Vote, up_to_date: bool) -> bool:
    """One vote per epoch, to whom it was given before if it was; none where a leader is known to be elected."""
    if vote.pre_vote:
        return up_to_date
    if raft.election.voted is not None:
        return raft.election.voted.matches(vote.candidate)
    return up_to_date and raft.election.leader_id is None
