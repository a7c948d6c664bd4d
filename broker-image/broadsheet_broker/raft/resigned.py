"""A replica that led this epoch and has given it up: it can neither lead in it again nor vote in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.raft.messages import EndEpoch, EpochAnswer, Question, Vote
from broadsheet_broker.raft.role_state import NEVER, RoleState
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.voters import ReplicaKey

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft


class Resigned(RoleState):
    """Notifies the voters that the epoch is over. Without a successor it goes on to the next epoch without a leader."""

    role = Role.RESIGNED

    def __init__(self, raft: Raft, successors: tuple[ReplicaKey, ...]) -> None:
        super().__init__(raft)
        self.successors = successors
        self.deadline_ms = raft.now_ms + raft.random_election_timeout()
        self._untold = {id for id in raft.voters.ids if id != raft.local.id}

    @property
    def told_everybody(self) -> bool:
        return not self._untold

    def poll(self) -> float:
        raft = self.raft
        if raft.now_ms >= self.deadline_ms and not raft.is_stopping:
            raft.become_unattached(raft.epoch + 1)
            return raft.now_ms
        next_ms = NEVER if raft.is_stopping else self.deadline_ms
        for id in sorted(self._untold):
            address, ready_at = raft.address_of(id), raft.outbox.ready_at(id, raft.now_ms)
            if address is None:
                continue
            if ready_at > raft.now_ms:
                next_ms = min(next_ms, ready_at)
                continue
            raft.send(id, address, EndEpoch(raft.epoch, raft.local.id, self.successors, raft.local_endpoints))
        return next_ms

    def epoch_answered(self, node_id: int, question: Question, answer: EpochAnswer) -> None:
        if isinstance(question, EndEpoch) and not answer.error:
            self._untold.discard(node_id)
        else:
            self.raft.outbox.back_off(node_id, self.raft.now_ms)

    def may_grant(self, vote: Vote, up_to_date: bool) -> bool:
        return vote.pre_vote and up_to_date
