"""The states of a classic group."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class GroupState(StrEnum):
    """The states of a classic group, as Kafka's tools print them."""

    EMPTY = "Empty"
    """No members. Offsets may be there; they expire from the moment the group became empty."""
    PREPARING_REBALANCE = "PreparingRebalance"
    """Members are asked to join again, and joins wait."""
    COMPLETING_REBALANCE = "CompletingRebalance"
    """The generation is set; the leader's assignment is awaited."""
    STABLE = "Stable"
    DEAD = "Dead"
    """Deleted or unloaded. Only a callback that still holds the object sees it."""


EMPTY: Final = GroupState.EMPTY
PREPARING: Final = GroupState.PREPARING_REBALANCE
COMPLETING: Final = GroupState.COMPLETING_REBALANCE
STABLE: Final = GroupState.STABLE
DEAD: Final = GroupState.DEAD

TRANSITIONS: Final[Mapping[GroupState, frozenset[GroupState]]] = {
    EMPTY: frozenset({PREPARING, DEAD}),
    PREPARING: frozenset({COMPLETING, EMPTY, DEAD}),
    COMPLETING: frozenset({STABLE, PREPARING, DEAD}),
    STABLE: frozenset({PREPARING, DEAD}),
    DEAD: frozenset({DEAD}),
}
"""The legal changes of state, as org.apache.kafka.coordinator.group.classic.ClassicGroupState has them.

* To PreparingRebalance: a member joins, leaves or is silent for too long, or an assignment could not be stored.
* To CompletingRebalance: all known members have joined again, or the rebalance timeout has passed.
* To Stable: the assignment of the group's leader is stored.
* To Empty: the rebalance timeout has passed and no member has joined.
* To Dead: the group is deleted, or another broker coordinates it now.
"""

REBALANCE_FROM: Final = frozenset(state for state, after in TRANSITIONS.items() if PREPARING in after)
"""The states from which a rebalance can begin."""
