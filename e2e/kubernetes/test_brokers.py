"""Clusters of several brokers: formed over zones, restarted by partition, drained, grown, and one node short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e.kubernetes.cluster import NamespacesCluster
from e2e.kubernetes.world import Body, World, condition, is_ready, resource, unique, wait_for

NAME = "trio"
SOON = [
    {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
    for taint in ("not-ready", "unreachable")
]
"""Kubernetes gives pods on a lost node up after five minutes by default; a test has no such time."""
SPREAD = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"broadsheet.io/cluster": NAME}}, "topologyKey": "kubernetes.io/hostname"}
        ]
    }
}
STATIC = "group.initial.rebalance.delay.ms"


class Trio:
    """A Cluster of three brokers in a namespace of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.namespace = unique("trio")
        self.bootstrap = f"{NAME}-bootstrap.{self.namespace}.svc:9092"
        self.sent = 0
        world.kube.kubectl("create", "namespace", self.namespace)
        brokers = {
            "replicas": 3,
            "storage": {"size": "1Gi", "deletionPolicy": "Delete"},
            "rack": {"topologyKey": "topology.kubernetes.io/zone"},
            "template": {"tolerations": SOON, "affinity": SPREAD},
        }
        world.apply(resource("Cluster", NAME, {"brokers": brokers, "config": {STATIC: "0"}}, self.namespace))
        world.wait("cluster", NAME, is_ready, self.namespace, 120)
        world.apply(
            resource("Topic", "orders", {"cluster": NAME, "partitions": 6, "replicationFactor": 3}, self.namespace)
        )
        world.wait("topic", "orders", is_ready, self.namespace)

    def patch(self, spec: dict[str, object]) -> None:
        self.world.patch("cluster", NAME, spec, self.namespace)

    def wait(self, until: object, what: str, seconds: float = 90) -> Body:
        assert callable(until)
        return self.world.wait("cluster", NAME, until, self.namespace, seconds, what)

    def wait_settled(self, seconds: float = 120) -> Body:
        """Ready, and nothing going on or lacking."""

        def settled(body: Body) -> bool:
            status = body.get("status", {})
            busy = status.get("rollout") or status.get("scaling") or status.get("underReplicatedPartitions")
            return is_ready(body) and not busy

        return self.wait(settled, "a Cluster at rest", seconds)

    def produce(self, count: int = 30) -> None:
        self.sent += count
        self.world.client("produce", "orders", str(count), unique("r"), bootstrap=self.bootstrap)

    def read_all(self) -> int:
        read = self.world.client("consume", "orders", unique("readers"), str(self.sent), bootstrap=self.bootstrap)
        return len(read)

    def uids(self) -> dict[int, str]:
        """Uid of each broker's pod that is ready."""
        found = self.world.kube.get("pods", "-n", self.namespace, "-l", f"broadsheet.io/cluster={NAME}")["items"]
        return {
            int(pod["metadata"]["name"].rpartition("-")[2]): pod["metadata"]["uid"]
            for pod in found
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        }

    def node_of(self, broker: int) -> str:
        pod = self.world.get("pod", f"{NAME}-brokers-{broker}", self.namespace)
        assert pod is not None
        return str(pod["spec"]["nodeName"])


@pytest.fixture(scope="module")
def trio(world: World) -> Iterator[Trio]:
    trio = Trio(world)
    yield trio
    world.kube.kubectl("delete", "namespace", trio.namespace, "--wait=false")


def test_three_brokers_form_one_quorum_over_three_zones(trio: Trio) -> None:
    trio.wait_settled()

    def led(body: Body) -> bool:
        return sum(b.get("leaders", 0) for b in body["status"]["brokers"]) >= 6

    status = trio.wait(led, "leaders of the topic's partitions")["status"]
    assert status["voters"] == [0, 1, 2]
    assert [b["state"] for b in status["brokers"]] == ["Running"] * 3
    assert [b["pod"] for b in status["brokers"]] == [f"{NAME}-brokers-{n}" for n in range(3)]
    assert sorted(b["rack"] for b in status["brokers"]) == ["zone-1", "zone-2", "zone-3"]
    assert status["controller"] in (0, 1, 2)
    assert status["underMinIsrPartitions"] == status["offlinePartitions"] == 0
    trio.produce()
    assert trio.read_all() == trio.sent
    row = trio.world.kube.kubectl("get", "cluster", NAME, "-n", trio.namespace, "--no-headers").stdout.split()
    assert row[1:3] == ["3", "3"]


