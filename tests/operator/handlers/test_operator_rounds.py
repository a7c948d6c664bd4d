"""The whole operator on a Kubernetes and a Kafka in memory: what it makes, says, holds and lets go."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers import clusters, dependents
from broadsheet_operator.handlers.ownership import OPERATOR
from broadsheet_operator.handlers.writing import FINALIZER
from broadsheet_operator.kafka.dependents import DEPENDENTS
from broadsheet_operator.kubernetes import Kind, KubernetesError
from broadsheet_operator.reconcilers.limits import LIMITED
from broadsheet_operator.reconcilers.observed import Failure, LackingPartition, TopicPartition
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, QUORUM, Settings
from broadsheet_operator.reconcilers.scaling import DRAINING, REBALANCE
from broadsheet_operator.settings import OperatorSettings
from tests.operator.support import Stage, merged

TOPICS, GROUPS = DEPENDENTS
BROKERS = {"brokers": {"replicas": 1, "storage": {"size": "1Gi"}}}


def staged(test: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine with an operator on both fakes, and a Cluster `news` that is Ready."""

    async def scene() -> None:
        async with asyncio.timeout(30):
            async with Stage() as stage:
                stage.apply("Cluster", "news", BROKERS)
                await stage.reason(Kind.CLUSTER, "news", "Ready")
                await test(stage)

    def run() -> None:
        asyncio.run(scene())

    functools.update_wrapper(run, test)
    del run.__wrapped__  # type: ignore[attr-defined] - pytest would take its argument for a fixture
    return run


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
    assert stage.operator.clusters.sizes() == {key: {0: 123_456}}
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


def grown(replicas: int) -> dict[str, object]:
    return {"brokers": {"replicas": replicas, "storage": {"size": "1Gi"}}}


async def three(stage: Stage) -> None:
    """The Cluster grows to three brokers."""
    stage.apply("Cluster", "news", grown(3))
    await stage.until(lambda: sorted(stage.kafka.voters) == [0, 1, 2], "three voters")
    await stage.until(lambda: not status(stage).get("scaling") and not status(stage).get("rollout"), "an end")
    await stage.reason(Kind.CLUSTER, "news", "Ready")


