"""What the planners' world needs of a Kafka cluster. Errors are values; nothing here raises for what Kafka refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

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


class KafkaGateway(Protocol):
    """One Kafka cluster. Every call is for many things at once and takes a bounded time."""

    def observe_cluster(self) -> ClusterView | Failure:
        """Brokers and controller."""

    def observe_health(self) -> ClusterHealth | Failure:
        """How all partitions are."""

    def observe_topics(self, names: Sequence[str]) -> dict[str, TopicView | Failure | None]:
        """Each topic, None where there is none of that name."""

    def observe_groups(self, queries: Mapping[str, GroupQuery]) -> dict[str, GroupView | Failure]:
        """Each group by its id."""

    def observe_lag(self, query: LagQuery) -> LagView | Failure:
        """All groups of the cluster."""

    def apply_topics(self, actions: Sequence[TopicAction]) -> list[Failure | None]:
        """Do all the actions; the results stand in the order of the actions, None where it worked."""

    def apply_groups(self, actions: Sequence[GroupAction]) -> list[Failure | None]:
        """Do all the actions; the results stand in the order of the actions, None where it worked."""

    def observe_properties(self) -> dict[str, str | None] | Failure:
        """Broker properties that are set for all brokers (KIP-226), None for a secret."""

    def observe_known_properties(self, broker_id: int) -> frozenset[str] | Failure:
        """The names of all properties that a broker knows."""

    def alter_properties(self, changes: Mapping[str, str], resets: Iterable[str]) -> Failure | None:
        """Set some of them, and give others back to each broker's file."""

    def list_topics(self) -> list[str] | Failure:
        """Names of all topics, without Kafka's internal ones."""

    def observe_quorum(self) -> QuorumView | Failure:
        """The metadata quorum, as its leader has it."""

    def change_voters(self, change: VoterChange) -> Failure | None:
        """Add or remove one voter."""

    def unregister_broker(self, broker_id: int) -> Failure | None:
        """Have the cluster forget a broker that is gone for good."""

    def observe_stored(self) -> Stored | Failure:
        """What another engine would have to take over: finalized features, groups, transactions, access."""

    def observe_features(self, broker_ids: Sequence[int]) -> FeaturesView | Failure:
        """The features that are finalized, and those that each of these brokers supports."""

    def update_features(self, change: FeatureChange) -> Failure | None:
        """Finalize levels of features: all of them, or none."""

    def observe_placement(self) -> tuple[Placed, ...] | Failure:
        """Every partition of every topic, with what is on the move."""

    def observe_storage(self, broker_ids: Sequence[int]) -> dict[int, Storage]:
        """What each broker keeps, and its disks; brokers that do not answer are left out."""

    def move_replicas(
        self, moves: Mapping[TopicPartition, tuple[int, ...]], cancel: Sequence[TopicPartition] = ()
    ) -> Failure | None:
        """Have partitions moved, and moves taken back; the first failure, if any."""

    def close(self) -> None:
        """Let go of connections and threads."""
