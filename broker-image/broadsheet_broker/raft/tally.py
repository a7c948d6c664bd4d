"""Counting the votes of an election."""

from __future__ import annotations

from broadsheet_broker.raft.voters import VoterSet


class Tally:
    """Who has granted and who has refused, among the voters of one moment."""

    __slots__ = ("_votes", "voters")

    def __init__(self, voters: VoterSet, own_id: int) -> None:
        self.voters = voters
        self._votes = {own_id: True}

    def record(self, voter_id: int, granted: bool) -> None:
        """A granted vote stays granted, whatever comes later."""
        if voter_id in self.voters and not self._votes.get(voter_id, False):
            self._votes[voter_id] = granted

    @property
    def granting(self) -> list[int]:
        return sorted(id for id, granted in self._votes.items() if granted and id in self.voters)

    @property
    def undecided(self) -> list[int]:
        return [id for id in self.voters.ids if id not in self._votes]

    @property
    def is_won(self) -> bool:
        return len(self.granting) >= self.voters.majority

    @property
    def has_refusals(self) -> bool:
        return not all(self._votes.values())

    def is_lost(self, unreachable: int = 0) -> bool:
        """Whether a majority is no longer possible if this number of the undecided does not answer."""
        return len(self.granting) + len(self.undecided) - unreachable < self.voters.majority
