"""The roles of a replica, and which may follow which."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Role(Enum):
    UNATTACHED = auto()
    """Knows of no leader in its epoch, or not how to reach it."""
    PROSPECTIVE = auto()
    """Asks whether it would win before it disturbs anyone with a new epoch (KIP-996)."""
    CANDIDATE = auto()
    LEADER = auto()
    FOLLOWER = auto()
    RESIGNED = auto()
    """Was leader and has given up its epoch."""


TRANSITIONS: Final[dict[Role, frozenset[Role]]] = {
    Role.UNATTACHED: frozenset({Role.UNATTACHED, Role.PROSPECTIVE, Role.FOLLOWER}),
    Role.PROSPECTIVE: frozenset({Role.UNATTACHED, Role.CANDIDATE, Role.FOLLOWER}),
    Role.CANDIDATE: frozenset({Role.UNATTACHED, Role.PROSPECTIVE, Role.LEADER, Role.FOLLOWER}),
    Role.LEADER: frozenset({Role.UNATTACHED, Role.FOLLOWER, Role.RESIGNED}),
    Role.FOLLOWER: frozenset({Role.UNATTACHED, Role.PROSPECTIVE, Role.FOLLOWER}),
    Role.RESIGNED: frozenset({Role.UNATTACHED, Role.FOLLOWER}),
}
"""The legal changes of role, as org.apache.kafka.raft.QuorumState describes them.

* To UNATTACHED: a higher epoch is heard of; a pre-vote is lost and no leader known; a resigned leader's wait is over.
* To PROSPECTIVE: the election or fetch timeout has passed, or an election was lost or came to no end.
* To CANDIDATE: a majority would grant its vote. To LEADER: a majority did.
* To FOLLOWER: a leader is heard of, of a higher epoch or of this one where none was known.
* To RESIGNED: the leader stops, or has not heard from a majority for too long.

Observers, which have no vote, are only ever UNATTACHED or FOLLOWER.
"""

START: Final = frozenset({Role.UNATTACHED, Role.FOLLOWER, Role.RESIGNED, Role.PROSPECTIVE})
"""What a replica may be when it starts; PROSPECTIVE is for the only voter, which has no other to wait for."""
