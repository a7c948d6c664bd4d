"""What the brokers of a Cluster say of themselves and each other in one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broadsheet_operator.reconcilers.exchange import Stored
from broadsheet_operator.reconcilers.observed import (
    ClusterHealth,
    ClusterView,
    Failure,
    FeaturesView,
    QuorumView,
    TopicView,
)
from broadsheet_operator.reconcilers.spreading import Placed


@dataclass(frozen=True, slots=True)
class Seen:
    """None: not asked. A Failure: asked in vain."""

    view: ClusterView | Failure | None = None
    health: ClusterHealth | Failure | None = None
    quorum: QuorumView | Failure | None = None
    features: FeaturesView | Failure | None = None
    placement: tuple[Placed, ...] | Failure | None = None
    """Where every replica is; None while no decision needs it."""
    canary: TopicView | Failure | None = None
    """The canary's topic; None: not asked, or there is none."""
    stored: Stored | Failure | None = None
    """What is stored and finalized; None while no other engine is asked for."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """By broker, bytes of all replicas."""
