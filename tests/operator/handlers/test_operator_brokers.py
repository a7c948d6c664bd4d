"""The whole operator on a Kubernetes and a Kafka in memory: brokers that are added, drained, restarted and lost."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers import clusters, dependents
from broadsheet_operator.handlers.writing import FINALIZER
from broadsheet_operator.kafka.dependents import DEPENDENTS
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.limits import LIMITED
from broadsheet_operator.reconcilers.observed import LackingPartition, TopicPartition
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, QUORUM, RESTART
from broadsheet_operator.reconcilers.scaling import DRAINING, REBALANCE, REBALANCED, REBALANCING
from tests.operator.support import Stage, merged, staged, status

TOPICS, GROUPS = DEPENDENTS


def grown(replicas: int) -> dict[str, object]:
    return {"brokers": {"replicas": replicas, "storage": {"size": "1Gi"}}}


async def three(stage: Stage) -> None:
    """The Cluster grows to three brokers."""
    stage.apply("Cluster", "news", grown(3))
    await stage.until(lambda: sorted(stage.kafka.voters) == [0, 1, 2], "three voters")
    await stage.until(lambda: not status(stage).get("scaling") and not status(stage).get("rollout"), "an end")
    await stage.reason(Kind.CLUSTER, "news", "Ready")


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
    assert stage.kubernetes.one(Kind.CLUSTER, "news")["metadata"]["annotations"][REBALANCE] == "now", "Git may have it"
    stage.kafka.placement = dict.fromkeys(orders, (0,))
    looks = stage.kafka.calls.count("cluster")
    stage.kubernetes.put(merged(stage.kubernetes.one(Kind.CLUSTER, "news"), {"metadata": {"labels": {"a": "b"}}}))
    await stage.until(lambda: stage.kafka.calls.count("cluster") > looks, "another look")
    assert set(stage.kafka.placement.values()) == {(0,)}, "once for each value"
    body = stage.kubernetes.one(Kind.CLUSTER, "news")
    stage.kubernetes.put(merged(body, {"metadata": {"annotations": {REBALANCE: "again"}}}))
    await stage.until(lambda: stage.reasons_of("news").count("Rebalanced") == 2, "another one")


@staged
async def test_a_rebalance_that_has_begun_is_finished_when_nothing_asks_for_it_any_more(stage: Stage) -> None:
    """Flux removes what `kubectl annotate` has added, and the partitions were left where they were just then."""
    orders = [TopicPartition("orders", n) for n in range(60)]
    stage.kafka.placement = dict.fromkeys(orders, (0,))
    await three(stage)
    asked = {"metadata": {"annotations": {REBALANCE: "now"}}}
    stage.kubernetes.put(merged(stage.kubernetes.one(Kind.CLUSTER, "news"), asked))

    def remembered() -> dict[str, str]:
        found = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["metadata"]["annotations"]
        return {name: found[name] for name in (REBALANCING, REBALANCED) if name in found}

    await stage.until(lambda: REBALANCING in remembered(), "the begin")
    removed = {"metadata": {"annotations": {REBALANCE: None}}}
    stage.kubernetes.put(merged(stage.kubernetes.one(Kind.CLUSTER, "news"), removed))
    assert "Rebalanced" not in stage.reasons_of("news"), "it is not over yet"
    await stage.until(lambda: "Rebalanced" in stage.reasons_of("news"), "an end")
    assert sorted(Counter(stage.kafka.placement.values()).values()) == [20, 20, 20]
    await stage.until(lambda: remembered() == {REBALANCED: "now"}, "it to be forgotten")


@staged
async def test_brokers_are_restarted_one_by_one_once_for_each_value_of_the_annotation(stage: Stage) -> None:
    await three(stage)
    first = {name: stage.kubernetes.one(Kind.POD, name)["metadata"]["uid"] for name in pods()}

    def ask(value: str | None) -> None:
        body = stage.kubernetes.one(Kind.CLUSTER, "news")
        stage.kubernetes.put(merged(body, {"metadata": {"annotations": {RESTART: value}}}))

    def others(than: dict[str, str]) -> bool:
        now = {name: stage.kubernetes.objects.get((Kind.POD, "paper", name)) for name in pods()}
        settled = not status(stage).get("rollout")
        return settled and all(pod is not None and pod["metadata"]["uid"] != than[name] for name, pod in now.items())

    ask("2026-01-31T08:00:00Z")
    await stage.until(lambda: others(first), "three other pods")
    words = [note for name, reason, note in stage.kubernetes.events if reason == "ManualRollingUpdate"]
    assert len(words) == 3 and "a restart was requested (2026-01-31T08:00:00Z)" in words[0]
    second = {name: stage.kubernetes.one(Kind.POD, name)["metadata"]["uid"] for name in pods()}
    ask(None)  # as when a manifest from Git replaces the object
    stage.apply("Cluster", "news", {"brokers": {"replicas": 3, "storage": {"size": "2Gi"}}})
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    assert second == {name: stage.kubernetes.one(Kind.POD, name)["metadata"]["uid"] for name in pods()}
    ask("2026-01-31T09:00:00Z")
    await stage.until(lambda: others(second), "three other pods")


def pods() -> list[str]:
    return [f"news-brokers-{number}" for number in range(3)]


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
