"""Clusters of several brokers: formed over zones, restarted by partition, drained, grown, and one node short."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator

import pytest

from e2e.operator.pages import Reader
from e2e.operator.world import (
    OPERATOR_NAMESPACE,
    Body,
    World,
    condition,
    is_at_rest,
    is_ready,
    machines,
    resource,
    unique,
)

NAME = "news"
"""As in the how-to pages, which these tests follow."""
SOON = [
    {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
    for taint in ("not-ready", "unreachable")
]
"""Kubernetes gives pods on a lost node up after five minutes by default; a test has no such time."""
SPREAD = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                # With the name: the canary's pod has the label of its Cluster, too, and may run beside a broker.
                "labelSelector": {
                    "matchLabels": {"app.kubernetes.io/name": "broadsheet", "broadsheet.io/cluster": NAME}
                },
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }
}
STATIC = "group.initial.rebalance.delay.ms"
FAR_AWAY = {"schedule": "0 0 29 2 *", "duration": "1m"}
"""A maintenance window that no test sees open."""
ALWAYS = {"schedule": "* * * * *", "duration": "1h"}


class Trio:
    """A Cluster of three brokers in a namespace of its own."""

    def __init__(self, world: World, folder: pathlib.Path) -> None:
        self.world = world
        self.folder = folder
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
        spec = {"brokers": brokers, "config": {STATIC: "0"}, "canary": {"interval": "200ms", "maxLatency": "5s"}}
        world.apply(world.cluster(NAME, spec, self.namespace))
        world.wait("cluster", NAME, is_ready, self.namespace, 120)
        world.apply(
            resource("Topic", "orders", {"cluster": NAME, "partitions": 6, "replicationFactor": 3}, self.namespace)
        )
        world.wait("topic", "orders", is_ready, self.namespace)

    def reader(self, page: str) -> Reader:
        return Reader(self.world.kube, f"how-to/{page}.md", self.namespace, self.folder)

    def patch(self, spec: dict[str, object]) -> None:
        self.world.patch("cluster", NAME, spec, self.namespace)

    def wait(self, until: object, what: str, seconds: float = 90) -> Body:
        assert callable(until)
        return self.world.wait("cluster", NAME, until, self.namespace, seconds, what)

    def wait_topic(self, until: object, what: str, seconds: float = 90) -> Body:
        assert callable(until)
        return self.world.wait("topic", "orders", until, self.namespace, seconds, what)

    def wait_settled(self, seconds: float = 120) -> Body:
        return self.wait(is_at_rest, "a Cluster at rest", seconds)

    def produce(self, count: int = 30) -> None:
        self.sent += count
        self.world.client("produce", "orders", str(count), unique("r"), bootstrap=self.bootstrap)

    def fill(self, megabytes: int) -> None:
        """Enough that a copy under a limit takes a while."""
        self.sent += self.world.client("fill", "orders", str(megabytes), bootstrap=self.bootstrap)

    def is_limited(self) -> bool:
        """Whether the topic says that the copying of its replicas is limited."""
        own = self.world.client("describe", "orders", bootstrap=self.bootstrap)["overrides"]
        return "follower.replication.throttled.replicas" in own

    def read_all(self) -> int:
        read = self.world.client("consume", "orders", unique("readers"), str(self.sent), bootstrap=self.bootstrap)
        return len(read)

    def uids(self) -> dict[int, str]:
        """Uid of each broker's pod that is ready."""
        selector = f"app.kubernetes.io/name=broadsheet,broadsheet.io/cluster={NAME}"
        found = self.world.kube.get("pods", "-n", self.namespace, "-l", selector)["items"]
        return {
            int(pod["metadata"]["name"].rpartition("-")[2]): pod["metadata"]["uid"]
            for pod in found
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        }

    def canary(self, name: str) -> dict[int, float]:
        """A metric of the canary by broker; empty while it does not answer."""
        selector = "app.kubernetes.io/name=broadsheet-canary"
        pods = self.world.kube.get("pods", "-n", self.namespace, "-l", selector)["items"]
        for pod in pods:
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}:9404/proxy/metrics"
            text = self.world.kube.kubectl("get", "--raw", path, check=False).stdout
            found = re.findall(rf'^broadsheet_canary_{name}{{broker="(\d+)"}} (\S+)$', text, re.MULTILINE)
            if found:
                return {int(broker): float(value) for broker, value in found}
        return {}

    def node_of(self, broker: int) -> str:
        pod = self.world.get("pod", f"{NAME}-brokers-{broker}", self.namespace)
        assert pod is not None
        return str(pod["spec"]["nodeName"])


