"""Clusters: brokers that come back, change without a restart or with one, grow, pause, go."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.apache.apache import ApacheKafka
from e2e.operator.providers import KubernetesError, NamespacesKubernetes
from e2e.operator.world import (
    HOME,
    Body,
    World,
    chart,
    condition,
    is_at_rest,
    is_ready,
    machines,
    resource,
    unique,
)
from tests.support.waiting import wait_until

NAME = "solo"
STORAGE = {"size": "1Gi", "deletionPolicy": "Delete"}
STATIC = "group.initial.rebalance.delay.ms"
"""A property that a broker reads at its start only."""


class Solo:
    """A Cluster of one broker in a namespace of its own, which these tests treat roughly."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.namespace = unique("solo")
        self.bootstrap = f"{NAME}-bootstrap.{self.namespace}.svc:9092"
        world.kube.kubectl("create", "namespace", self.namespace)
        spec = {"brokers": {"replicas": 1, "storage": STORAGE}, "config": {STATIC: "0"}}
        world.apply(world.cluster(NAME, spec, self.namespace))
        world.wait("cluster", NAME, is_ready, self.namespace, 90)
        world.apply(resource("Topic", "orders", {"cluster": NAME, "partitions": 3}, self.namespace))
        world.wait("topic", "orders", is_ready, self.namespace)

    def client(self, *arguments: str) -> object:
        return self.world.client(*arguments, bootstrap=self.bootstrap)

    def patch(self, spec: dict[str, object]) -> None:
        self.world.patch("cluster", NAME, spec, self.namespace)

    def wait_ready(self) -> None:
        self.world.wait("cluster", NAME, is_ready, self.namespace, 90)

    def broker(self) -> str:
        """Uid of the broker's pod; empty while there is none that is ready."""
        pod = self.world.get("pod", f"{NAME}-brokers-0", self.namespace)
        ready = pod is not None and any(
            c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ())
        )
        return str(pod["metadata"]["uid"]) if pod is not None and ready else ""

    def wait_restarted(self, before: str) -> str:
        self.world.wait_until(lambda: self.broker() not in ("", before), "the broker to be restarted", 90)
        return self.broker()


@pytest.fixture(scope="module")
def solo(world: World) -> Iterator[Solo]:
    solo = Solo(world)
    yield solo
    world.kube.kubectl("delete", "namespace", solo.namespace, "--wait=false")


def test_a_deleted_pod_comes_back_with_its_data(solo: Solo) -> None:
    sent = solo.client("produce", "orders", "100", "kept")
    before = solo.broker()
    solo.world.delete("pod", f"{NAME}-brokers-0", namespace=solo.namespace)
    solo.wait_restarted(before)
    read = solo.client("consume", "orders", unique("readers"), "100")
    assert isinstance(sent, list)
    assert isinstance(read, list)
    assert sorted(read) == sorted(f"kept-{n}" for n in range(100))


def test_a_killed_broker_comes_back_with_its_data_also_if_it_is_taken_away_while_it_starts(solo: Solo) -> None:
    solo.client("produce", "orders", "10", "killed")
    before, name = solo.broker(), f"{NAME}-brokers-0"
    solo.world.delete("pod", name, "--grace-period=0", "--force", namespace=solo.namespace)

    def runs(pod: Body) -> bool:
        started = any("running" in s["state"] for s in pod["status"].get("containerStatuses", ()))
        return started and pod["metadata"]["uid"] != before

    second = solo.world.wait("pod", name, runs, solo.namespace, 60, "another pod to run")["metadata"]["uid"]
    solo.world.delete("pod", name, "--wait=false", namespace=solo.namespace)

    def replaced() -> bool:
        pod = solo.world.get("pod", name, solo.namespace)
        return pod is not None and pod["metadata"]["uid"] != second

    solo.world.wait_until(replaced, "its end, long before the grace period is over", 30)
    solo.wait_restarted(before)
    read = solo.client("consume", "orders", unique("readers"), "110")
    assert isinstance(read, list)
    assert {f"killed-{n}" for n in range(10)} <= set(read)