def status(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.kubernetes.one(Kind.CLUSTER, "news")["status"]
    return found


@staged
async def test_a_cluster_grows_its_quorum_with_it(stage: Stage) -> None:
    await stage.until(
        lambda: (
            "broadsheet.io/quorum" in stage.kubernetes.one(Kind.CONFIG_MAP, "news-config")["metadata"]["annotations"]
        ),
        "the quorum to be remembered",
    )
    await three(stage)
    assert status(stage)["voters"] == [0, 1, 2]
    assert [b["rack"] for b in status(stage)["brokers"]] == ["zone-0", "zone-1", "zone-2"]
    assert [b["bytes"] for b in status(stage)["brokers"]] == [1000, 1000, 1000]
    text = stage.kubernetes.one(Kind.CONFIG_MAP, "news-config")["data"]["server.properties"]
    assert "broadsheet.initial.controllers" not in text


@staged
async def test_a_cluster_shrinks_when_its_brokers_are_drained(stage: Stage) -> None:
    await three(stage)
    orders = [TopicPartition("orders", n) for n in range(2)]
    stage.kafka.placement = {orders[0]: (2,), orders[1]: (0,)}
    stage.apply("Cluster", "news", grown(1))
    await stage.until(lambda: stage.kafka.brokers == [0], "two brokers to have left")
    assert stage.kafka.placement == {orders[0]: (0,), orders[1]: (0,)}
    assert stage.kafka.voters == [0]
    stateful_set = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")
    assert stateful_set["spec"]["replicas"] == 1
    await stage.until(lambda: not status(stage).get("scaling"), "an end")
    stateful_set = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")
    assert DRAINING not in stateful_set["metadata"].get("annotations", {})
    assert stage.reasons_of("news").count("BrokerLeft") == 2
    assert (stage.kafka.limits_set, stage.kafka.limited) == (1, {}), "limited while it lasted, and no longer"
    assert LIMITED not in stateful_set["metadata"].get("annotations", {})


@staged
async def test_a_drain_is_not_forgotten_while_nobody_can_look(stage: Stage) -> None:
    """A paused round took the annotation away, and setting the number back then took no move back."""
    await three(stage)
    body = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")
    stage.kubernetes.put(merged(body, {"metadata": {"annotations": {DRAINING: "2"}}}))
    for image in ("broker:2", "broker:3"):
        stage.apply("Cluster", "news", {**grown(3), "paused": True, "image": image})
        generation = stage.kubernetes.one(Kind.CLUSTER, "news")["metadata"]["generation"]
        await stage.until(lambda wanted=generation: status(stage)["observedGeneration"] == wanted, "a round")
    annotations = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["metadata"]["annotations"]
    assert annotations[DRAINING] == "2"


@staged
async def test_brokers_that_a_topic_needs_do_not_leave(stage: Stage) -> None:
    await three(stage)
    stage.kafka.placement = {TopicPartition("orders", 0): (0, 1, 2)}
    stage.apply("Cluster", "news", grown(1))
    body = await stage.reason(Kind.CLUSTER, "news", "NotSupported")
    said = next(c["message"] for c in body["status"]["conditions"] if c["type"] == "Ready")
    assert said.startswith("orders has replication factor 3, and 1 broker would remain")
    assert sorted(stage.kafka.voters) == [0, 1, 2]
    writes = len(stage.kubernetes.writes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "utc_now", lambda: dependents.utc_now() + timedelta(seconds=5))
        await stage.operator.clusters.reconcile([ResourceKey("paper", "news")])
    assert stage.kubernetes.writes[writes:] == [], "it was written every second, with another time of the transition"
    stage.apply("Cluster", "news", grown(3))
    await stage.reason(Kind.CLUSTER, "news", "Ready")


@staged
async def test_a_cluster_of_two_that_lost_its_only_vote_says_so_and_what_can_be_done(stage: Stage) -> None:
    """It waited without a word: nobody saw a quorum, and nothing said that none could come."""
    for number in range(2):
        metadata = {"name": f"data-news-brokers-{number}", "namespace": "paper", "labels": {CLUSTER_LABEL: "news"}}
        spec = {"resources": {"requests": {"storage": "1Gi"}}}
        stage.kubernetes.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    stage.apply("Cluster", "news", grown(2))
    await stage.until(lambda: len(stage.kafka.brokers) == 2, "two brokers")
    claim = stage.kubernetes.one(Kind.VOLUME_CLAIM, "data-news-brokers-0")
    await stage.until(lambda: QUORUM in str(stage.kubernetes.one(Kind.VOLUME_CLAIM, "data-news-brokers-0")), "a mark")
    stage.kubernetes.put({**claim, "metadata": {k: v for k, v in claim["metadata"].items() if k != "annotations"}})
    stage.kafka.quorum_lost = True
    body = await stage.reason(Kind.CLUSTER, "news", "QuorumLost")
    said = next(c["message"] for c in body["status"]["conditions"] if c["type"] == "Stalled")
    assert said.startswith(
        "broker 0 came back with an empty volume, and the only vote of the metadata quorum went with"
    )
    assert "put the old volume back from a snapshot (data-news-brokers-0, while" in said
    assert status(stage)["voters"] == [0]
    await stage.until(lambda: "QuorumLost" in stage.reasons_of("news"), "an event")
    stage.kafka.quorum_lost = False
    await stage.reason(Kind.CLUSTER, "news", "Ready")


@staged
async def test_partitions_are_spread_when_somebody_asks(stage: Stage) -> None:
    orders = [TopicPartition("orders", n) for n in range(3)]
    stage.kafka.placement = dict.fromkeys(orders, (0,))
    await three(stage)
    assert set(stage.kafka.placement.values()) == {(0,)}, "nobody has asked"
    body = stage.kubernetes.one(Kind.CLUSTER, "news")
    stage.kubernetes.put(merged(body, {"metadata": {"annotations": {REBALANCE: "now"}}}))
    await stage.until(lambda: "Rebalanced" in stage.reasons_of("news"), "an end")
    assert sorted(stage.kafka.placement.values()) == [(0,), (1,), (2,)]
    assert (stage.kafka.limits_set, stage.kafka.limited) == (1, {})
    assert REBALANCE not in stage.kubernetes.one(Kind.CLUSTER, "news")["metadata"]["annotations"]


@staged
async def test_a_rollout_waits_for_a_partition_and_says_which(stage: Stage) -> None:
    await three(stage)
    lacking = LackingPartition(TopicPartition("orders", 2), 0, (0, 1, 2), (0, 1), 2)
    stage.kafka.lacking = [lacking]
    before = {n: stage.kubernetes.one(Kind.POD, f"news-brokers-{n}")["metadata"]["uid"] for n in range(3)}
    stage.apply("Cluster", "news", {**grown(3), "image": "broker:2"})
    await stage.until(lambda: "RolloutWaits" in stage.reasons_of("news"), "an event")

    def restarted() -> list[int]:
        pods = {n: stage.kubernetes.objects.get((Kind.POD, "paper", f"news-brokers-{n}")) for n in range(3)}
        return [n for n, pod in pods.items() if pod and pod["metadata"]["uid"] != before[n]]

    words = "broker 2 is not back in the ISR of orders-2 yet"
    await stage.until(lambda: status(stage).get("rollout", "").startswith(words), "words about broker 2")
    assert restarted() == [2], "it was not in sync before either, so its stop hurt nobody"
    stage.kafka.lacking = [LackingPartition(TopicPartition("orders", 2), 0, (0, 1, 3), (0, 1), 2)]
    words = "broker 1 waits: orders-2 would fall below min ISR"
    await stage.until(lambda: status(stage).get("rollout", "").startswith(words), "words about broker 1")
    assert restarted() == [2]
    budget = stage.kubernetes.one(Kind.DISRUPTION_BUDGET, "news-brokers")
    assert budget["spec"]["maxUnavailable"] == 0
    stage.kafka.lacking = []
    await stage.until(lambda: restarted() == [0, 1, 2], "every broker to be restarted")
    await stage.until(
        lambda: stage.kubernetes.one(Kind.DISRUPTION_BUDGET, "news-brokers")["spec"]["maxUnavailable"] == 1, "a budget"
    )


@staged
async def test_volumes_go_with_the_cluster_only_when_asked(stage: Stage) -> None:
    def volume() -> None:
        metadata = {"name": "data-news-brokers-0", "namespace": "paper", "labels": {"broadsheet.io/cluster": "news"}}
        spec = {"resources": {"requests": {"storage": "1Gi"}}}
        stage.kubernetes.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})

    volume()
    delete = {"brokers": {"replicas": 1, "storage": {"size": "1Gi", "deletionPolicy": "Delete"}}}
    stage.apply("Cluster", "news", delete)
    await stage.until(
        lambda: stage.kubernetes.one(Kind.CLUSTER, "news")["metadata"].get("finalizers") == [FINALIZER], "a finalizer"
    )
    stage.kubernetes.remove(Kind.CLUSTER, "paper", "news")
    await stage.until(lambda: (Kind.CLUSTER, "paper", "news") not in stage.kubernetes.objects, "news to be gone")
    assert (Kind.VOLUME_CLAIM, "paper", "data-news-brokers-0") not in stage.kubernetes.objects


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
