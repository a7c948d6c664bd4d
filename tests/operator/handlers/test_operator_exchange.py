"""The operator exchanges the engine of a Cluster by stopping, on a Kubernetes and a Kafka in memory."""

from __future__ import annotations

from typing import Any

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.operator import Operator
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.exchange import Stored
from broadsheet_operator.reconcilers.exchange_state import ENGINE, PHASE
from broadsheet_operator.reconcilers.observed import LackingPartition, TopicPartition
from tests.operator.support import Stage, staged, status

BROKERS: dict[str, Any] = {"brokers": {"replicas": 3, "storage": {"size": "1Gi", "deletionPolicy": "Delete"}}}
APACHE: dict[str, Any] = {"engine": {"type": "apache-kafka", "version": "4.3.0", "exchange": "Stop"}}
OURS: dict[str, Any] = {"engine": {"exchange": "Stop"}}
CLOSED = {"maintenanceWindows": [{"schedule": "0 3 29 2 *", "duration": "1h"}]}
LATE = LackingPartition(TopicPartition("orders", 0), 0, (0, 1), (0,), 1)


def stateful_set(stage: Stage) -> dict[str, Any]:
    return stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")


def annotation(stage: Stage, name: str) -> str:
    return str(stateful_set(stage)["metadata"]["annotations"].get(name, ""))


def condition(stage: Stage, kind: str, of: Kind = Kind.CLUSTER, name: str = "news") -> dict[str, Any]:
    told = stage.kubernetes.one(of, name)["status"]["conditions"]
    return next((c for c in told if c["type"] == kind), {})


async def three(stage: Stage) -> None:
    """Three brokers with volumes, and a Topic."""
    stage.apply("Cluster", "news", BROKERS)
    for number in range(3):
        labels = {"broadsheet.io/cluster": "news"}
        metadata = {"name": f"data-news-brokers-{number}", "namespace": "paper", "labels": labels}
        spec = {"resources": {"requests": {"storage": "1Gi"}}}
        stage.kubernetes.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    await stage.until(
        lambda: status(stage).get("readyReplicas") == 3 and status(stage).get("voters") == [0, 1, 2], "three brokers"
    )
    await stage.until(lambda: not {"rollout", "scaling"} & status(stage).keys(), "the end of the growth")
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "orders", "Ready")


