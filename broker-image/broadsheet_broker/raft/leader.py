"""The leader of an epoch: it counts how far the voters' logs are durable, and so what is committed."""

from __future__ import annotations

from broadsheet_broker.raft.voters import VoterSet


class Leader:
    """What a leader knows beyond its epoch."""

    __slots__ = ("epoch", "epoch_start_offset", "high_watermark", "id", "voter_ends", "voters")

    def __init__(self, id: int, epoch: int, epoch_start_offset: int, voters: VoterSet) -> None:
        self.id = id
        self.epoch = epoch
        self.epoch_start_offset = epoch_start_offset
        """Where the LeaderChange record of this epoch lies."""
        self.voters = voters
        self.voter_ends: dict[int, int] = {}
        """How far each voter's log is known to be durable (exclusive)."""
        self.high_watermark: int | None = None

    def voter_reached(self, id: int, end_offset: int) -> bool:
        """Note a voter's progress; True when the high watermark moved by it.

        An entry of an earlier epoch is never committed by counting copies, only by committing one of this epoch after
        it (Raft, section 5.4.2): so the high watermark is unknown until a majority holds the LeaderChange record.
        """
        self.voter_ends[id] = max(end_offset, self.voter_ends.get(id, 0))
        ends = sorted((self.voter_ends.get(voter, 0) for voter in self.voters.ids), reverse=True)
        majority_end = ends[self.voters.majority - 1]
        if majority_end <= self.epoch_start_offset:
            return False
        if self.high_watermark is not None and majority_end <= self.high_watermark:
            return False
        self.high_watermark = majority_end
        return True
