"""The states of a classic group."""

from __future__ import annotations

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

REBALANCE_FROM: Final = frozenset((STABLE, COMPLETING, EMPTY))
"""The states from which a rebalance can begin."""
