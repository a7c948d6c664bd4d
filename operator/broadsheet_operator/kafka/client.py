"""The gateway over kafka-python: pure Python, Kafka 4's protocol versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broadsheet_operator.kafka import brokers, features, groups, lag, properties, quorum, stored, topics
from broadsheet_operator.kafka.wire import Wire
from broadsheet_operator.reconcilers.consumer_group import GroupAction
from broadsheet_operator.reconcilers.exchange import Stored
from broadsheet_operator.reconcilers.features import FeatureChange
from broadsheet_operator.reconcilers.observed import (
    ClusterHealth,
    ClusterView,
    Failure,
    FeaturesView,
    GroupQuery,
    GroupView,
    LagQuery,
    LagView,
    QuorumView,
    Storage,
    TopicPartition,
    TopicView,
)
from broadsheet_operator.reconcilers.quorum import VoterChange
from broadsheet_operator.reconcilers.spreading import Placed
from broadsheet_operator.reconcilers.topic_actions import (
    TopicAction,
)


class KafkaPythonGateway:
    """A KafkaGateway. Safe to use from one thread at a time."""

    def __init__(self, bootstrap_servers: Sequence[str], timeout_ms: int = 10_000) -> None:
        self._wire = Wire(bootstrap_servers, timeout_ms)

    def observe_cluster(self) -> ClusterView | Failure:
        """Brokers and controller."""
        return topics.observe_cluster(self._wire)

    def observe_health(self) -> ClusterHealth | Failure:
        """How all partitions are."""
        return brokers.observe_health(self._wire)

    def observe_topics(self, names: Sequence[str]) -> dict[str, TopicView | Failure | None]:
        """Each topic, None where there is none of that name."""
        return topics.observe_topics(self._wire, names) if names else {}

    def observe_groups(self, queries: Mapping[str, GroupQuery]) -> dict[str, GroupView | Failure]:
        """Each group by its id."""
        return groups.observe_groups(self._wire, queries) if queries else {}

    def observe_lag(self, query: LagQuery) -> LagView | Failure:
        """All groups of the cluster."""
        return lag.observe_lag(self._wire, query)

    def apply_topics(self, actions: Sequence[TopicAction]) -> list[Failure | None]:
        """Do all the actions, many topics per request."""
        return topics.apply_topics(self._wire, actions)

    def apply_groups(self, actions: Sequence[GroupAction]) -> list[Failure | None]:
        """Do all the actions."""
        return groups.apply_groups(self._wire, actions)

    def observe_properties(self) -> dict[str, str | None] | Failure:
        """Broker properties that are set for all brokers (KIP-226), None for a secret."""
        return properties.observe_properties(self._wire)

    def observe_known_properties(self, broker_id: int) -> frozenset[str] | Failure:
        """The names of all properties that a broker knows."""
        return properties.observe_known_properties(self._wire, broker_id)

    def alter_properties(self, changes: Mapping[str, str], resets: Iterable[str]) -> Failure | None:
        """Set some of them, and give others back to each broker's file."""
        return properties.alter_properties(self._wire, changes, resets)

    def list_topics(self) -> list[str] | Failure:
        """Names of all topics, without Kafka's internal ones."""
        return topics.list_topics(self._wire)

    def observe_quorum(self) -> QuorumView | Failure:
        """The metadata quorum, as its leader has it."""
        return quorum.observe_quorum(self._wire)

    def change_voters(self, change: VoterChange) -> Failure | None:
        """Add or remove one voter."""
        return quorum.change_voters(self._wire, change)

    def unregister_broker(self, broker_id: int) -> Failure | None:
        """Have the cluster forget a broker that is gone for good."""
        return quorum.unregister_broker(self._wire, broker_id)

    def observe_stored(self) -> Stored | Failure:
        """What another engine would have to take over: finalized features, groups, transactions, access."""
        return stored.observe_stored(self._wire)

    def observe_features(self, broker_ids: Sequence[int]) -> FeaturesView | Failure:
        """The features that are finalized, and those that each of these brokers supports."""
        return features.observe_features(self._wire, broker_ids)

    def update_features(self, change: FeatureChange) -> Failure | None:
        """Finalize levels of features: all of them, or none."""
        return features.update_features(self._wire, change)

    def observe_placement(self) -> tuple[Placed, ...] | Failure:
        """Every partition of every topic, with what is on the move."""
        return brokers.observe_placement(self._wire)

    def observe_storage(self, broker_ids: Sequence[int]) -> dict[int, Storage]:
        """What each broker keeps, and its disks; brokers that do not answer are left out."""
        return brokers.observe_storage(self._wire, broker_ids)

    def move_replicas(
        self, moves: Mapping[TopicPartition, tuple[int, ...]], cancel: Sequence[TopicPartition] = ()
    ) -> Failure | None:
        """Have partitions moved, and moves taken back; the first failure, if any."""
        return brokers.move_replicas(self._wire, moves, cancel)

    def close(self) -> None:
        """Let go of connections and threads."""
        self._wire.close()
