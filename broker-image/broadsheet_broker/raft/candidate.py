"""A voter that asks for votes in a new epoch, in which it has given its own to itself."""

from __future__ import annotations

from broadsheet_broker.raft.messages import Vote
from broadsheet_broker.raft.prospective import Campaign
from broadsheet_broker.raft.role_state import NEVER
from broadsheet_broker.raft.roles import Role


class Candidate(Campaign):
    """Leads when a majority has voted for it. After a lost election it waits for a random time and asks again."""

    role = Role.CANDIDATE
    pre_vote = False
    _resume_ms = NEVER
    """When the pause after a lost election is over."""

    def poll(self) -> float:
        if self._resume_ms == NEVER:
            next_ms = super().poll()
            return next_ms if self._resume_ms == NEVER else self._resume_ms
        if self.raft.now_ms >= self._resume_ms:
            self.raft.become_prospective()
            return self.raft.now_ms
        return self._resume_ms

    def is_hopeless(self) -> bool:
        """Split votes do not wait for a voter that is dead."""
        unreachable = sum(self.raft.outbox.has_failed(id) for id in self.tally.undecided)
        return self.tally.is_lost(unreachable if self.tally.has_refusals else 0)

    def won(self) -> None:
        self.raft.become_leader(self.tally.granting)

    def lost(self) -> None:
        """Candidates that ask at the same time take each other's votes: the one that waits less wins the next time."""
        raft = self.raft
        raft.lost_elections += 1
        most = min(raft.settings.backoff_max_ms, 100.0 * 2 ** min(raft.lost_elections, 10))
        self._resume_ms = raft.now_ms + raft.random.uniform(0, most)

    def may_grant(self, vote: Vote, up_to_date: bool) -> bool:
        return vote.pre_vote and up_to_date
