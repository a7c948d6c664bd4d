"""What one look at a local cluster sees. It is asked in the cluster's own lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.local.broker import answers
from broadsheet_operator.local.settling import Settled
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure, FeaturesView, TopicView


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a cluster; both None while a broker does not take connections yet."""

    view: ClusterView | Failure | None = None
    health: ClusterHealth | Failure | None = None
    known: frozenset[str] | None = None
    """The properties that its brokers know, if that was asked."""
    canary: CanaryHealth | str | None = None
    """What its canary says, if it has one."""
    canary_topic: TopicView | Failure | None = None
    features: FeaturesView | Failure | None = None
    """Levels of features, of a Cluster that declares its engine."""
    settled: bool = False
    """What belongs to the cluster as a whole is as declared, or cannot be."""
    words: str = ""
    """What was altered for that."""
    refusal: str = ""
    """Why it cannot be as declared."""


def observe(
    gateway: KafkaGateway,
    waiting_for: Sequence[tuple[str, int]],
    ask_for_properties: bool,
    ask_canary: Callable[[], CanaryHealth | str | None] = lambda: None,
    canary_topic: str = "",
    ask_for_features: bool = False,
    settle: Callable[[KafkaGateway, FeaturesView | Failure | None], Settled] | None = None,
) -> Observation:
    """Ask the cluster how it is, once all these addresses take connections."""
    if not all(answers(address) for address in waiting_for):
        return Observation()
    said = ask_canary()
    view = gateway.observe_cluster()
    if isinstance(view, Failure):
        return Observation(view, canary=said)
    asked = gateway.observe_known_properties(view.alive[0].id) if ask_for_properties and view.alive else None
    known = None if isinstance(asked, Failure) else asked
    topic = gateway.observe_topics([canary_topic])[canary_topic] if canary_topic else None
    features = gateway.observe_features([broker.id for broker in view.alive]) if ask_for_features else None
    done = settle(gateway, features) if settle is not None else Settled(done=False)
    health = gateway.observe_health()
    return Observation(view, health, known, said, topic, features, done.done, done.words, done.refusal)
