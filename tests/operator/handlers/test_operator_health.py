"""The whole operator on a Kubernetes and a Kafka in memory: what programs read as healthy, failed or put off."""

from __future__ import annotations

import asyncio
from typing import Any

from broadsheet_operator.handlers.writing import FINALIZER
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.settings import OperatorSettings
from tests.operator.support import BROKERS, Stage, merged, staged

IMPATIENT = OperatorSettings(resync_seconds=3600.0, cluster_ready_seconds=0.02, cluster_unready_seconds=0.02,
                             unfinished_seconds=0.02, overdue_seconds=0.2)  # fmt: skip
ALL = ((Kind.TOPIC, "orders"), (Kind.CONSUMER_GROUP, "billing"), (Kind.CLUSTER, "news"))
"""As the watches may report them: the Cluster last."""
CLOSED = [{"schedule": "0 3 29 2 *", "duration": "1h"}]


def conditions(stage: Stage, kind: Kind, name: str) -> dict[str, dict[str, Any]]:
    body = stage.kubernetes.objects.get((kind, "paper", name), {})
    return {c["type"]: c for c in body.get("status", {}).get("conditions", ())}


def test_what_is_broken_for_long_is_stalled_said_once_and_heals_by_itself() -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), Stage(IMPATIENT) as stage:
            stage.apply("Cluster", "news", {"external": {"bootstrapServers": ["a:1"]}})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            stage.kafka.down = True
            await stage.until(lambda: "Stalled" in conditions(stage, Kind.CLUSTER, "news"), "Stalled")
            told = conditions(stage, Kind.CLUSTER, "news")
            assert (told["Ready"]["status"], told["Stalled"]["reason"]) == ("False", "Timeout")
            writes = stage.operator.writer.statuses_written
            looks = stage.kafka.calls.count("cluster")
            await stage.until(lambda: stage.kafka.calls.count("cluster") > looks + 5, "more looks")
            assert stage.operator.writer.statuses_written == writes, "nothing changes while it stays broken"
            notes = [note for name, _, note in stage.kubernetes.events if name == "news" and "not Ready for" in note]
            assert len(notes) == 1
            stage.kafka.down = False
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            assert set(conditions(stage, Kind.CLUSTER, "news")) == {"Ready"}

    asyncio.run(scene())


def test_what_goes_on_or_waits_as_asked_is_not_stalled_however_long_it_takes() -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), Stage(IMPATIENT) as stage:
            stage.kubernetes.pods_ready = False
            stage.apply("Cluster", "news", BROKERS)
            await stage.reason(Kind.CLUSTER, "news", "Creating")
            stage.apply("Topic", "orders", {"cluster": "news"})
            await stage.reason(Kind.TOPIC, "orders", "ClusterNotReady")
            loop = asyncio.get_running_loop()
            end = loop.time() + 2 * IMPATIENT.overdue_seconds
            await stage.until(lambda: loop.time() > end, "twice the time that bad news may last")
            stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
            await stage.reason(Kind.TOPIC, "orders", "ClusterNotReady")
            for kind, name in ((Kind.CLUSTER, "news"), (Kind.TOPIC, "orders")):
                assert "Stalled" not in conditions(stage, kind, name)

    asyncio.run(scene())


def test_an_operator_that_restarts_takes_nothing_back() -> None:
    """A leader that begins knows nothing: neither Stalled goes, nor does what is Ready become not Ready."""

    async def scene() -> None:
        async with asyncio.timeout(30), Stage(IMPATIENT) as stage:
            stage.apply("Cluster", "news", {"external": {"bootstrapServers": ["a:1"]}})
            stage.apply("ConsumerGroup", "billing", {"cluster": "news"})
            await stage.reason(Kind.CONSUMER_GROUP, "billing", "GroupNotFound")
            stage.kafka.down = True
            stage.apply("Topic", "orders", {"cluster": "news", "partitions": 1})
            for kind, name in ((Kind.CLUSTER, "news"), (Kind.TOPIC, "orders")):
                await stage.until(lambda k=kind, n=name: "Stalled" in conditions(stage, k, n), f"{name} to be Stalled")
            before = {name: conditions(stage, kind, name) for kind, name in ALL}
            await stage.operator.close()
            successor = Stage(IMPATIENT)
            successor.kubernetes, successor.kafka.down = stage.kubernetes, True
            async with successor:
                for kind, name in ALL:
                    successor.operator.observe(kind, None, stage.kubernetes.one(kind, name))
                await successor.until(lambda: successor.kafka.calls.count("cluster") > 5, "some looks")
                assert {name: conditions(stage, kind, name) for kind, name in ALL} == before
                assert successor.operator.writer.statuses_written == 0

    asyncio.run(scene())