@staged
async def test_an_engine_is_exchanged_there_and_back(stage: Stage) -> None:
    await three(stage)
    assert annotation(stage, ENGINE) == "broadsheet"
    for spec, engine in ((APACHE, "apache-kafka 4.3.0"), (OURS, "broadsheet")):
        stage.apply("Cluster", "news", {**BROKERS, **spec})
        await stage.until(lambda engine=engine: annotation(stage, ENGINE) == engine, "the other engine")
        await stage.until(lambda: not annotation(stage, PHASE), "the end of the exchange")
        await stage.reason(Kind.CLUSTER, "news", "Ready")
        assert stateful_set(stage)["spec"]["replicas"] == 3
        assert stateful_set(stage)["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Delete"
        assert status(stage)["engine"] == engine and "exchange" not in status(stage)
    told = ["EngineStopping", "EngineStarting", "EngineExchanged"] * 2
    await stage.until(lambda: [r for r in stage.reasons_of("news") if r.startswith("Engine")] == told, "events")


@staged
async def test_a_cluster_that_waits_serves_and_says_for_what_it_waits(stage: Stage) -> None:
    await three(stage)
    before = stateful_set(stage)["spec"]
    stage.kafka.lacking = [LATE]
    stage.apply("Cluster", "news", {**BROKERS, **APACHE, **CLOSED})
    await stage.until(lambda: condition(stage, "Reconciling").get("reason") == "WaitingForMaintenanceWindow", "waits")
    assert condition(stage, "Ready")["status"] == "True"
    assert "waits for the maintenance window" in status(stage)["exchange"]
    assert not stage.operator.clusters.figures[ResourceKey("paper", "news")].rolling, "its alerts are not held back"
    stage.apply("Cluster", "news", {**BROKERS, **APACHE})
    await stage.until(lambda: "broker 1 is in the ISR of orders-0" in status(stage).get("exchange", ""), "the ISR")
    assert stateful_set(stage)["spec"] == before and not annotation(stage, PHASE)
    await stage.until(lambda: stage.reasons_of("news").count("ExchangeWaits") == 2, "an event of each wait")
    stage.kafka.lacking = []
    await stage.until(lambda: annotation(stage, ENGINE) == "apache-kafka 4.3.0", "the other engine")


@staged
async def test_what_is_refused_changes_nothing_and_says_what_is_allowed(stage: Stage) -> None:
    await three(stage)
    stage.kafka.stored = Stored(features={"metadata.version": 33})
    before = stateful_set(stage)["spec"]
    stage.apply("Cluster", "news", {**BROKERS, **APACHE, "config": {"num.io.threads": "3"}})
    await stage.reason(Kind.CLUSTER, "news", "NotSupported")
    words = condition(stage, "Stalled")["message"]
    assert "Apache Kafka 4.3.0 cannot take over from Broadsheet: metadata.version is finalized at 4.4-IV2" in words
    assert words.endswith("or set engine.type back")
    stage.apply("Cluster", "news", {**BROKERS, "engine": {"type": "apache-kafka", "version": "4.3.0"}})
    await stage.until(lambda: "engine.exchange: Stop" in condition(stage, "Stalled").get("message", ""), "how")
    assert stateful_set(stage)["spec"] == before
    stage.apply("Cluster", "news", BROKERS)
    await stage.reason(Kind.CLUSTER, "news", "Ready")


@staged
async def test_topics_of_a_stopped_cluster_stay_as_they_are(stage: Stage) -> None:
    await three(stage)
    stage.kubernetes.pods_ready = False
    stage.apply("Cluster", "news", {**BROKERS, **APACHE})
    await stage.reason(Kind.CLUSTER, "news", "ExchangingEngine")
    assert condition(stage, "Reconciling")["status"] == "True"
    assert stage.operator.clusters.figures[ResourceKey("paper", "news")].rolling
    stage.apply("Topic", "late", {"cluster": "news", "partitions": 1})
    await stage.reason(Kind.TOPIC, "late", "ClusterNotReady")
    await stage.until(
        lambda: "exchange of the engine" in condition(stage, "Ready", Kind.TOPIC, "orders")["message"], "words"
    )
    assert condition(stage, "Ready", Kind.TOPIC, "orders")["status"] == "True"
    become_ready(stage)
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    await stage.reason(Kind.TOPIC, "late", "Ready")
    await stage.until(
        lambda: "exchange" not in condition(stage, "Ready", Kind.TOPIC, "orders").get("message", ""), "as it is now"
    )


@staged
async def test_an_operator_that_is_new_goes_on_and_a_pause_holds(stage: Stage) -> None:
    await three(stage)
    stage.kubernetes.pods_ready = False
    stage.apply("Cluster", "news", {**BROKERS, **APACHE})
    await stage.until(lambda: annotation(stage, PHASE) == "Starting", "the start of the other engine")
    await stage.operator.close()
    for key, body in list(stage.kubernetes.objects.items()):
        if key[0] is Kind.STATEFUL_SET:
            asked = {**body["metadata"], "annotations": {**body["metadata"]["annotations"], PHASE: "Stopping"}}
            stage.kubernetes.put({**body, "metadata": asked, "spec": {**body["spec"], "replicas": 0}})
    stage.operator = Operator(stage.kubernetes, stage.settings, stage._connect, stage.timing, stage.kinds)
    stage.kubernetes.watch = stage.operator.observe
    stage.apply("Cluster", "news", {**BROKERS, **APACHE, "paused": True})
    for (kind, _, _), body in list(stage.kubernetes.objects.items()):
        stage.operator.observe(kind, None, body)
    await stage.reason(Kind.CLUSTER, "news", "Paused")
    assert "the brokers are stopped for an exchange of the engine" in condition(stage, "Ready")["message"]
    assert stateful_set(stage)["spec"]["replicas"] == 0
    stage.apply("Cluster", "news", {**BROKERS, **APACHE})
    await stage.until(lambda: stateful_set(stage)["spec"]["replicas"] == 3, "brokers again")
    become_ready(stage)
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    assert annotation(stage, ENGINE) == "apache-kafka 4.3.0"


@staged
async def test_the_other_engine_starts_when_the_controller_has_seen_that_no_broker_is_to_run(stage: Stage) -> None:
    await three(stage)
    stage.kubernetes.controller_sees = False
    stage.apply("Cluster", "news", {**BROKERS, **APACHE})
    await stage.until(lambda: "controller has seen" in status(stage).get("exchange", ""), "the wait")
    assert annotation(stage, PHASE) == "Stopping" and annotation(stage, ENGINE) == "broadsheet"
    stage.kubernetes.controller_sees = True
    stage.kubernetes.put(stateful_set(stage))
    await stage.until(lambda: annotation(stage, ENGINE) == "apache-kafka 4.3.0", "the other engine")
    await stage.reason(Kind.CLUSTER, "news", "Ready")


@staged
async def test_an_image_that_was_left_as_it_was_stops_no_broker(stage: Stage) -> None:
    await three(stage)
    stage.apply("Cluster", "news", {**BROKERS, "image": "registry.example/mine:1"})
    await stage.until(lambda: "mine" in str(stateful_set(stage)["spec"]["template"]), "the image")
    await stage.until(lambda: status(stage).get("rollout") is None and status(stage)["readyReplicas"] == 3, "the roll")
    stage.apply("Cluster", "news", {**BROKERS, **APACHE, "image": "registry.example/mine:1"})
    await stage.reason(Kind.CLUSTER, "news", "NotSupported")
    assert "registry.example/mine:1 is the image of Broadsheet: leave it out" in condition(stage, "Stalled")["message"]
    assert not annotation(stage, PHASE) and stateful_set(stage)["spec"]["replicas"] == 3


@staged
async def test_a_cluster_that_does_not_start_gets_the_other_engine(stage: Stage) -> None:
    await three(stage)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}
    containers = [{"name": "kafka", "state": {"waiting": waiting}}]
    for (kind, _, name), body in list(stage.kubernetes.objects.items()):
        if kind is Kind.POD and name.startswith("news-brokers-"):
            stage.kubernetes.put({**body, "status": {"containerStatuses": containers}})
    stage.kafka.down = True
    await stage.reason(Kind.CLUSTER, "news", "BrokerDown")
    stage.apply("Cluster", "news", {**BROKERS, **APACHE})
    await stage.until(lambda: annotation(stage, ENGINE) == "apache-kafka 4.3.0", "the other engine")
    stage.kafka.down = False
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    await stage.until(lambda: not annotation(stage, PHASE), "the end of the exchange")


def become_ready(stage: Stage) -> None:
    """Every broker that has a pod runs."""
    stage.kubernetes.pods_ready = True
    for (kind, _, name), body in list(stage.kubernetes.objects.items()):
        if kind is Kind.POD and name.startswith("news-brokers-"):
            stage.kubernetes.put({**body, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