@pytest.mark.machines("takes the power from a node")
def test_a_broker_alone_on_a_lost_node_is_said_and_comes_back_with_its_data(solo: Solo) -> None:
    kube = machines(solo.world.kube)
    pod = solo.world.get("pod", f"{NAME}-brokers-0", solo.namespace)
    assert pod is not None
    node = pod["spec"]["nodeName"]
    kube.stop_node(int(node.rpartition("-")[2]))
    try:
        told = solo.world.wait(
            "cluster",
            NAME,
            lambda c: condition(c)["reason"] == "BrokerDown",
            solo.namespace,
            90,
            "the node to be missed",
        )
        assert condition(told)["message"] == f"broker 0: {node} does not answer"
        assert solo.world.wait_event(NAME, "BrokerDown", solo.namespace)["type"] == "Warning"
    finally:
        kube.start_node(int(node.rpartition("-")[2]))
    solo.wait_ready()
    solo.world.wait_until(solo.broker, "the broker's pod to be ready", 90)
    # Whoever reads may have been on that node, too.
    kube.kubectl("wait", "--for=condition=Ready", "pod/client", "-n", HOME, "--timeout=60s")
    read = solo.client("consume", "orders", unique("readers"), "110")
    assert isinstance(read, list)
    assert len(read) == 110


def test_a_dynamic_property_is_altered_without_a_restart(solo: Solo) -> None:
    before = solo.broker()
    solo.patch({"config": {"log.retention.ms": "86399999"}})
    solo.world.wait_event(NAME, "ConfigAltered", solo.namespace)
    wait_until(lambda: "86399999" in str(solo.client("describe", "orders")), "the topic to see it")
    solo.wait_ready()
    solo.patch({"config": {"log.retention.ms": None}})  # merge patch: the key goes
    wait_until(lambda: "86399999" not in str(solo.client("describe", "orders")), "the default to be back")
    assert solo.broker() == before


def test_a_property_that_no_broker_knows_the_value_of_is_said(solo: Solo) -> None:
    before = solo.broker()
    solo.patch({"config": {"log.retention.ms": "a while"}})
    told = solo.world.wait("cluster", NAME, lambda c: condition(c)["reason"] == "InvalidConfig", solo.namespace)
    assert "log.retention.ms" in condition(told)["message"]
    solo.patch({"config": {"log.retention.ms": None}})
    solo.wait_ready()
    assert solo.broker() == before


def test_a_static_property_restarts_the_broker_once(solo: Solo) -> None:
    before = solo.broker()
    solo.patch({"config": {STATIC: "10"}})
    after = solo.wait_restarted(before)
    solo.wait_ready()
    read = ["cat", f"{solo.world.engine.configuration}/server.properties"]
    text = solo.world.kube.kubectl("exec", "-n", solo.namespace, f"{NAME}-brokers-0", "--", *read).stdout
    assert f"{STATIC}=10\n" in text
    assert solo.broker() == after


@pytest.mark.machines("gives an image another name on the nodes")
def test_another_image_rolls(solo: Solo) -> None:
    kube = machines(solo.world.kube)
    image = solo.world.engine.image
    other = image.rpartition(":")[0] + ":other"
    for node in (1, 2, 3):
        socket = kube.folder / f"node-{node}/containerd.sock"
        kube.run(["ctr", "-a", socket, "-n", "k8s.io", "images", "tag", "--force", image, other], check=True)
    before = solo.broker()
    solo.patch({"image": other})
    solo.wait_restarted(before)
    pod = solo.world.get("pod", f"{NAME}-brokers-0", solo.namespace)
    assert pod is not None
    assert pod["spec"]["containers"][0]["image"] == other
    solo.wait_ready()


def test_an_image_that_cannot_be_pulled_is_said_and_an_edit_heals_it(solo: Solo) -> None:
    solo.patch({"image": "localhost/no-such-image:1"})
    told = solo.world.wait("cluster", NAME, lambda c: condition(c)["reason"] == "BrokerDown", solo.namespace, 90)
    assert "no-such-image" in condition(told)["message"]
    solo.patch({"image": solo.world.engine.image})
    solo.wait_ready()