@pytest.fixture(scope="module")
def trio(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    trio = Trio(world, tmp_path_factory.mktemp("trio"))
    yield trio
    world.kube.kubectl("delete", "namespace", trio.namespace, "--wait=false")


@pytest.fixture(scope="module")
def growing(trio: Trio) -> Reader:
    """The page about scaling, for the tests that go through it one after the other."""
    return trio.reader("scale")


def test_three_brokers_form_one_quorum_over_three_zones(trio: Trio) -> None:
    trio.wait_settled()

    def led(body: Body) -> bool:
        return sum(b.get("leaders", 0) for b in body["status"]["brokers"]) >= 6

    status = trio.wait(led, "leaders of the topic's partitions")["status"]
    assert status["voters"] == [0, 1, 2]
    assert [b["state"] for b in status["brokers"]] == ["Running"] * 3
    assert [b["pod"] for b in status["brokers"]] == [f"{NAME}-brokers-{n}" for n in range(3)]
    assert len({b["rack"] for b in status["brokers"]}) == 3
    assert status["controller"] in (0, 1, 2)
    assert status["underMinIsrPartitions"] == status["offlinePartitions"] == 0
    trio.produce()
    assert trio.read_all() == trio.sent
    row = trio.world.kube.kubectl("get", "cluster", NAME, "-n", trio.namespace, "--no-headers").stdout.split()
    assert row[1:3] == ["3", "3"]


def test_the_canary_writes_and_reads_over_every_broker(trio: Trio) -> None:
    told = trio.wait(lambda c: condition(c, "CanaryHealthy")["status"] == "True", "a healthy canary", 60)
    assert condition(told, "CanaryHealthy")["message"] == "records pass through 3 brokers; 99 % of them within 5s"
    trio.world.wait_until(lambda: set(trio.canary("records_consumed_total")) == {0, 1, 2}, "records of each broker")
    assert set(trio.canary("broker_available").values()) == {1.0}
    assert told["status"]["topics"] == 1, "its own topic is not counted"
    endpoints = trio.world.kube.get("endpoints", f"{NAME}-bootstrap", "-n", trio.namespace)
    addresses = [a["targetRef"]["name"] for subset in endpoints["subsets"] for a in subset["addresses"]]
    assert sorted(addresses) == [f"{NAME}-brokers-{n}" for n in range(3)], "no client is sent to the canary"


def test_every_line_of_a_log_is_json(trio: Trio) -> None:
    kube = trio.world.kube
    pods = [(trio.namespace, p["metadata"]["name"]) for p in kube.get("pods", "-n", trio.namespace)["items"]]
    pods += [(OPERATOR_NAMESPACE, p["metadata"]["name"]) for p in trio.world.operator_pods()]
    silent = []
    for namespace, name in pods:
        lines = kube.kubectl("logs", name, "-n", namespace).stdout.splitlines()
        silent += [] if lines else [name]
        for line in lines:
            assert {"time", "level", "logger", "message"} <= json.loads(line).keys(), f"{name}: {line}"
    assert len(pods) - len(silent) >= 5, f"an operator that stands by has nothing to say; silent are {silent}"


def test_outside_of_the_windows_nothing_restarts_or_moves_and_the_status_says_so(trio: Trio) -> None:
    before = trio.uids()
    trio.wait_settled()
    trio.patch({"maintenanceWindows": [FAR_AWAY], "config": {STATIC: "10"}})
    waits = "waits for the maintenance window that opens"
    told = trio.wait(lambda c: waits in c["status"].get("rollout", ""), "a restart that waits")
    assert told["status"]["maintenanceWindow"].startswith(waits)
    assert condition(told)["status"] == "True"
    event = trio.world.wait_event(NAME, "RolloutWaits", trio.namespace)
    assert waits in event["note"]
    trio.world.patch("topic", "orders", {"replicationFactor": 2}, trio.namespace)
    held = trio.wait_topic(lambda t: condition(t)["reason"] == "WaitingForMaintenanceWindow", "a move that waits")
    assert f"give 6 partitions 2 replicas each: {waits}" in condition(held)["message"]
    assert held["status"]["replicationFactor"] == 3
    page = trio.reader("maintenance-windows")
    assert page.next("kubectl get cluster").count(waits) == 2
    assert waits in page.next("kubectl get topic")
    page.end()
    assert trio.uids() == before


def test_in_a_window_one_broker_restarts_after_the_other_the_controller_last(trio: Trio) -> None:
    """After the test before: a restart and a smaller replication factor wait."""
    before = trio.uids()
    controller = trio.wait(lambda c: not c["status"].get("underReplicatedPartitions"), "rest")["status"]["controller"]
    trio.patch({"maintenanceWindows": [ALWAYS]})
    trio.world.wait_event(NAME, "PodHasOldRevision", trio.namespace)
    order: list[int] = []

    def all_restarted() -> bool:
        now = trio.uids()
        assert len(now) >= 2, "one at a time"
        order.extend(n for n, uid in now.items() if uid != before[n] and n not in order)
        return len(order) == 3

    passed = trio.canary("records_produced_total")
    trio.world.wait_until(all_restarted, "three restarts", 150)
    trio.wait_settled()
    trio.world.wait_until(
        lambda: set(trio.canary("broker_available").values()) == {1.0}, "records through all three", 60
    )
    trio.wait(lambda c: condition(c, "CanaryHealthy")["status"] == "True", "a healthy canary")
    assert set(trio.canary("records_lost_total").values()) == {0.0}
    after, failed = trio.canary("records_produced_total"), trio.canary("records_failed_total")
    written = sum(after.values()) - sum(passed.values())
    print(f"canary in a rolling change: {written:.0f} records written, {sum(failed.values()):.0f} failed, none lost")
    assert written > 100 and sum(failed.values()) <= written / 100
    assert order[-1] == controller
    two = trio.wait_topic(lambda t: is_ready(t) and t["status"]["inSync"] == "12/12", "two replicas, all in sync")
    assert two["status"]["replicationFactor"] == 2
    trio.produce()
    assert trio.read_all() == trio.sent


def test_a_replication_factor_grows_under_a_limit_and_the_status_tells_how_far_it_is(trio: Trio) -> None:
    trio.fill(18)
    trio.patch({"maintenanceWindows": None, "reassignment": {"throttle": "200k"}})
    page = trio.reader("change-replication-factor")
    page.next("kubectl patch topic")
    page.next("kubectl wait topic")
    page.next("kubectl patch topic")
    told = trio.wait_topic(lambda t: (t["status"].get("reassignment") or {}).get("percent"), "progress")
    moves = told["status"]["reassignment"]
    assert (moves["throttle"], told["status"]["replicationFactor"]) == ("200k", 2)
    assert 0 < moves["percent"] < 100
    assert condition(told)["reason"] == "Reassigning"
    assert trio.is_limited()
    page.next("kubectl get topic")
    assert "still to be copied" in page.next("kubectl get topic")
    page.next("kubectl patch cluster")
    page.next("kubectl wait topic")
    page.end()
    all_in_sync = "three replicas, all in sync"
    status = trio.wait_topic(lambda t: is_ready(t) and t["status"]["inSync"] == "18/18", all_in_sync)["status"]
    assert status["replicationFactor"] == 3
    assert "reassignment" not in status
    assert not trio.is_limited()
    assert trio.read_all() == trio.sent


def test_a_broker_that_lost_its_volume_comes_back_empty_and_votes_again(trio: Trio) -> None:
    voters = trio.wait_settled()["status"]["voters"]
    before = trio.uids()
    claim = f"data-{NAME}-brokers-2"
    trio.world.delete("pvc", claim, "--wait=false", namespace=trio.namespace)
    trio.world.delete("pod", f"{NAME}-brokers-2", "--grace-period=0", "--force", namespace=trio.namespace)
    trio.world.wait_until(lambda: trio.uids().get(2, before[2]) != before[2], "another pod", 120)

    def votes_again() -> bool:
        notes = [event["note"] for event in trio.world.events(NAME, trio.namespace)]
        return "add broker 2 to the metadata quorum" in notes

    trio.world.wait_until(votes_again, "broker 2 to vote again", 60)
    body = trio.wait_settled()
    assert body["status"]["voters"] == voters
    assert trio.read_all() == trio.sent


@pytest.mark.machines("takes the power from a node")
def test_a_lost_node_is_said_and_comes_back(trio: Trio) -> None:
    kube = machines(trio.world.kube)
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


def test_a_fourth_broker_is_added_and_filled_when_asked(trio: Trio, growing: Reader) -> None:
    trio.patch({"brokers": {"template": {"affinity": {"podAntiAffinity": None}}}})  # there are three nodes
    growing.next("kubectl scale cluster")
    growing.next("kubectl wait cluster")
    trio.wait_settled(180)
    assert trio.uids().keys() == {0, 1, 2, 3}
    growing.next("kubectl annotate cluster")
    assert NAME in growing.next("kubectl get cluster")
    trio.world.wait_event(NAME, "Rebalanced", trio.namespace, 90)
    filled = trio.wait(lambda c: c["status"]["brokers"][3].get("replicas"), "replicas on the fourth broker")
    assert filled["status"]["voters"] == [0, 1, 2]


def test_a_drain_under_a_limit_is_taken_back_and_one_whose_operator_is_killed_goes_on(
    trio: Trio, growing: Reader
) -> None:
    """After the test before: there are four brokers."""
    world = trio.world
    trio.patch({"reassignment": {"throttle": "100k"}})

    def drains(body: Body) -> bool:
        words = body["status"].get("scaling", "")
        return words.startswith("draining broker 3: ") and "at most 100k/s per broker" in words

    growing.next("kubectl scale cluster")
    trio.wait(drains, "a drain")
    assert "draining broker 3" in growing.next("kubectl get cluster")
    trio.world.wait_until(trio.is_limited, "a limit on what moves", 30)
    growing.next("kubectl scale cluster")
    growing.end()
    back = trio.wait_settled()
    assert back["status"]["replicas"] == 4
    assert trio.uids().keys() == {0, 1, 2, 3}
    assert back["status"]["brokers"][3]["replicas"] > 0, "what had not been moved stays"
    assert not trio.is_limited()

    world.kube.kubectl("scale", "cluster", NAME, "-n", trio.namespace, "--replicas=3")
    trio.wait(drains, "another drain")
    killed = world.kill_operator()
    trio.world.wait_until(lambda: world.leader() not in ("", killed), "another operator to lead", 60)
    trio.wait(drains, "the same drain")
    trio.patch({"reassignment": {"throttle": "unlimited"}})
    world.wait_event(NAME, "BrokerLeft", trio.namespace, 120)
    world.wait_gone("pvc", f"data-{NAME}-brokers-3", trio.namespace)
    assert trio.wait_settled()["status"]["replicas"] == 3
    assert not trio.is_limited()
    assert trio.read_all() == trio.sent
    assert trio.uids().keys() == {0, 1, 2}


def test_brokers_that_a_topic_needs_do_not_leave(trio: Trio) -> None:
    kube = trio.world.kube
    kube.kubectl("scale", "cluster", NAME, "-n", trio.namespace, "--replicas=2")
    told = trio.wait(lambda c: condition(c, "Stalled")["status"] == "True", "a refusal")
    assert "orders has replication factor 3" in condition(told)["message"]
    kube.kubectl("scale", "cluster", NAME, "-n", trio.namespace, "--replicas=3")
    trio.wait_settled()
    assert sorted(trio.uids()) == [0, 1, 2]
