"""Who may vote: the members of the metadata quorum."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final, NamedTuple

NO_DIRECTORY: Final = uuid.UUID(int=0)
"""The directory id of a voter where ids of directories do not count: static quorums (kraft.version 0)."""


class ReplicaKey(NamedTuple):
    """One replica of the metadata log. The directory distinguishes a replaced disk from its predecessor (KIP-853)."""

    id: int
    directory_id: uuid.UUID = NO_DIRECTORY

    def matches(self, other: ReplicaKey) -> bool:
        """Whether both name the same replica, as far as both say; one that names no directory stands for any."""
        return self.id == other.id and (
            self.directory_id == other.directory_id or NO_DIRECTORY in (self.directory_id, other.directory_id)
        )


@dataclass(frozen=True, slots=True)
class Voter:
    """A voter and where its controller listener is reached."""

    key: ReplicaKey
    endpoints: dict[str, tuple[str, int]]
    """Host and port by the name of the listener, the default one first."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the first listener; None when it is known by its id only."""
        return next(iter(self.endpoints.values()), None)


@dataclass(frozen=True, slots=True)
class VoterSet:
    """The voters of one moment."""

    voters: dict[int, Voter]
    dynamic: bool = False
    """True with kraft.version 1: voters stand in the log and may change; else they come from the configuration."""

    def __contains__(self, id: object) -> bool:
        return id in self.voters

    def __len__(self) -> int:
        return len(self.voters)

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def ids(self) -> list[int]:
        return sorted(self.voters)

    def is_voter(self, key: ReplicaKey) -> bool:
        """Whether this very replica votes: its directory counts where the voter's is known."""
        voter = self.voters.get(key.id)
        return voter is not None and voter.key.directory_id in (NO_DIRECTORY, key.directory_id)

    def is_only_voter(self, id: int) -> bool:
        return len(self.voters) == 1 and id in self.voters

    def is_sole_voter(self, key: ReplicaKey) -> bool:
        return len(self.voters) == 1 and self.is_voter(key)

    def with_voter(self, voter: Voter) -> VoterSet:
        return VoterSet({**self.voters, voter.key.id: voter}, self.dynamic)

    def without(self, id: int) -> VoterSet:
        return VoterSet({other: voter for other, voter in self.voters.items() if other != id}, self.dynamic)