@staged
async def test_a_pause_leaves_ready_what_was_ready_and_says_what_has_changed_since(stage: Stage) -> None:
    for name in ("orders", "totals"):
        stage.apply("Topic", name, {"cluster": "news", "partitions": 1})
        await stage.reason(Kind.TOPIC, name, "Ready")
    stage.apply("Cluster", "news", {**BROKERS, "paused": True})
    await stage.until(lambda: "Paused" in conditions(stage, Kind.TOPIC, "orders"), "the pause to be seen")
    assert conditions(stage, Kind.TOPIC, "orders")["Ready"]["status"] == "True"
    stage.apply("Topic", "totals", {"cluster": "news", "partitions": 2})
    await stage.reason(Kind.TOPIC, "totals", "Paused")
    assert conditions(stage, Kind.TOPIC, "totals")["Ready"]["status"] == "False"
    assert stage.kafka.topics["totals"][0] == 1
    stage.apply("Cluster", "news", BROKERS)
    await stage.until(lambda: set(conditions(stage, Kind.TOPIC, "orders")) == {"Ready", "InSync"}, "it to go on")
    await stage.reason(Kind.TOPIC, "totals", "Ready")
    assert stage.kafka.topics["totals"][0] == 2


@staged
async def test_what_is_deleted_in_a_paused_cluster_stays_until_the_pause_ends(stage: Stage) -> None:
    for name, policy in (("orders", "Delete"), ("totals", "Retain")):
        stage.apply("Topic", name, {"cluster": "news", "partitions": 1, "deletionPolicy": policy})
        await stage.reason(Kind.TOPIC, name, "Ready")
    stage.apply("Cluster", "news", {**BROKERS, "paused": True})
    await stage.until(lambda: "Paused" in conditions(stage, Kind.TOPIC, "orders"), "the pause to be seen")
    for name in ("orders", "totals"):
        await stage.kubernetes.delete(Kind.TOPIC, "paper", name)
    await stage.until(lambda: "Retained" in stage.reasons_of("totals"), "the one that deletes nothing to go")
    assert stage.kubernetes.one(Kind.TOPIC, "orders")["metadata"]["finalizers"] == [FINALIZER]
    assert set(stage.kafka.topics) == {"orders", "totals"}
    stage.apply("Cluster", "news", BROKERS)
    await stage.until(lambda: (Kind.TOPIC, "paper", "orders") not in stage.kubernetes.objects, "it to go")
    assert set(stage.kafka.topics) == {"totals"}


@staged
async def test_a_restart_that_waits_for_a_window_says_so_in_its_reason(stage: Stage) -> None:
    stage.apply("Cluster", "news", {**BROKERS, "maintenanceWindows": CLOSED})
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    body = stage.kubernetes.one(Kind.CLUSTER, "news")
    asked = {"metadata": {"annotations": {"broadsheet.io/restart": "now"}}}
    stage.kubernetes.put(merged(body, asked))
    await stage.until(lambda: "Reconciling" in conditions(stage, Kind.CLUSTER, "news"), "the restart")
    told = conditions(stage, Kind.CLUSTER, "news")
    assert told["Reconciling"]["reason"] == "WaitingForMaintenanceWindow"
    assert "waits for the maintenance window" in told["Reconciling"]["message"] and told["Ready"]["status"] == "True"
    stage.apply("Cluster", "news", BROKERS)
    await stage.until(lambda: "Reconciling" not in conditions(stage, Kind.CLUSTER, "news"), "the end")
    assert "ManualRollingUpdate" in stage.reasons_of("news")
