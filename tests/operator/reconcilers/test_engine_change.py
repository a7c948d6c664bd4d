"""Another version or image of an engine: refused before a pod stops, where it cannot read what is finalized."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_operator.reconcilers import provisioning
from broadsheet_operator.reconcilers.engine_change import image_of_before, needs_levels, refusal, running_engine
from broadsheet_operator.reconcilers.inputs import ANNOTATION
from broadsheet_operator.reconcilers.observed import Failure, FeaturesView
from broadsheet_operator.reconcilers.provisioning import INPUTS, RENDERED, Existing
from broadsheet_operator.reconcilers.reasons import Reason
from tests.operator.reconcilers.test_provisioning import SETTINGS, cluster, rendered

OLDER, NEWER = {"type": "apache-kafka", "version": "4.3.0"}, {"type": "apache-kafka", "version": "4.4.0"}
FINALIZED_BY_4_4 = FeaturesView({"metadata.version": 33, "share.version": 2, "group.version": 1}, {})
FINALIZED_BY_4_3 = FeaturesView({"metadata.version": 30, "share.version": 1, "group.version": 1}, {})


def spec(engine: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"brokers": {"replicas": 3}, **({"engine": engine} if engine else {}), **more}


def runs(engine: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return rendered(spec(engine, **more))["StatefulSet"]


def test_the_engine_that_runs_is_what_the_pods_were_started_with() -> None:
    found = [running_engine(runs(engine)) for engine in (None, OLDER, NEWER)]
    assert [engine.title for engine in found if engine] == ["Broadsheet", "Apache Kafka 4.3.0", "Apache Kafka 4.4.0"]
    assert running_engine(None) is None


def test_an_upgrade_needs_nobody_to_be_asked() -> None:
    newer = cluster(spec(NEWER))
    assert not needs_levels(newer, runs(OLDER))
    assert refusal(newer, runs(OLDER)) == ""
    assert refusal(newer, None) == "", "a new cluster"


def test_a_version_that_cannot_read_what_is_finalized_is_refused() -> None:
    older = cluster(spec(OLDER))
    assert needs_levels(older, runs(NEWER))
    assert refusal(older, runs(NEWER), FINALIZED_BY_4_4) == (
        "the brokers keep Apache Kafka 4.4.0: Apache Kafka 4.3.0 cannot read what the cluster has finalized "
        "(metadata.version 4.4-IV2, it knows 4.3-IV0 and less; share.version 2, it knows 1 and less); set "
        "engine.version to 4.4.0, or to another version that knows these levels"
    )
    assert refusal(older, runs(NEWER), FINALIZED_BY_4_3) == "", "not finalized yet: the way back is open"


def test_what_is_not_known_is_not_tried() -> None:
    silent = Failure(Reason.TIMEOUT, "look at the cluster's features: no answer in time")
    words = refusal(cluster(spec(OLDER)), runs(NEWER), silent)
    assert words.startswith("the brokers keep Apache Kafka 4.4.0: Apache Kafka 4.3.0 is older, and whether it can read")
    assert "(look at the cluster's features: no answer in time); it is tried again" in words
    assert "not known; it is tried again" in refusal(cluster(spec(OLDER)), runs(NEWER), None)


def test_a_version_that_only_a_newer_operator_knows_counts_as_newer() -> None:
    unknown = runs(NEWER)
    annotations = unknown["spec"]["template"]["metadata"]["annotations"]
    annotations[ANNOTATION] = annotations[ANNOTATION].replace("4.4.0", "4.9.1")
    assert needs_levels(cluster(spec(NEWER)), unknown)
    beyond = FeaturesView({"metadata.version": 60, "new.version": 1}, {})
    words = refusal(cluster(spec(NEWER)), unknown, beyond)
    assert "metadata.version level 60, it knows 4.4-IV2 and less; new.version 1, it does not know it" in words


@pytest.mark.parametrize(
    ("engine", "image", "words"),
    [
        (OLDER, "apache/kafka:4.4.0", "has Apache Kafka 4.4.0, and engine.version is 4.3.0: set engine.version"),
        (OLDER, "registry.example:5000/apache/kafka:4.2.1-rc1@sha256:ab", "has Apache Kafka 4.2.1"),
        (OLDER, "apache/kafka-native:4.3.0", "has no Java and none of Kafka's scripts; use apache/kafka:4.3.0"),
        (None, "apache/kafka:4.3.0", "is one of Apache Kafka, and the engine is Broadsheet: set engine.type"),
    ],
)
def test_an_image_that_says_it_is_another_one_is_refused(engine: dict[str, Any] | None, image: str, words: str) -> None:
    assert words in refusal(cluster(spec(engine, image=image)), runs(engine))
    assert words in refusal(cluster(spec(engine, image=image)), None), "before a first pod, too"


@pytest.mark.parametrize("image", ["apache/kafka:4.3.1", "apache/kafka:latest", "apache/kafka", "corp/kafka:9.9.9"])
def test_an_image_that_says_nothing_of_its_version_is_taken(image: str) -> None:
    """The start script looks into it, and refuses what it finds there."""
    assert refusal(cluster(spec(OLDER, image=image)), runs(OLDER)) == ""


def test_brokers_whose_engine_is_refused_stay_as_they_are() -> None:
    before = rendered(spec(NEWER))
    existing = Existing(stateful_set=before["StatefulSet"], config_map=before["ConfigMap"])
    changed = cluster({"brokers": {"replicas": 5}, "engine": OLDER, "config": {"num.partitions": 7}})
    kept = {c["kind"]: c for c in provisioning.children(changed, existing, SETTINGS, held=True)}
    assert kept["StatefulSet"]["spec"]["template"] == before["StatefulSet"]["spec"]["template"]
    assert kept["StatefulSet"]["spec"]["replicas"] == 5
    for name in (INPUTS, RENDERED):
        annotations = [c["metadata"]["annotations"][name] for c in (kept["StatefulSet"], before["StatefulSet"])]
        assert annotations[0] == annotations[1]
    assert kept["ConfigMap"]["data"] == before["ConfigMap"]["data"]


def test_a_new_cluster_whose_engine_is_refused_gets_no_brokers() -> None:
    kinds = [c["kind"] for c in provisioning.children(cluster(spec(OLDER)), Existing(), SETTINGS, held=True)]
    assert "StatefulSet" not in kinds
    assert "ConfigMap" in kinds


def test_an_image_that_was_left_as_it_was_is_not_one_of_the_other_engine() -> None:
    """All brokers stopped for it, and none of them started."""
    mine = "registry.example/brokers@sha256:0123"
    words = image_of_before(cluster(spec(OLDER, image=mine)), runs(None, image=mine))
    assert words == f"spec.image {mine} is the image of Broadsheet: leave it out, or name one of Apache Kafka 4.3.0"
    assert "leave it out, or name one of Broadsheet" in image_of_before(
        cluster(spec(None, image=mine)), runs(OLDER, image=mine)
    )
    for declared, existing in (
        (spec(OLDER, image="registry.example/other:1"), runs(None, image=mine)),
        (spec(OLDER), runs(None, image=mine)),
        (spec(NEWER, image=mine), runs(OLDER, image=mine)),
    ):
        assert image_of_before(cluster(declared), existing) == ""
