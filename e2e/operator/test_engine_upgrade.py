"""Apache Kafka as the engine: another version, levels of features, and the last words of a broker that cannot start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from e2e.operator import apache_image
from e2e.operator.engines import Engine
from e2e.operator.providers import Kubernetes
from e2e.operator.world import Body, World, condition, is_at_rest, is_ready, resource, unique

NAME = "press"
OLD, NEW = apache_image.VERSIONS


class Press:
    """A Cluster of three brokers of Apache Kafka in a namespace of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.namespace = unique("press")
        self.bootstrap = f"{NAME}-bootstrap.{self.namespace}.svc:9092"
        world.kube.kubectl("create", "namespace", self.namespace)
        spec = {"brokers": {"replicas": 3, "storage": {"size": "1Gi", "deletionPolicy": "Delete"}}}
        topic = {"cluster": NAME, "partitions": 3, "replicationFactor": 3}
        world.apply(world.cluster(NAME, spec, self.namespace), resource("Topic", "orders", topic, self.namespace))
        world.wait("topic", "orders", is_ready, self.namespace, 120)

    def patch(self, **engine: object) -> None:
        self.world.patch("cluster", NAME, {"engine": engine}, self.namespace)

    def wait(self, until: object, what: str, seconds: float = 90) -> Body:
        assert callable(until)
        return self.world.wait("cluster", NAME, until, self.namespace, seconds, what)

    def images(self) -> dict[str, str]:
        """The image of each broker's pod, by the pod's uid."""
        selector = f"app.kubernetes.io/name=broadsheet,broadsheet.io/cluster={NAME}"
        found = self.world.kube.get("pods", "-n", self.namespace, "-l", selector)["items"]
        return {pod["metadata"]["uid"]: pod["spec"]["containers"][0]["image"] for pod in found}


@pytest.fixture(scope="module")
def press(kube: Kubernetes, world: World, apache_kafka: Engine) -> Iterator[Press]:
    if kube.name != "existing":
        kube.load_image(apache_image.build(NEW))
    press = Press(replace(world, engine=apache_kafka))
    yield press
    world.kube.kubectl("delete", "namespace", press.namespace, "--wait=false")


def test_a_version_is_upgraded_by_a_roll_and_its_levels_are_finalized_by_a_field_of_their_own(press: Press) -> None:
    before = press.wait(lambda c: is_at_rest(c) and c["status"].get("metadataVersion"), "the level in the status")
    assert before["status"]["metadataVersion"] == "4.3-IV0"
    press.world.client("produce", "orders", "30", "older", bootstrap=press.bootstrap)
    press.patch(version=NEW)

    def upgraded(cluster: Body) -> bool:
        return is_at_rest(cluster) and set(press.images().values()) == {f"apache/kafka:{NEW}"}

    after = press.wait(upgraded, "three brokers of the newer version", 180)
    assert after["status"]["metadataVersion"] == "4.3-IV0", "nothing is raised by itself"
    press.patch(metadataVersion="4.4-IV0")
    press.wait(lambda c: is_at_rest(c) and c["status"]["metadataVersion"] == "4.4-IV0", "the level that was asked for")
    assert press.world.wait_event(NAME, "FeaturesFinalized", press.namespace)
    read = press.world.client("consume", "orders", unique("readers"), "30", bootstrap=press.bootstrap)
    assert sorted(read) == sorted(f"older-{n}" for n in range(30))


def test_a_version_that_cannot_read_what_is_finalized_is_refused_before_a_pod_stops(press: Press) -> None:
    """After the test before: the levels are those of the newer version."""
    before = press.images()
    press.patch(version=OLD, metadataVersion=None)
    told = press.wait(lambda c: condition(c, "Stalled")["status"] == "True", "a refusal")
    words = condition(told, "Stalled")["message"]
    assert f"Apache Kafka {OLD} cannot read what the cluster has finalized (metadata.version 4.4-IV0" in words
    assert press.images() == before
    press.patch(version=NEW)
    press.wait(is_at_rest, "a Cluster at rest")
    assert press.images() == before


def test_the_last_words_of_a_broker_that_ends_at_its_start_are_in_the_status(press: Press) -> None:
    press.world.patch("cluster", NAME, {"config": {"broker.heartbeat.interval.ms": "soon"}}, press.namespace)
    told = press.wait(lambda c: condition(c)["reason"] == "BrokerDown", "a broker that cannot start", 120)
    assert "broker.heartbeat.interval.ms" in condition(told)["message"]
    assert len(press.images()) == 3
    away = [broker["id"] for broker in told["status"]["brokers"] if broker["state"] != "Running"]
    assert len(away) == 1, "the others keep what they run with"
    press.world.patch("cluster", NAME, {"config": {"broker.heartbeat.interval.ms": None}}, press.namespace)
    press.wait(is_at_rest, "a Cluster at rest", 180)
