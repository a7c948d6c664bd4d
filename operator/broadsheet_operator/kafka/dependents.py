"""The kinds of resources that belong to a Cluster: one row each, for the operator and `broadsheet up` alike.

A new kind is a row here, its model in `api` with a CRD, its planner in `reconcilers` and its calls in `kafka`. Both
shells take batches, lanes, intervals, conflicts and names from the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from broadsheet_operator.api.consumer_group import ConsumerGroup, ConsumerGroupStatus
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.meta import Condition, Dependent, Status
from broadsheet_operator.api.topic import Topic, TopicStatus
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kafka.rounds import Outcome, Task, reconcile_groups, reconcile_topics
from broadsheet_operator.reconcilers import consumer_group, topic
from broadsheet_operator.reconcilers.conditions import Figures
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.settings import OperatorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DependentKind:
    """One kind. Its name, plural and field for the name in Kafka are the model's; its lane is named by the plural."""

    model: type[Dependent]
    status: type[Status]
    named: str
    """The field of the status that holds the name in Kafka."""
    stays: str
    """What stays in Kafka when a resource with deletionPolicy Retain is deleted, with a place for the name."""
    exists: Callable[[Status], bool]
    """Whether there is anything of it in Kafka that belongs to the resource, as its status has it."""
    round: Callable[[KafkaGateway, Task], Mapping[ResourceKey, Outcome]]
    figures: Figures
    """Fields of the status whose change alone is written seldom."""
    linger_seconds: Callable[[OperatorSettings], float]
    """How long a first changed resource waits for others to share its batch."""
    ready_seconds: Callable[[OperatorSettings, Status], float]
    """How often a ready resource is reconciled, given its status; 0: after a change or a resync only."""
    unready_seconds: Callable[[OperatorSettings, Condition | None], float]
    """How often one that is not ready is reconciled, given its condition Ready."""
    local_seconds: float
    """How often `broadsheet up` reconciles all of them."""

    @property
    def name(self) -> str:
        """As `kind` says it in a manifest."""
        return self.model.__name__

    @property
    def plural(self) -> str:
        """The name in URLs."""
        return self.model.PLURAL

    def empty_status(self, resource: Dependent | None = None) -> Status:
        """The status of a resource of which nothing is known yet."""
        empty = self.status()
        return empty if resource is None else empty.model_copy(update={self.named: resource.kafka_name})


def _topic_ready(settings: OperatorSettings, status: Status) -> float:
    in_sync = status.condition("InSync")
    return settings.out_of_sync_seconds if in_sync is not None and in_sync.status == "False" else 0.0


def _topic_unready(settings: OperatorSettings, ready: Condition | None) -> float:
    held = ready is not None and ready.reason == Reason.WAITING_FOR_WINDOW
    return settings.held_seconds if held else settings.unfinished_seconds


def _group_ready(settings: OperatorSettings, status: Status) -> float:
    """Its lag changes without any event."""
    ready = status.condition("Ready")
    absent = ready is not None and ready.reason == Reason.GROUP_NOT_FOUND
    return settings.absent_group_seconds if absent else settings.group_seconds


DEPENDENTS: tuple[DependentKind, ...] = (
    DependentKind(
        model=Topic,
        status=TopicStatus,
        named="topic_name",
        stays="the topic {} and its records",
        exists=lambda status: isinstance(status, TopicStatus) and status.topic_id is not None,
        round=reconcile_topics,
        figures=topic.FIGURES,
        linger_seconds=lambda settings: settings.topic_linger_seconds,
        ready_seconds=_topic_ready,
        unready_seconds=_topic_unready,
        local_seconds=2.0,
    ),
    DependentKind(
        model=ConsumerGroup,
        status=ConsumerGroupStatus,
        named="group_id",
        stays="the group {} and its offsets",
        exists=lambda status: isinstance(status, ConsumerGroupStatus) and status.state not in (None, "Dead"),
        round=reconcile_groups,
        figures=consumer_group.FIGURES,
        linger_seconds=lambda settings: settings.group_linger_seconds,
        ready_seconds=_group_ready,
        unready_seconds=lambda settings, ready: settings.group_seconds,
        local_seconds=1.0,
    ),
)


def cluster_of(body: Mapping[str, Any], key: ResourceKey) -> ResourceKey:
    """The Cluster that `spec.cluster` of a resource names, as `name` or `namespace/name`; for data that may not be
    valid."""
    namespace, _, name = str(body.get("spec", {}).get("cluster", "")).rpartition("/")
    return ResourceKey(namespace or key.namespace, name)


def name_in_kafka(kind: DependentKind, body: Mapping[str, Any]) -> str:
    """The name in Kafka that a resource as plain data declares; for data that may not be valid."""
    return str(body.get("spec", {}).get(kind.model.NAME_FIELD) or body["metadata"]["name"])
