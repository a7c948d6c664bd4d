"""What belongs to a local cluster as a whole, and no broker's configuration says: altered over Kafka's protocol.

On Kubernetes the operator does it in its rounds; here once after each start or change.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.engine import EngineType
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.reconcilers import properties
from broadsheet_operator.reconcilers.features import next_step
from broadsheet_operator.reconcilers.observed import Failure, FeaturesView


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of it."""

    done: bool
    words: str = ""
    """What was altered."""
    refusal: str = ""
    """What of the Cluster is not done."""


def settle_cluster(cluster: Cluster, gateway: KafkaGateway, features: FeaturesView | Failure | None) -> Settled:
    """Bring it to what is declared, if it is not; `features` None: nothing is declared of them."""
    parts = [_settle_min_isr(cluster, gateway), _settle_features(cluster, gateway, features)]
    return Settled(
        done=all(part.done for part in parts),
        words="; ".join(part.words for part in parts if part.words),
        refusal="; ".join(part.refusal for part in parts if part.refusal),
    )


def _settle_features(cluster: Cluster, gateway: KafkaGateway, seen: FeaturesView | Failure | None) -> Settled:
    """Finalize what `engine.metadataVersion` and `engine.features` declare."""
    wanted = cluster.engine().wanted_levels
    if not wanted or seen is None:
        return Settled(done=True)
    if isinstance(seen, Failure):
        return Settled(done=False)
    step = next_step(wanted, seen, sorted(seen.supported), "")
    if step.refusal:
        return Settled(done=True, refusal=step.refusal)
    if step.change is None:
        return Settled(done=not step.words)
    failure = gateway.update_features(step.change)
    if failure is None:
        return Settled(done=True, words=step.change.words())
    return Settled(done=not failure.retriable, refusal=f"{step.change.words()}: {failure.message}")


def _settle_min_isr(cluster: Cluster, gateway: KafkaGateway) -> Settled:
    """With eligible leader replicas min.insync.replicas is the cluster's (KIP-966). Broadsheet's brokers see to it by
    themselves here (`broadsheet.min.insync.replicas.of.cluster`), those of Apache Kafka do not."""
    wanted = properties.declared(cluster).get(properties.MIN_ISR)
    if cluster.engine().type is EngineType.BROADSHEET or wanted is None:
        return Settled(done=True)
    observed = gateway.observe_properties()
    if isinstance(observed, Failure):
        return Settled(done=False)
    if observed.get(properties.MIN_ISR) == wanted:
        return Settled(done=True)
    change = properties.LiveChange({properties.MIN_ISR: wanted}, ())
    failure = gateway.alter_properties(change.changes, change.resets)
    return Settled(done=False) if failure is not None else Settled(done=True, words=change.words())
