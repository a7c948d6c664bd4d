"""The Raft state machine of one replica: messages in, effects out, nothing else touched.

Built so far: the whole life of a quorum of one, which elects itself when it starts. The role table and the leader's
arithmetic are those of any quorum; votes and fetches of other voters come in as further messages.
"""

from __future__ import annotations

from broadsheet_broker.raft.leader import Leader
from broadsheet_broker.raft.messages import (
    AppendLeaderChange,
    Effect,
    ElectionState,
    Flushed,
    HighWatermarkAdvanced,
    LeaderChanged,
    LogFailed,
    Message,
    ShutDown,
    Started,
    StoreElection,
    TimerFired,
)
from broadsheet_broker.raft.roles import TRANSITIONS, Role
from broadsheet_broker.raft.voters import ReplicaKey, VoterSet


class RaftError(Exception):
    """The machine was asked for something that Raft does not allow: a defect, or a quorum that is not supported."""


class Raft:
    """One replica. `step` is the only way to change it."""

    def __init__(self, local: ReplicaKey, voters: VoterSet, stored: ElectionState) -> None:
        self.local = local
        self.voters = voters
        self.election = stored
        self.role = Role.UNATTACHED
        self.leader: Leader | None = None
        """Set while this replica leads."""

    @property
    def epoch(self) -> int:
        return self.election.leader_epoch

    @property
    def high_watermark(self) -> int | None:
        return None if self.leader is None else self.leader.high_watermark

    def step(self, message: Message, now_ms: float) -> list[Effect]:
        """Take one message at the given monotonic time and say what must be done, in order."""
        match message:
            case Started():
                return self._start(message)
            case Flushed(end_offset):
                return self._flushed(end_offset)
            case ShutDown() | LogFailed():
                return self._resign()
            case TimerFired():
                return []

    def _become(self, role: Role) -> None:
        if role not in TRANSITIONS[self.role]:
            raise RaftError(f"a replica that is {self.role.name} cannot become {role.name}")
        self.role = role

    def _start(self, message: Started) -> list[Effect]:
        if not self.voters.is_only_voter(self.local.id):
            raise RaftError(
                f"node {self.local.id} is configured for a metadata quorum of {self.voters.ids}, "
                "and only a quorum of this one node is supported so far"
            )
        # An epoch never comes back: above the one that was voted in, and above the last one in the log, should the
        # quorum-state file have been lost.
        epoch = max(self.election.leader_epoch, message.last_epoch) + 1
        self._become(Role.PROSPECTIVE)
        self._become(Role.CANDIDATE)
        # The only voter has a majority with its own vote; the vote and the result are stored in one write.
        self.election = ElectionState(epoch, leader_id=self.local.id)
        self._become(Role.LEADER)
        self.leader = Leader(self.local.id, epoch, message.end_offset, self.voters)
        keys = tuple(self.voters.voters[id].key for id in self.voters.ids)
        return [
            StoreElection(self.election),
            AppendLeaderChange(epoch, self.local.id, keys, granting=(self.voters.voters[self.local.id].key,)),
            LeaderChanged(epoch, self.local.id),
        ]

    def _flushed(self, end_offset: int) -> list[Effect]:
        if self.leader is None or not self.leader.voter_reached(self.local.id, end_offset):
            return []
        high_watermark = self.leader.high_watermark
        return [] if high_watermark is None else [HighWatermarkAdvanced(high_watermark)]

    def _resign(self) -> list[Effect]:
        if self.role is not Role.LEADER:
            return []
        self._become(Role.RESIGNED)
        self.leader = None
        return [LeaderChanged(self.epoch, None)]
