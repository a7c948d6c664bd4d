"""The voters that the log has named, and from which offset on: what is truncated was never so."""

from __future__ import annotations

from broadsheet_broker.raft.voters import VoterSet


class VoterHistory:
    """Sets of voters by the offset of the record that names them."""

    def __init__(self, configured: VoterSet) -> None:
        self._sets: list[tuple[int, VoterSet]] = [(-1, configured)]

    @property
    def newest(self) -> VoterSet:
        """In force, committed or not."""
        return self._sets[-1][1]

    def add(self, offset: int, voters: VoterSet) -> None:
        self.truncate(offset)
        self._sets.append((offset, voters))

    def before(self, offset: int) -> VoterSet:
        """The voters as the log below that offset has them: what a snapshot of it says."""
        return next((voters for at, voters in reversed(self._sets) if at < offset), self._sets[0][1])

    def truncate(self, offset: int) -> None:
        """The log ends there now."""
        self._sets = [entry for entry in self._sets if entry[0] < offset] or self._sets[:1]

    def forget_before(self, offset: int) -> None:
        """Voters of that time are no longer needed."""
        while len(self._sets) > 1 and self._sets[1][0] < offset:
            del self._sets[0]