def test_a_static_property_restarts_one_broker_after_the_other_the_controller_last(trio: Trio) -> None:
    before = trio.uids()
    controller = trio.wait_settled()["status"]["controller"]
    trio.patch({"config": {STATIC: "10"}})
    trio.world.wait_event(NAME, "PodHasOldRevision", trio.namespace)
    order: list[int] = []

    def all_restarted() -> bool:
        now = trio.uids()
        assert len(now) >= 2, "one at a time"
        order.extend(n for n, uid in now.items() if uid != before[n] and n not in order)
        return len(order) == 3

    wait_for(all_restarted, "three restarts", 150)
    trio.wait_settled()
    assert order[-1] == controller
    trio.produce()
    assert trio.read_all() == trio.sent


def test_a_broker_that_lost_its_volume_comes_back_empty_and_votes_again(trio: Trio) -> None:
    voters = trio.wait_settled()["status"]["voters"]
    before = trio.uids()
    claim = f"data-{NAME}-brokers-2"
    trio.world.delete("pvc", claim, "--wait=false", namespace=trio.namespace)
    trio.world.delete("pod", f"{NAME}-brokers-2", "--grace-period=0", "--force", namespace=trio.namespace)
    wait_for(lambda: trio.uids().get(2, before[2]) != before[2], "another pod", 120)
    trio.world.wait_event(NAME, "QuorumChanged", trio.namespace, 60)
    body = trio.wait_settled()
    assert body["status"]["voters"] == voters
    assert trio.read_all() == trio.sent


def test_a_lost_node_is_said_and_comes_back(trio: Trio) -> None:
    kube = trio.world.kube
    assert isinstance(kube, NamespacesCluster)
    trio.wait_settled()
    client = trio.world.get("pod", "client")
    assert client is not None
    lost = next(id for id in (2, 1) if trio.node_of(id) != client["spec"]["nodeName"])
    node = trio.node_of(lost)
    kube.stop_node(int(node.rpartition("-")[2]))
    try:
        told = trio.wait(lambda c: condition(c)["reason"] == "BrokerDown", "the node to be missed", 120)
        assert f"broker {lost}: {node} does not answer" in condition(told)["message"]
        trio.produce()
        assert trio.read_all() == trio.sent
    finally:
        kube.start_node(int(node.rpartition("-")[2]))
    trio.wait_settled(180)
    assert len(trio.uids()) == 3


def test_nodes_are_drained_one_broker_at_a_time(trio: Trio) -> None:
    trio.wait_settled()
    first, second = trio.node_of(0), trio.node_of(1)
    options = ["--ignore-daemonsets", "--delete-emptydir-data", "--force"]
    selector = f"--pod-selector=broadsheet.io/cluster={NAME}"
    kube = trio.world.kube
    try:
        done = kube.kubectl("drain", first, selector, *options, "--timeout=60s", check=False)
        assert done.returncode == 0, done.stderr
        refused = kube.kubectl("drain", second, selector, *options, "--timeout=6s", check=False)
        assert refused.returncode != 0, "one broker is away already"
        assert "disruption budget" in refused.stdout + refused.stderr
        assert len(trio.uids()) == 2
    finally:
        for node in (first, second):
            kube.kubectl("uncordon", node)
    trio.wait_settled()


def test_a_fourth_broker_is_added_filled_when_asked_and_drained(trio: Trio) -> None:
    before = trio.uids()
    affinity = {"podAntiAffinity": None}
    trio.patch({"brokers": {"template": {"affinity": affinity}, "replicas": 4}})
    trio.wait(lambda c: len(c["status"].get("brokers", ())) == 4, "a fourth broker")
    trio.wait_settled(180)
    assert trio.uids().keys() == {0, 1, 2, 3}
    kube = trio.world.kube
    kube.kubectl("annotate", "cluster", NAME, "-n", trio.namespace, "broadsheet.io/rebalance=now")
    trio.world.wait_event(NAME, "Rebalanced", trio.namespace, 90)
    filled = trio.wait(lambda c: c["status"]["brokers"][3].get("replicas"), "replicas on the fourth broker")
    assert filled["status"]["voters"] == [0, 1, 2]
    kube.kubectl("scale", "cluster", NAME, "-n", trio.namespace, "--replicas=3")
    trio.world.wait_event(NAME, "BrokerLeft", trio.namespace, 120)
    trio.world.wait_gone("pvc", f"data-{NAME}-brokers-3", trio.namespace)
    assert trio.wait_settled()["status"]["replicas"] == 3
    assert trio.read_all() == trio.sent
    assert before.keys() == trio.uids().keys()


def test_brokers_that_a_topic_needs_do_not_leave(trio: Trio) -> None:
    kube = trio.world.kube
    kube.kubectl("scale", "cluster", NAME, "-n", trio.namespace, "--replicas=2")
    told = trio.wait(lambda c: condition(c, "Stalled")["status"] == "True", "a refusal")
    assert "orders has replication factor 3" in condition(told)["message"]
    kube.kubectl("scale", "cluster", NAME, "-n", trio.namespace, "--replicas=3")
    trio.wait_settled()
    assert sorted(trio.uids()) == [0, 1, 2]
