"""The Topic planner, with plain values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadsheet_operator.api.topic import Topic
from broadsheet_operator.reconcilers import topic as planner
from broadsheet_operator.reconcilers.moves import Terms
from broadsheet_operator.reconcilers.observed import (
    BrokerView,
    ClusterView,
    ConfigView,
    Failure,
    PartitionView,
    TopicView,
)
from broadsheet_operator.reconcilers.rivals import rivals as rivals_of
from broadsheet_operator.reconcilers.topic import NO_TERMS, TopicPlan, TopicSeen
from broadsheet_operator.reconcilers.topic_actions import (
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    DeleteTopic,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = ClusterView("id", 0, (BrokerView(0),))
THREE = ClusterView("id", 0, tuple(BrokerView(i, rack=f"zone-{i}") for i in range(3)))


def plan_topic(
    desired: Topic,
    topic: TopicView | Failure | None,
    cluster: ClusterView | Failure,
    now: datetime,
    *,
    terms: Terms = NO_TERMS,
    **more: Any,
) -> TopicPlan:
    return planner.plan_topic(desired, TopicSeen(topic=topic, cluster=cluster, **more), now, terms)


def topic(spec: dict[str, Any] | None = None, **metadata: Any) -> Topic:
    return Topic.model_validate({"metadata": {"name": "orders", **metadata}, "spec": {"cluster": "q", **(spec or {})}})


def there(
    partitions: int = 3, configs: dict[str, str] | None = None, replicas: tuple[int, ...] = (0,), **more: Any
) -> TopicView:
    views = {
        "retention.ms": ConfigView("604800000", False),
        "cleanup.policy": ConfigView("delete", False),
        **{k: ConfigView(v, True) for k, v in (configs or {}).items()},
    }
    return TopicView(
        "orders",
        "id-1",
        tuple(PartitionView(i, replicas[0], replicas, replicas) for i in range(partitions)),
        views,
        **more,
    )


def ready(plan: TopicPlan) -> tuple[str, str]:
    condition = plan.status.condition("Ready")
    assert condition is not None
    return condition.status, condition.reason


def message(plan: TopicPlan) -> str:
    condition = plan.status.condition("Ready")
    assert condition is not None
    return condition.message


def ours(desired: Topic, observed: TopicView, cluster: ClusterView = ONE) -> Topic:
    """The Topic after it has taken over what is there."""
    status = plan_topic(desired, observed, cluster, NOW, just_created=True).status
    return desired.model_copy(update={"status": status})


def test_a_missing_topic_is_created_as_declared() -> None:
    desired = topic(
        {"partitions": 3, "replicationFactor": 1, "retention": {"time": "7d"}, "config": {"a": 1, "b": None}}
    )
    plan = plan_topic(desired, None, ONE, NOW)
    assert plan.actions == (CreateTopic("orders", 3, 1, {"retention.ms": "604800000", "a": "1"}),)
    assert ready(plan) == ("False", "Creating")
    assert plan.status.condition("Reconciling") is not None


def test_defaults_are_left_to_the_cluster() -> None:
    assert plan_topic(topic(), None, ONE, NOW).actions == (CreateTopic("orders", None, None, {}),)


def test_what_is_as_declared_needs_nothing_and_is_ready() -> None:
    plan = plan_topic(topic({"partitions": 3}), there(), ONE, NOW)
    assert plan.actions == ()
    assert ready(plan) == ("True", "Ready")
    assert (plan.status.topic_id, plan.status.partitions, plan.status.in_sync) == ("id-1", 3, "3/3")
    assert plan.status.condition("Reconciling") is None
    assert plan.status.condition("Stalled") is None


def test_asking_again_yields_the_identical_status_later_too() -> None:
    desired = ours(topic({"partitions": 3}), there())
    again = plan_topic(desired, there(), ONE, NOW + timedelta(hours=1))
    assert again.status == desired.status


def test_partitions_grow() -> None:
    desired = ours(topic({"partitions": 6}), there())
    plan = plan_topic(desired, there(), ONE, NOW)
    assert plan.actions == (AddPartitions("orders", 6, 3),)
    assert message(plan) == "grow from 3 to 6 partitions"


def test_fewer_partitions_are_refused_in_words_and_the_rest_is_done() -> None:
    desired = ours(topic({"partitions": 2, "retention": {"time": "1d"}}), there())
    plan = plan_topic(desired, there(), ONE, NOW)
    assert plan.actions == (AlterConfigs("orders", {"retention.ms": "86400000"}, ()),)
    assert ready(plan) == ("False", "NotSupported")
    assert "Kafka cannot take a partition away" in message(plan)
    assert plan.status.condition("Stalled") is not None


def test_drift_is_reverted() -> None:
    desired = ours(topic({"retention": {"time": "7d"}}), there())
    drifted = there(configs={"retention.ms": "5", "segment.bytes": "100"})
    assert plan_topic(desired, drifted, ONE, NOW).actions == (
        AlterConfigs("orders", {"retention.ms": "604800000"}, ("segment.bytes",)),
    )


@pytest.mark.parametrize("spec", [{"config": {"segment.bytes": None}}, {"unmanagedConfig": ["segment.bytes"]}])
def test_key_that_somebody_else_sets_is_left_alone(spec: dict[str, Any]) -> None:
    desired = ours(topic(spec), there())
    assert plan_topic(desired, there(configs={"segment.bytes": "100"}), ONE, NOW).actions == ()
    assert plan_topic(topic(spec), None, ONE, NOW).actions == (CreateTopic("orders", None, None, {}),)
    adopted = plan_topic(topic(spec), there(configs={"segment.bytes": "100"}), ONE, NOW)
    assert ready(adopted) == ("True", "Ready"), "nor does it stand in the way of an adoption"


def test_throttles_of_a_reassignment_are_nobodys_drift() -> None:
    desired = ours(topic(), there())
    throttled = there(configs={"leader.replication.throttled.replicas": "*"})
    assert plan_topic(desired, throttled, ONE, NOW).actions == ()


def test_equal_values_written_differently_are_equal() -> None:
    wanted = {
        "cleanup.policy": "delete,compact",
        "preallocate": "True",
        "r": "0.50",
        "x": "007",
    }
    seen = {"cleanup.policy": "compact,delete", "preallocate": "true", "r": "0.5", "x": "7"}
    assert plan_topic(ours(topic({"config": wanted}), there()), there(configs=seen), ONE, NOW).actions == ()


def test_an_existing_topic_is_adopted_when_it_is_identical() -> None:
    plan = plan_topic(topic({"partitions": 3, "retention": {"time": "7d"}}), there(), ONE, NOW)
    assert (plan.actions, ready(plan), plan.status.topic_id) == ((), ("True", "Ready"), "id-1")


def test_an_existing_topic_that_differs_is_left_alone() -> None:
    plan = plan_topic(topic({"partitions": 6}), there(), ONE, NOW)
    assert (plan.actions, ready(plan), plan.status.topic_id) == ((), ("False", "TopicExists"), None)
    assert "grow from 3 to 6 partitions" in message(plan)
    assert "adoption: Always" in message(plan)


def test_adoption_always_changes_it_to_fit() -> None:
    plan = plan_topic(topic({"partitions": 6, "adoption": "Always"}), there(configs={"a": "b"}), ONE, NOW)
    assert plan.actions == (AddPartitions("orders", 6, 3), AlterConfigs("orders", {}, ("a",)))


def test_adoption_never_leaves_even_an_identical_one_alone() -> None:
    plan = plan_topic(topic({"adoption": "Never"}), there(), ONE, NOW)
    assert (plan.actions, ready(plan)) == ((), ("False", "TopicExists"))
    mine = plan_topic(topic({"adoption": "Never"}), there(), ONE, NOW, just_created=True)
    assert ready(mine) == ("True", "Ready")


def test_a_topic_that_somebody_made_anew_is_asked_about_again() -> None:
    desired = ours(topic({"partitions": 3}), there())
    anew = TopicView("orders", "id-2", there(1).partitions, there().configs)
    plan = plan_topic(desired, anew, ONE, NOW)
    assert (plan.actions, ready(plan), plan.status.topic_id) == ((), ("False", "TopicExists"), None)


def test_more_replicas_than_brokers_are_refused_in_words() -> None:
    plan = plan_topic(topic({"replicationFactor": 3}), None, ONE, NOW)
    assert (plan.actions, ready(plan)) == ((), ("False", "NotSupported"))
    assert message(plan) == "replicationFactor 3 needs as many brokers; the cluster has only broker 0"
    existing = plan_topic(ours(topic({"replicationFactor": 3}), there()), there(), ONE, NOW)
    assert (existing.actions, ready(existing)) == ((), ("False", "NotSupported"))


def test_health_names_the_worst_partition() -> None:
    partitions = (
        PartitionView(0, 0, (0, 1, 2), (0, 1, 2)),
        PartitionView(1, 1, (0, 1, 2), (1, 2)),
        PartitionView(2, 2, (0, 1, 2), (2,)),
    )
    plan = plan_topic(topic(), TopicView("orders", "id-1", partitions, {}), THREE, NOW)
    assert ready(plan) == ("True", "Ready")
    assert plan.status.in_sync == "6/9"
    assert plan.status.worst_partition == "orders-2: 1 of 3 replicas in sync, missing: 0, 1"
    condition = plan.status.condition("InSync")
    assert condition is not None
    assert (condition.status, condition.message) == ("False", "2 partitions have replicas that are not in sync")


def test_a_partition_without_a_leader_makes_it_not_ready() -> None:
    partitions = (PartitionView(0, None, (0,), ()), PartitionView(1, 0, (0,), (0,)))
    plan = plan_topic(topic(), TopicView("orders", "id-1", partitions, {}), ONE, NOW)
    assert (ready(plan), message(plan)) == (("False", "PartitionOffline"), "without a leader: orders-0")
    assert plan.status.worst_partition == "orders-0: no leader, 0 of 1 replicas in sync, missing: 0"


def test_the_older_of_two_resources_wins_and_the_other_says_so() -> None:
    older = topic(creationTimestamp="2026-01-01T00:00:00Z")
    newer = Topic.model_validate(
        {
            "metadata": {"name": "again", "creationTimestamp": "2026-01-02T00:00:00Z"},
            "spec": {"cluster": "q", "topicName": "orders", "deletionPolicy": "Delete"},
        }
    )
    rivals = rivals_of([newer, older])
    assert rivals == {("", "again"): "topic/orders"}
    plan = plan_topic(newer, there(), ONE, NOW, rival=rivals["", "again"])
    assert (plan.actions, ready(plan)) == ((), ("False", "ResourceConflict"))
    assert "topic/orders declares the topic orders already and is older" in message(plan)


def test_whoever_gives_way_can_never_delete_the_topic() -> None:
    """Two resources for one topic: the one that loses had taken the topic over before."""
    loser = ours(topic({"deletionPolicy": "Delete"}), there())
    told = plan_topic(loser, there(), ONE, NOW, rival="topic/other").status
    assert told.topic_id is None
    going = topic({"deletionPolicy": "Delete"}, deletionTimestamp="2026-01-03T00:00:00Z")
    plan = plan_topic(going.model_copy(update={"status": loser.status}), there(), ONE, NOW, rival="topic/other")
    assert (plan.actions, plan.release) == ((), True)
    staying = Topic.model_validate(
        {
            "metadata": {"name": "z", "creationTimestamp": "2026-01-09T00:00:00Z"},
            "spec": {"cluster": "q", "topicName": "orders"},
        }
    )
    assert rivals_of([going, staying]) == {("", "orders"): "topic/z"}


def test_deletion_keeps_the_topic_by_default() -> None:
    plan = plan_topic(ours(topic(deletionTimestamp="2026-01-01T00:00:00Z"), there()), there(), ONE, NOW)
    assert (plan.actions, plan.release) == ((), True)
    assert plan.parting_words == "the topic orders and its records stay (deletionPolicy Retain)"


def test_deletion_deletes_only_when_told_to_and_then_lets_go() -> None:
    desired = ours(topic({"deletionPolicy": "Delete"}), there())
    going = desired.model_copy(
        update={"metadata": desired.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})}
    )
    plan = plan_topic(going, there(), ONE, NOW)
    assert (plan.actions, plan.release) == ((DeleteTopic("orders", "id-1"),), False)
    gone = plan_topic(going, None, ONE, NOW)
    assert (gone.actions, gone.release) == ((), True)


def test_deletion_spares_a_topic_that_was_never_taken_over() -> None:
    going = topic({"deletionPolicy": "Delete"}, deletionTimestamp="2026-01-01T00:00:00Z")
    plan = plan_topic(going, there(), ONE, NOW)
    assert (plan.actions, plan.release) == ((), True)
    assert "never taken over" in plan.parting_words


def test_errors_become_reasons() -> None:
    unreachable = Failure("Unreachable", "cannot reach the brokers")
    plan = plan_topic(ours(topic(), there()), unreachable, unreachable, NOW)
    assert (plan.actions, ready(plan)) == ((), ("False", "Unreachable"))
    assert plan.status.partitions == 3, "what was known stays"
    refused = [Failure("InvalidConfig", "retention.ms: not a number", retriable=False)]
    plan = plan_topic(topic({"config": {"retention.ms": "x"}}), None, ONE, NOW, failures=refused)
    assert ready(plan) == ("False", "InvalidConfig")
    assert plan.status.condition("Stalled") is not None


def test_transition_times_change_only_with_the_truth() -> None:
    desired = ours(topic({"partitions": 3}), there())
    later = NOW + timedelta(minutes=5)
    other = plan_topic(desired.model_copy(update={"spec": topic({"partitions": 2}).spec}), there(), ONE, later)
    ready_now, in_sync = other.status.condition("Ready"), other.status.condition("InSync")
    assert ready_now is not None
    assert in_sync is not None
    assert ready_now.last_transition_time == "2026-01-01T00:05:00Z"
    assert in_sync.last_transition_time == "2026-01-01T00:00:00Z"
