"""The whole operator on a Kubernetes and a Kafka in memory: what it makes, reports, holds and lets go."""

from __future__ import annotations

from typing import Any

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.writing import FINALIZER
from broadsheet_operator.kafka.dependents import DEPENDENTS
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import Failure, LackingPartition, TopicPartition
from tests.operator.support import BROKERS, Stage, staged, status

TOPICS, GROUPS = DEPENDENTS


@staged
async def test_a_cluster_becomes_ready_with_its_children(stage: Stage) -> None:
    for kind, name in (
        (Kind.STATEFUL_SET, "news-brokers"), (Kind.SERVICE, "news-bootstrap"), (Kind.CONFIG_MAP, "news-config"),
        (Kind.DISRUPTION_BUDGET, "news-brokers"), (Kind.NETWORK_POLICY, "news-brokers"), (Kind.POD, "news-brokers-0"),
    ):  # fmt: skip
        assert stage.kubernetes.one(kind, name)
    status = stage.kubernetes.one(Kind.CLUSTER, "news")["status"]
    assert status["bootstrapServers"] == "news-bootstrap.paper.svc:9092"
    assert [b["state"] for b in status["brokers"]] == ["Running"]


@staged
async def test_a_topic_is_made_grown_and_said(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 3})
    body = await stage.reason(Kind.TOPIC, "orders", "Ready")
    assert body["status"]["partitions"] == 3
    assert stage.kafka.topics["orders"][0] == 3
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 6, "retention": {"time": "1h"}})
    body = await stage.reason(Kind.TOPIC, "orders", "Ready")
    assert stage.kafka.topics["orders"] == (6, {"retention.ms": "3600000"})
    await stage.until(lambda: stage.reasons_of("orders").count("Updated") == 2, "an event for each change")
    assert stage.reasons_of("orders").count("Created") == 1


@staged
async def test_a_second_look_writes_nothing(stage: Stage) -> None:
    for number in range(50):
        stage.apply("Topic", f"orders-{number}", {"cluster": "news", "partitions": 1})
    for number in range(50):
        await stage.reason(Kind.TOPIC, f"orders-{number}", "Ready")
    session = stage.operator.sessions[ResourceKey("paper", "news")]
    before = list(stage.kubernetes.writes)
    again = await stage.operator.dependents.round(
        TOPICS, session, [ResourceKey("paper", f"orders-{n}") for n in range(50)]
    )
    await stage.operator.clusters.reconcile([ResourceKey("paper", "news")])
    assert again == {}
    assert stage.kubernetes.writes == before


@staged
async def test_what_brokers_keep_is_no_reason_to_write_a_status_but_stands_in_the_metrics(stage: Stage) -> None:
    """Under load each look found other figures, and each Cluster's status was written every 15 seconds."""
    key = ResourceKey("paper", "news")
    await stage.until(lambda: status(stage)["brokers"][0].get("bytes") == 1000, "a first figure")
    writes = len(stage.kubernetes.writes)
    stage.kafka.bytes = 123_456
    stage.operator.clusters._rounds._sizes_seconds = 0.0
    await stage.operator.clusters.reconcile([key])
    assert {at: {id: s.size for id, s in kept.items()} for at, kept in stage.operator.clusters.storage().items()} == {
        key: {0: 123_456}
    }
    assert stage.kubernetes.writes[writes:] == []
    stage.kafka.lacking = [LackingPartition(TopicPartition("orders", 2), 0, (0, 1), (0,), 1)]
    await stage.operator.clusters.reconcile([key])
    assert status(stage)["underReplicatedPartitions"] == 1, "that is written at once"
    assert status(stage)["brokers"][0]["bytes"] == 123_456, "and the figures with it"


@staged
async def test_a_finalizer_is_held_only_while_something_is_to_be_deleted(stage: Stage) -> None:
    spec: dict[str, Any] = {"cluster": "news", "partitions": 1}
    stage.apply("Topic", "orders", spec)
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    assert "finalizers" not in stage.kubernetes.one(Kind.TOPIC, "orders")["metadata"]
    stage.apply("Topic", "orders", {**spec, "deletionPolicy": "Delete"})
    await stage.until(
        lambda: stage.kubernetes.one(Kind.TOPIC, "orders")["metadata"].get("finalizers") == [FINALIZER], "a finalizer"
    )
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    await stage.until(lambda: (Kind.TOPIC, "paper", "orders") not in stage.kubernetes.objects, "orders to be gone")
    assert "orders" not in stage.kafka.topics