def test_storage_grows_without_a_restart_and_never_shrinks(solo: Solo) -> None:
    before = solo.broker()
    solo.patch({"brokers": {"storage": {"size": "2Gi"}}})
    claim = f"data-{NAME}-brokers-0"
    solo.world.wait(
        "pvc", claim, lambda c: c["status"].get("capacity", {}).get("storage") == "2Gi", solo.namespace, what="2Gi"
    )
    with pytest.raises(KubernetesError, match="a volume can grow but never shrink"):
        solo.patch({"brokers": {"storage": {"size": "1Gi"}}})
    solo.wait_ready()
    body = solo.world.get("pvc", claim, solo.namespace)
    assert body is not None
    assert body["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert solo.broker() == before


def test_a_paused_cluster_is_left_alone(solo: Solo) -> None:
    before = solo.broker()
    solo.patch({"paused": True, "config": {STATIC: "20"}})
    solo.world.wait("cluster", NAME, lambda c: condition(c, "Paused")["status"] == "True", solo.namespace)
    solo.world.apply(resource("Topic", "later", {"cluster": NAME, "partitions": 1}, solo.namespace))
    solo.world.wait("topic", "later", lambda t: condition(t)["reason"] == "Paused", solo.namespace)
    assert solo.broker() == before
    solo.patch({"paused": False})
    solo.wait_restarted(before)
    solo.world.wait("topic", "later", is_ready, solo.namespace)


def test_what_someone_changes_of_a_child_is_put_back(solo: Solo) -> None:
    service = f"{NAME}-bootstrap"
    patch = json.dumps({"spec": {"selector": {"app.kubernetes.io/name": "elsewhere"}}})
    solo.world.kube.kubectl("patch", "service", service, "-n", solo.namespace, "-p", patch)
    solo.world.wait(
        "service", service, lambda s: s["spec"]["selector"]["app.kubernetes.io/name"] == "broadsheet", solo.namespace
    )
    solo.world.delete("service", service, namespace=solo.namespace)
    solo.world.wait("service", service, lambda s: s["spec"]["clusterIP"], solo.namespace)


def test_an_upgrade_of_the_operator_restarts_no_broker(solo: Solo) -> None:
    before = solo.broker()
    pods = {pod["metadata"]["uid"] for pod in solo.world.operator_pods()}
    values = ["replicas=2", "broker.image=localhost/a-newer-broker:2", "podAnnotations.upgraded=yes"]
    done = solo.world.kube.run(["helm", *chart(*values)])
    assert done.returncode == 0, done.stderr
    assert pods.isdisjoint({pod["metadata"]["uid"] for pod in solo.world.operator_pods()})
    solo.world.apply(resource("Topic", "after-upgrade", {"cluster": NAME, "partitions": 1}, solo.namespace))
    solo.world.wait("topic", "after-upgrade", is_ready, solo.namespace)
    assert solo.broker() == before
    pod = solo.world.get("pod", f"{NAME}-brokers-0", solo.namespace)
    assert pod is not None
    assert pod["spec"]["containers"][0]["image"] == solo.world.engine.image
    done = solo.world.kube.run(["helm", *chart("replicas=2")])
    assert done.returncode == 0, done.stderr


def test_volumes_are_kept_by_policy_and_found_again(solo: Solo) -> None:
    world, namespace, claim = solo.world, solo.namespace, f"data-{NAME}-brokers-0"
    solo.patch({"brokers": {"storage": {"deletionPolicy": "Retain"}}})
    body = world.wait("cluster", NAME, is_ready, namespace)
    world.wait("cluster", NAME, lambda c: not c["metadata"].get("finalizers"), namespace, what="no finalizer")
    world.delete("cluster", NAME, "--timeout=60s", namespace=namespace)
    world.wait_gone("pod", f"{NAME}-brokers-0", namespace, 90)
    assert world.get("pvc", claim, namespace) is not None
    spec = {"brokers": {"replicas": 1, "storage": {"size": "2Gi", "deletionPolicy": "Delete"}}}
    world.apply(world.cluster(NAME, spec, namespace))
    again = world.wait("cluster", NAME, is_ready, namespace, 90)
    assert again["status"]["clusterId"] == body["status"]["clusterId"], "the volumes say which cluster this is"
    read = solo.client("consume", "orders", unique("readers"), "110")
    assert isinstance(read, list)
    assert len(read) >= 110


def test_two_brokers_that_lost_the_volume_of_their_voter_say_so(solo: Solo) -> None:
    """They waited without a word: the broker that is left has no vote, and the one that had it knows nothing."""
    world, namespace = solo.world, solo.namespace
    solo.patch({"brokers": {"replicas": 2}})
    world.wait("cluster", NAME, lambda c: c["status"].get("readyReplicas") == 2, namespace, 90, "two brokers")
    world.wait("cluster", NAME, is_at_rest, namespace, 90)
    world.delete("pvc", f"data-{NAME}-brokers-0", "--wait=false", namespace=namespace)
    world.delete("pod", f"{NAME}-brokers-0", namespace=namespace)
    told = world.wait("cluster", NAME, lambda c: condition(c, "Stalled")["reason"] == "QuorumLost", namespace, 90)
    assert "broker 0 came back with an empty volume, and the only vote" in condition(told)["message"]
    assert world.wait_event(NAME, "QuorumLost", namespace)["type"] == "Warning"


def test_volumes_are_deleted_by_policy(solo: Solo) -> None:
    """Last of this module: the Cluster goes for good, although its brokers have no quorum."""
    solo.world.delete("cluster", NAME, "--timeout=60s", namespace=solo.namespace)
    for number in (0, 1):
        solo.world.wait_gone("pvc", f"data-{NAME}-brokers-{number}", solo.namespace, 90)


class OutsideKafka(ApacheKafka):
    """Apache Kafka beside the control plane, at an address that pods reach."""

    HOST = "10.99.0.1"

    def __init__(self, kube: NamespacesKubernetes, directory: Path) -> None:
        super().__init__(directory, heap="512M")
        self.kube = kube
        address = f"PLAINTEXT://{self.HOST}:{self.port}"
        self.overrides = {
            "listeners": f"{address},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": address,
        }

    def spawn(self) -> subprocess.Popen[str]:  # type: ignore[override]
        self.write_properties()
        self.format()
        self._output_before = 0
        with self.output.open("ab") as output:
            process = self.kube.popen(self.command(), stdout=output, stderr=output)
        self._process = process  # type: ignore[assignment]
        return process


@pytest.mark.machines("runs Apache Kafka beside the control plane")
def test_an_external_cluster_gets_topics_and_groups(world: World, tmp_path: Path) -> None:
    kube = machines(world.kube)
    with OutsideKafka(kube, tmp_path / "kafka") as kafka:
        namespace = unique("outside")
        world.kube.kubectl("create", "namespace", namespace)
        servers = f"{kafka.HOST}:{kafka.port}"
        topic = {"cluster": "apache", "partitions": 2, "retention": {"time": "1d"}, "deletionPolicy": "Delete"}
        world.apply(
            resource("Cluster", "apache", {"external": {"bootstrapServers": [servers]}}, namespace),
            resource("Topic", "orders", topic, namespace),
            resource("ConsumerGroup", "readers", {"cluster": "apache"}, namespace),
        )
        told = world.wait("cluster", "apache", is_ready, namespace, 60)
        assert told["status"]["bootstrapServers"] == servers
        world.wait("topic", "orders", is_ready, namespace)
        world.client("produce", "orders", "9", bootstrap=servers)
        assert len(world.client("consume", "orders", "readers", "9", bootstrap=servers)) == 9
        world.wait("consumergroup", "readers", lambda g: g["status"].get("lag") == 0, namespace)
        assert world.kube.get("statefulsets", "-n", namespace)["items"] == [], "nothing is run for it"
        world.delete("topic", "orders", "--timeout=30s", namespace=namespace)
        assert "orders" not in world.client("topics", bootstrap=servers)
        world.kube.kubectl("delete", "namespace", namespace, "--timeout=60s")
