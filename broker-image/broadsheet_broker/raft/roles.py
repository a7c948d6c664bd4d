"""The roles of a replica, and which may follow which."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Role(Enum):
    UNATTACHED = auto()
    """Knows of no leader in its epoch."""
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
    Role.LEADER: frozenset({Role.UNATTACHED, Role.RESIGNED}),
    Role.FOLLOWER: frozenset({Role.UNATTACHED, Role.PROSPECTIVE, Role.FOLLOWER}),
    Role.RESIGNED: frozenset({Role.UNATTACHED, Role.PROSPECTIVE, Role.FOLLOWER}),
}
"""The legal changes of role, as org.apache.kafka.raft.QuorumState describes them."""
