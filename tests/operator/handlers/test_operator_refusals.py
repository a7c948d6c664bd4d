"""The whole operator in memory: what is refused, comes in a bad order or changes without an event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.ownership import OPERATOR
from broadsheet_operator.kafka.dependents import DEPENDENTS
from broadsheet_operator.kubernetes import Kind, KubernetesError
from broadsheet_operator.reconcilers.observed import TopicPartition
from broadsheet_operator.reconcilers.provisioning import QUORUM, Settings
from broadsheet_operator.settings import OperatorSettings
from tests.operator.support import BROKERS, Stage, merged, staged

TOPICS, GROUPS = DEPENDENTS


@staged
async def test_writes_that_fail_are_tried_again(stage: Stage) -> None:
    refused = []

    def refuse_twice(verb: str, kind: Kind, name: str) -> KubernetesError | None:
        if verb == "status" and kind is Kind.TOPIC and len(refused) < 2:
            refused.append(name)
            return KubernetesError(500, "InternalError", "not now")
        return None

    stage.kubernetes.refuse = refuse_twice
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    assert len(refused) == 2


@staged
async def test_what_the_schema_lets_through_and_the_model_does_not_is_said(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1, "topicName": ".."})
    body = await stage.reason(Kind.TOPIC, "orders", "InvalidResource")
    assert any("itself" in c["message"] for c in body["status"]["conditions"])


@staged
async def test_a_group_that_does_not_exist_is_no_error_loop(stage: Stage) -> None:
    stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
    await stage.reason(Kind.CONSUMER_GROUP, "readers", "GroupNotFound")
    before = list(stage.kubernetes.writes)
    session = stage.operator.sessions[ResourceKey("paper", "news")]
    again = await stage.operator.dependents.round(GROUPS, session, [ResourceKey("paper", "readers")])
    assert all(delay is not None and delay >= 1 for delay in again.values()), "looked at again, not as a failure"
    assert stage.kubernetes.writes == before


@staged
async def test_a_new_operator_goes_on_where_the_old_one_was(stage: Stage) -> None:
    """It sees everything anew; what is done already is not done or said again."""
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 2})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    await stage.operator.close()
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 4})
    writes, events = len(stage.kubernetes.writes), len(stage.kubernetes.events)
    async with stage:
        for (kind, _, _), body in list(stage.kubernetes.objects.items()):
            stage.operator.observe(kind, None, body)
        await stage.reason(Kind.TOPIC, "orders", "Ready")
    assert stage.kafka.topics["orders"][0] == 4
    assert [reason for _, reason, _ in stage.kubernetes.events[events:]] == ["Updated"]
    # One status, or two if the Topic was looked at before the Cluster was seen.
    assert {verb for verb, _, _ in stage.kubernetes.writes[writes:]} == {"status"}


@staged
async def test_a_newer_operator_that_sees_a_cluster_before_its_children_restarts_nothing(stage: Stage) -> None:
    before = stage.kubernetes.one(Kind.POD, "news-brokers-0")["metadata"]["uid"]
    template = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["spec"]["template"]
    await stage.operator.close()
    stage.settings = Settings(image="broker:2")
    writes = len(stage.kubernetes.writes)
    async with stage:
        stage.operator.observe(Kind.CLUSTER, None, stage.kubernetes.one(Kind.CLUSTER, "news"))
        key = ResourceKey("paper", "news")
        assert await stage.operator.clusters.reconcile([key]) == {key: stage.timing.cluster_ready_seconds}
    assert stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["spec"]["template"] == template
    assert stage.kubernetes.one(Kind.POD, "news-brokers-0")["metadata"]["uid"] == before
    assert all(verb == "apply" for verb, _, _ in stage.kubernetes.writes[writes:])


def test_a_resync_reverts_drift() -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), Stage(OperatorSettings(resync_seconds=0.05)) as stage:
            stage.apply("Cluster", "news", BROKERS)
            stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1, "config": {"retention.ms": 5}})
            await stage.reason(Kind.TOPIC, "orders", "Ready")
            stage.kafka.topics["orders"] = (1, {"retention.ms": "6"})
            await stage.until(lambda: stage.kafka.topics["orders"][1] == {"retention.ms": "5"}, "drift to be reverted")

    asyncio.run(scene())


@staged
async def test_a_finalizer_that_is_refused_is_said_and_stops_no_other_topic(stage: Stage) -> None:
    def refuse(verb: str, kind: Kind, name: str) -> KubernetesError | None:
        refused = verb == "patch" and name == "guarded"
        return KubernetesError(403, "Forbidden", "a policy forbids finalizers") if refused else None

    stage.kubernetes.refuse = refuse
    stage.apply("Topic", "guarded", {"cluster": "news", "partitions": 1, "deletionPolicy": "Delete"})
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    guarded = await stage.reason(Kind.TOPIC, "guarded", "RefusedByKubernetes")
    stalled = {c["type"]: c["message"] for c in guarded["status"]["conditions"]}["Stalled"]
    assert stalled == "a policy forbids finalizers"
    assert "guarded" not in stage.kafka.topics, "nothing is made that a deletion could not undo"


@staged
async def test_a_topic_that_is_listed_before_its_cluster_is_deleted_in_kafka_nevertheless(stage: Stage) -> None:
    """A new leader that heard of the Topic first took its Cluster for gone, and the topic stayed in Kafka."""
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1, "deletionPolicy": "Delete"})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    await stage.operator.close()
    stage.kubernetes.watch = lambda kind, event, body: None
    assert stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    async with stage:
        stage.operator.observe(Kind.TOPIC, None, stage.kubernetes.one(Kind.TOPIC, "orders"))
        await stage.until(lambda: (Kind.TOPIC, "paper", "orders") not in stage.kubernetes.objects, "it to go")
    assert "orders" not in stage.kafka.topics
    assert "Orphaned" not in stage.reasons_of("orders")


@staged
async def test_a_topic_that_is_listed_before_its_namespace_stays_when_the_namespace_goes(stage: Stage) -> None:
    stage.namespace("paper")
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1, "deletionPolicy": "Delete"})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    await stage.operator.close()
    stage.kubernetes.watch = lambda kind, event, body: None
    stage.namespace("paper", going=True)
    assert stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    async with stage:
        stage.operator.observe(Kind.TOPIC, None, stage.kubernetes.one(Kind.TOPIC, "orders"))
        await stage.until(lambda: (Kind.TOPIC, "paper", "orders") not in stage.kubernetes.objects, "it to go")
    assert "orders" in stage.kafka.topics, "the whole namespace is being deleted"


QUICK = OperatorSettings(resync_seconds=3600.0, cluster_ready_seconds=0.2, cluster_unready_seconds=0.05)


@pytest.mark.parametrize(
    ("verb", "kind", "spec", "says"),
    [
        ("delete", Kind.POD, {**BROKERS, "image": "broker:7"}, "restart: a policy forbids it"),
        ("patch", Kind.CONFIG_MAP, {**BROKERS, "config": {"log.retention.ms": 5}}, "a policy forbids it"),
        ("apply", Kind.SERVICE, {**BROKERS, "listeners": [{"name": "plain", "port": 9095}]}, "Service news-"),
        ("apply", Kind.DISRUPTION_BUDGET, {**BROKERS, "podDisruptionBudget": {"maxUnavailable": 0}}, "Budget news-"),
    ],
)
def test_every_call_that_is_refused_is_said_and_stops_no_other(
    verb: str, kind: Kind, spec: dict[str, Any], says: str
) -> None:
    def refuse(asked: str, what: Kind, name: str) -> KubernetesError | None:
        refused = (asked, what) == (verb, kind)
        return KubernetesError(403, "Forbidden", "a policy forbids it") if refused else None

    async def scene() -> None:
        async with asyncio.timeout(30), Stage(QUICK) as stage:
            stage.apply("Cluster", "news", BROKERS)
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            stage.kubernetes.refuse = refuse
            if kind is Kind.CONFIG_MAP:  # as it was before a quorum was seen
                config = stage.kubernetes.one(Kind.CONFIG_MAP, "news-config")
                stage.kubernetes.put(merged(config, {"metadata": {"annotations": {QUORUM: None}}}))
            stage.apply("Cluster", "news", {**spec, "config": {**spec.get("config", {}), "num.io.threads": "4"}})
            body = await stage.reason(Kind.CLUSTER, "news", "RefusedByKubernetes")
            stalled = {c["type"]: c["message"] for c in body["status"]["conditions"]}["Stalled"]
            assert says in stalled
            await stage.until(lambda: stage.kafka.properties.get("num.io.threads") == "4", "the rest of the change")
            stage.kubernetes.refuse = lambda asked, what, name: None
            stage.apply("Cluster", "news", {**spec, "paused": False})
            await stage.until(lambda: stage.kubernetes.reason(Kind.CLUSTER, "news") == "Ready", "it to heal", 20)

    asyncio.run(scene())


PERIODS = (
    "resync_seconds",
    "held_seconds",
    "unfinished_seconds",
    "out_of_sync_seconds",
    "absent_group_seconds",
    "group_seconds",
    "cluster_ready_seconds",
)
MORE_REPLICAS = {"cluster": "news", "partitions": 1, "replicationFactor": 2, "adoption": "Always"}


@pytest.mark.parametrize(
    ("period", "kind", "spec"),
    [
        ("held_seconds", "Topic", MORE_REPLICAS),
        ("unfinished_seconds", "Topic", MORE_REPLICAS),
        ("out_of_sync_seconds", "Topic", {"cluster": "news", "partitions": 1, "adoption": "Always"}),
        ("absent_group_seconds", "ConsumerGroup", {"cluster": "news"}),
        ("group_seconds", "ConsumerGroup", {"cluster": "news", "groupId": "there"}),
        ("cluster_ready_seconds", "Cluster", BROKERS),
    ],
)
def test_what_changes_without_an_event_is_looked_at_again(period: str, kind: str, spec: dict[str, Any]) -> None:
    """The premise of each period, while every other one is longer than this test."""
    closed = [{"schedule": "0 3 29 2 *", "duration": "1m"}] if period == "held_seconds" else []
    timing = OperatorSettings(**{**dict.fromkeys(PERIODS, 900.0), period: 0.02})
    what = {"Topic": "topics", "ConsumerGroup": "groups", "Cluster": "cluster"}[kind]

    async def scene() -> None:
        async with asyncio.timeout(30), Stage(timing) as stage:
            stage.kafka.put_group("there", {TopicPartition("orders", 0): 3}, 5)
            stage.kafka.topics["one"] = (1, {})
            if period == "out_of_sync_seconds":
                stage.kafka.out_of_sync.add("one")
            two = {"brokers": {"replicas": 2, "storage": {"size": "1Gi"}}}
            stage.apply("Cluster", "news", {**two, "maintenanceWindows": closed})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            if kind != "Cluster":
                stage.apply(kind, "one", spec)
            await stage.until(lambda: stage.kafka.calls.count(what) >= 5, "look after look")

    asyncio.run(scene())


@staged
async def test_what_waits_for_a_cluster_to_be_this_operators_goes_on_when_the_watch_reports_it(stage: Stage) -> None:
    """An older version of the Cluster, reported after the claim, let a Topic wait until the next resync."""
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    cluster = stage.kubernetes.one(Kind.CLUSTER, "news")
    looks = stage.kafka.calls.count("topics")
    stage.operator.observe(Kind.CLUSTER, "MODIFIED", merged(cluster, {"metadata": {"annotations": {OPERATOR: "a/b"}}}))
    await stage.until(lambda: stage.kafka.calls.count("topics") > looks, "another look at its Topics")
