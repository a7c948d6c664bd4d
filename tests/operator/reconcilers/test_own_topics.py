"""Kafka's own topics: a Topic may say how their records are kept, and not which."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from broadsheet_operator.api.topic import Topic
from broadsheet_operator.reconcilers.observed import BrokerView, ClusterView, ConfigView, PartitionView, TopicView
from broadsheet_operator.reconcilers.own_topics import CHANGEABLE
from broadsheet_operator.reconcilers.topic import TopicPlan, TopicSeen, plan_topic
from broadsheet_operator.reconcilers.topic_actions import AlterConfigs, CreateTopic

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLUSTER = ClusterView("id", 0, (BrokerView(0),))
KEPT = {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600"}
OFFSETS = TopicView(
    "__consumer_offsets",
    "id-1",
    tuple(PartitionView(i, 0, (0,), (0,)) for i in range(50)),
    {key: ConfigView(value, True) for key, value in KEPT.items()},
    True,
)


def plan(spec: dict[str, Any], observed: TopicView | None = OFFSETS, name: str = "__consumer_offsets") -> TopicPlan:
    resource = {"metadata": {"name": "x"}, "spec": {"cluster": "q", "topicName": name, "adoption": "Always", **spec}}
    return plan_topic(Topic.model_validate(resource), TopicSeen(topic=observed, cluster=CLUSTER), NOW)


def stalled(found: TopicPlan) -> str:
    condition = found.status.condition("Stalled")
    return condition.message if condition else ""


@pytest.mark.parametrize("name", ["__consumer_offsets", "__transaction_state", "__share_group_state"])
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"cleanupPolicy": "delete"}, "cleanup.policy=delete would lose or hide its records"),
        ({"retention": {"time": "7d"}}, "retention.ms=604800000 would lose"),
        ({"config": {"compression.type": "zstd"}}, "compression.type=zstd would lose"),
        ({"partitions": 60}, "partitions 60 would not find what is kept in 50"),
    ],
)
def test_what_would_lose_offsets_or_transactions_is_refused(name: str, spec: dict[str, Any], words: str) -> None:
    """`cleanupPolicy: delete` was done at once, and committed offsets went with age from then on."""
    found = plan(spec, replace(OFFSETS, name=name), name)
    assert found.actions == ()
    assert words in stalled(found)
    assert "Allowed are replicationFactor, minInSyncReplicas and of config max.compaction.lag.ms" in stalled(found)


def test_how_the_records_are_kept_may_be_changed_and_the_rest_stays() -> None:
    found = plan({"minInSyncReplicas": 1, "partitions": 50, "config": {"segment.bytes": "1048576"}})
    changes = {"min.insync.replicas": "1", "segment.bytes": "1048576"}
    assert found.actions == (AlterConfigs("__consumer_offsets", changes, ()),), "Kafka's overrides are not reset"
    assert set(changes) <= set(CHANGEABLE)


def test_what_is_declared_as_it_is_needs_nothing() -> None:
    found = plan({"cleanupPolicy": "compact"})
    assert found.actions == () and stalled(found) == ""


def test_a_topic_of_kafkas_that_is_not_there_is_not_made() -> None:
    found = plan({}, None)
    ready = found.status.condition("Ready")
    assert found.actions == () and ready is not None
    assert (ready.status, ready.reason) == ("False", "PendingInKafka")
    assert "Kafka creates it when it is first needed" in ready.message


def test_a_topic_of_kafkas_that_will_come_by_itself_is_not_stalled() -> None:
    """Declared with its Cluster, before the first group: Flux gave up, although nobody had to change anything."""
    assert stalled(plan({}, None)) == ""
    assert stalled(plan({})) == "", "and it goes on once it is there"


def test_the_log_of_the_metadata_quorum_cannot_be_declared() -> None:
    found = plan({}, None, "__cluster_metadata")
    assert found.actions == () and "log of Kafka's metadata quorum" in stalled(found)


def test_a_topic_that_was_deleted_in_kafka_is_made_again_and_said_to_have_lost_its_records() -> None:
    desired = Topic.model_validate(
        {
            "metadata": {"name": "orders"},
            "spec": {"cluster": "q", "partitions": 2},
            "status": {"topicId": "id-1", "conditions": []},
        }
    )
    action = plan_topic(desired, TopicSeen(topic=None, cluster=CLUSTER), NOW).actions[0]
    assert isinstance(action, CreateTopic) and action.lost
    words = "the topic orders was deleted in Kafka, and its records are gone: create with 2 partitions"
    assert action.words() == words