@staged
async def test_what_a_deleted_resource_leaves_in_kafka_is_said(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    await stage.until(lambda: "Retained" in stage.reasons_of("orders"), "an event about the records that stay")
    note = next(note for name, reason, note in stage.kubernetes.events if (name, reason) == ("orders", "Retained"))
    assert note.startswith("the topic orders and its records stay in Kafka (deletionPolicy Retain)")
    assert "orders" in stage.kafka.topics


@staged
async def test_nothing_stays_of_a_topic_that_was_deleted_or_never_made(stage: Stage) -> None:
    for name, more in (("gone", {"deletionPolicy": "Delete"}), ("never", {"replicationFactor": 3})):
        stage.apply("Topic", name, {"cluster": "news", "partitions": 1, **more})
        await stage.until(lambda name=name: stage.reasons_of(name), "a first look")
        stage.kubernetes.remove(Kind.TOPIC, "paper", name)
    stage.apply("Topic", "later", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "later", "Ready")
    await stage.until(lambda: (Kind.TOPIC, "paper", "gone") not in stage.kubernetes.objects, "gone to be gone")
    assert "Retained" not in stage.reasons_of("gone") + stage.reasons_of("never")


@staged
async def test_a_namespace_that_goes_takes_its_topics_and_leaves_kafkas(stage: Stage) -> None:
    stage.namespace("paper")
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1, "deletionPolicy": "Delete"})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    stage.kafka.down = True
    stage.namespace("paper", going=True)
    stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    await stage.until(lambda: (Kind.TOPIC, "paper", "orders") not in stage.kubernetes.objects, "orders to be gone")
    assert "orders" in stage.kafka.topics
    await stage.until(lambda: stage.reasons_of("paper") == ["Orphaned"], "an event about what stays")


@staged
async def test_a_cluster_that_goes_releases_its_topics(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1, "deletionPolicy": "Delete"})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    stage.kubernetes.remove(Kind.CLUSTER, "paper", "news")
    await stage.reason(Kind.TOPIC, "orders", "ClusterNotFound")
    stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    await stage.until(lambda: (Kind.TOPIC, "paper", "orders") not in stage.kubernetes.objects, "orders to be gone")
    await stage.until(lambda: not stage.operator.sessions, "the connection to be closed")


@staged
async def test_a_deletion_waits_while_the_cluster_cannot_be_read(stage: Stage) -> None:
    """A Cluster with a mistake in it is not one that is gone: nothing may be left behind in its Kafka because of it."""
    spec = dict(stage.kubernetes.one(Kind.CLUSTER, "news")["spec"])
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1, "deletionPolicy": "Delete"})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    stage.apply("Cluster", "news", {**spec, "allowedNamespaces": 7})
    await stage.reason(Kind.CLUSTER, "news", "InvalidResource")
    stage.apply("Topic", "late", {"cluster": "news", "partitions": 1})
    body = await stage.reason(Kind.TOPIC, "late", "ClusterNotReady")
    assert any("not valid" in condition["message"] for condition in body["status"]["conditions"])
    stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    await stage.reason(Kind.TOPIC, "orders", "ClusterNotReady")
    stage.apply("Cluster", "news", spec)
    await stage.reason(Kind.TOPIC, "late", "Ready")
    await stage.until(lambda: (Kind.TOPIC, "paper", "orders") not in stage.kubernetes.objects, "orders to be gone")
    assert "orders" not in stage.kafka.topics


@staged
async def test_the_older_of_two_wins_and_the_other_takes_over(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    stage.apply("Topic", "rival", {"cluster": "news", "topicName": "orders", "partitions": 1})
    await stage.reason(Kind.TOPIC, "rival", "ResourceConflict")
    stage.kubernetes.remove(Kind.TOPIC, "paper", "orders")
    await stage.reason(Kind.TOPIC, "rival", "Ready")


@staged
async def test_other_namespaces_are_refused_without_leave(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "paper/news"}, "team-a")
    await stage.reason(Kind.TOPIC, "orders", "NamespaceNotAllowed", "team-a")
    assert stage.kafka.topics == {}
    allowed = [{"namespace": "team-a", "prefix": "o"}]
    stage.apply("Cluster", "news", {**BROKERS, "allowedNamespaces": allowed})
    await stage.reason(Kind.TOPIC, "orders", "Ready", "team-a")


