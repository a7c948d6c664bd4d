"""The operator runs Apache Kafka for a Cluster: versions, features, refusals; Kubernetes and Kafka are in memory."""

from __future__ import annotations

from typing import Any

from broadsheet_operator.api.engine_versions import VERSIONS
from broadsheet_operator.kubernetes import Kind
from tests.operator.support import Stage, on_stage, status

OLDER: dict[str, Any] = {"type": "apache-kafka", "version": "4.3.0"}
NEWER: dict[str, Any] = {"type": "apache-kafka", "version": "4.4.0"}


def spec(engine: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"brokers": {"replicas": 1}, "engine": engine, **more}


def image(stage: Stage) -> str:
    template = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["spec"]["template"]
    return str(template["spec"]["containers"][0]["image"])


def stalled(stage: Stage) -> str:
    told = stage.kubernetes.one(Kind.CLUSTER, "news").get("status", {}).get("conditions", ())
    return next((str(c["message"]) for c in told if c["type"] == "Stalled"), "")


@on_stage
async def test_a_version_is_upgraded_by_a_roll_and_its_levels_are_finalized_by_a_field_of_their_own(
    stage: Stage,
) -> None:
    stage.apply("Cluster", "news", spec(OLDER))
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    await stage.until(lambda: status(stage).get("metadataVersion") == "4.3-IV0", "the levels in the status")
    stage.apply("Cluster", "news", spec(NEWER))
    await stage.until(lambda: image(stage) == "apache/kafka:4.4.0", "the newer image")
    await stage.until(lambda: "PodHasOldRevision" in stage.reasons_of("news"), "the roll")
    stage.kafka.supported = dict(VERSIONS["4.4"])
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    assert stage.kafka.features == {"metadata.version": 30}, "nothing is raised by itself"
    levels = {"metadataVersion": "4.4", "features": {"share.version": 2}}
    stage.apply("Cluster", "news", spec({**NEWER, **levels}))
    await stage.until(lambda: stage.kafka.features == {"metadata.version": 33, "share.version": 2}, "the levels")
    await stage.until(lambda: status(stage).get("metadataVersion") == "4.4-IV2", "the levels in the status")
    assert status(stage)["features"] == {"share.version": 2}
    assert "FeaturesFinalized" in stage.reasons_of("news")
    await stage.reason(Kind.CLUSTER, "news", "Ready")


@on_stage
async def test_a_version_that_cannot_read_what_is_finalized_stops_no_pod(stage: Stage) -> None:
    stage.kafka.features = {"metadata.version": 33}
    stage.kafka.supported = dict(VERSIONS["4.4"])
    stage.apply("Cluster", "news", spec(NEWER))
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    before = stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["spec"]["template"]
    stage.apply("Cluster", "news", spec(OLDER))
    await stage.reason(Kind.CLUSTER, "news", "NotSupported")
    assert "Apache Kafka 4.3.0 cannot read what the cluster has finalized (metadata.version 4.4-IV2" in stalled(stage)
    assert stage.kubernetes.one(Kind.STATEFUL_SET, "news-brokers")["spec"]["template"] == before
    assert not {"PodHasOldRevision", "ManualRollingUpdate"} & set(stage.reasons_of("news"))
    stage.kafka.features = {"metadata.version": 30}
    await stage.until(lambda: image(stage) == "apache/kafka:4.3.0", "the older image")


@on_stage
async def test_a_lower_metadata_version_is_refused(stage: Stage) -> None:
    stage.apply("Cluster", "news", spec({**OLDER, "metadataVersion": "4.2-IV1"}))
    await stage.reason(Kind.CLUSTER, "news", "NotSupported")
    assert "set it to 4.3-IV0, or leave it out" in stalled(stage)
    assert stage.kafka.features == {"metadata.version": 30}


@on_stage
async def test_an_image_of_another_version_is_refused_before_there_is_a_pod(stage: Stage) -> None:
    stage.apply("Cluster", "news", spec(OLDER, image="apache/kafka:4.4.0"))
    await stage.reason(Kind.CLUSTER, "news", "NotSupported")
    assert "spec.image apache/kafka:4.4.0 has Apache Kafka 4.4.0, and engine.version is 4.3.0" in stalled(stage)
    assert (Kind.STATEFUL_SET, "paper", "news-brokers") not in stage.kubernetes.objects
    stage.apply("Cluster", "news", spec(OLDER, image="apache/kafka:4.3.1"))
    await stage.reason(Kind.CLUSTER, "news", "Ready")


@on_stage
async def test_a_broker_is_running_when_the_cluster_says_so(stage: Stage) -> None:
    """A connection to its port says that the process runs, and not that it takes requests."""
    stage.kafka.fenced = {1}
    stage.apply("Cluster", "news", {"brokers": {"replicas": 3}, "engine": OLDER})
    await stage.until(lambda: "status" in stage.kubernetes.one(Kind.CLUSTER, "news"), "a first look")
    await stage.until(
        lambda: [b["state"] for b in status(stage).get("brokers", ())] == ["Running", "Fenced", "Running"], "the states"
    )
    assert status(stage)["readyReplicas"] == 2
    stage.kafka.fenced = set()
    await stage.reason(Kind.CLUSTER, "news", "Ready")