@staged
async def test_a_static_change_restarts_the_broker_and_a_dynamic_one_does_not(stage: Stage) -> None:
    before = stage.kubernetes.one(Kind.POD, "news-brokers-0")["metadata"]["uid"]
    stage.apply("Cluster", "news", {**BROKERS, "config": {"log.retention.ms": "5"}})
    untouched = dict(stage.kafka.properties)
    altered = {**untouched, "log.retention.ms": "5"}
    await stage.until(lambda: stage.kafka.properties == altered, "the property to be altered")
    stage.apply("Cluster", "news", BROKERS)
    await stage.until(lambda: stage.kafka.properties == untouched, "the property to be taken back")
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    assert stage.kubernetes.one(Kind.POD, "news-brokers-0")["metadata"]["uid"] == before
    stage.apply("Cluster", "news", {**BROKERS, "config": {"log.roll.hours": "5"}})
    await stage.until(
        lambda: stage.kubernetes.one(Kind.POD, "news-brokers-0")["metadata"]["uid"] != before, "a restart"
    )
    await stage.until(lambda: stage.reasons_of("news").count("PodHasOldRevision") == 1, "an event about it")


@staged
async def test_a_property_that_kafka_refuses_is_said(stage: Stage) -> None:
    stage.kafka.refuses_properties = Failure("InvalidConfig", "log.retention.ms: no number", retriable=False)
    stage.apply("Cluster", "news", {**BROKERS, "config": {"log.retention.ms": "x"}})
    await stage.reason(Kind.CLUSTER, "news", "InvalidConfig")


@staged
async def test_a_property_that_no_broker_knows_is_said_once(stage: Stage) -> None:
    stage.apply("Cluster", "news", {**BROKERS, "config": {"log.retention.hour": "5", "log.roll.hours": 3}})
    await stage.until(lambda: "UnknownProperty" in stage.reasons_of("news"), "an event")
    body = await stage.reason(Kind.CLUSTER, "news", "Ready")
    said = next(c["message"] for c in body["status"]["conditions"] if c["type"] == "Ready")
    words = "brokers do not know and ignore log.retention.hour (did you mean log.retention.hours?)"
    assert said == f"1 broker takes requests; {words}"
    stage.apply("Cluster", "news", {**BROKERS, "config": {"log.retention.hours": "5"}})

    def corrected() -> bool:
        ready = stage.kubernetes.one(Kind.CLUSTER, "news")["status"]["conditions"][0]
        return bool(ready["message"] == "1 broker takes requests")

    await stage.until(corrected, "words without it")
    assert stage.reasons_of("news").count("UnknownProperty") == 1


@staged
async def test_a_pause_leaves_a_cluster_ready_for_what_was_carried_out_and_for_nothing_else(stage: Stage) -> None:
    """It was always Ready, whatever was changed with the pause: a sync was green for what nobody had done."""

    async def said(spec: dict[str, Any]) -> tuple[str, str, str]:
        stage.apply("Cluster", "news", spec)
        generation = stage.kubernetes.one(Kind.CLUSTER, "news")["metadata"]["generation"]
        await stage.until(lambda: status(stage)["observedGeneration"] == generation, "a look at it")
        found = {c["type"]: c for c in status(stage)["conditions"]}
        assert found["Paused"]["status"] == "True" and "Reconciling" not in found
        return found["Ready"]["status"], found["Ready"]["reason"], found["Ready"]["message"]

    paused = {**BROKERS, "paused": True}
    assert await said(paused) == ("True", "Ready", "1 broker takes requests")
    words = "changed, and not carried out while spec.paused is true: spec.image"
    assert await said({**paused, "image": "broker:2"}) == ("False", "Paused", words)
    assert (await said(paused))[0] == "True", "what was changed was changed back"
    writes = len(stage.kubernetes.writes)
    await stage.operator.clusters.reconcile([ResourceKey("paper", "news")])
    assert stage.kubernetes.writes[writes:] == []
    stage.apply("Cluster", "later", {**paused, "listeners": [{"name": "plain", "port": 9094}]})
    body = await stage.reason(Kind.CLUSTER, "later", "Paused")
    told = [(c["type"], c["status"], c["message"]) for c in body["status"]["conditions"]]
    words = "nothing is created while spec.paused is true"
    assert told == [("Ready", "False", words), ("Paused", "True", words)]


@staged
async def test_a_paused_cluster_changes_nothing(stage: Stage) -> None:
    stage.apply("Cluster", "news", {**BROKERS, "paused": True, "image": "broker:2"})
    await stage.until(
        lambda: any(c["type"] == "Paused" for c in stage.kubernetes.one(Kind.CLUSTER, "news")["status"]["conditions"]),
        "the condition Paused",
    )
    stage.apply("Topic", "orders", {"cluster": "news"})
    await stage.reason(Kind.TOPIC, "orders", "Paused")
    assert stage.kafka.topics == {}
    image = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["spec"]["template"]["spec"]["containers"][0][
        "image"
    ]
    assert image == "broker:1"
