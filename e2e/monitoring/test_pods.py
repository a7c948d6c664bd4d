"""Monitoring on a real Kubernetes: the chart's PodMonitors find the pods, and no planned change raises an alert.

Prometheus runs beside the control plane and reaches the pods by their addresses. The alerts have their real `for`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.monitoring.panels import ON_KUBERNETES, Panels
from e2e.monitoring.pods import ports, scrape_job
from e2e.monitoring.prometheus import EXAMPLE, Prometheus
from e2e.operator.providers import REPOSITORY, Kubernetes
from e2e.operator.world import OPERATOR_NAMESPACE, World, is_at_rest, is_ready, resource
from tests.support.waiting import wait_until
from tools.alerts.table import ALERTS

pytestmark = pytest.mark.machines("Prometheus runs beside the pods")

NAMESPACE, CLUSTER = "watched", "gazette"
STATIC = "group.initial.rebalance.delay.ms"
OF_A_CHANGE = {"UnderReplicatedPartitions", "BrokerDown", "OfflinePartitions", "UnderMinIsrPartitionCount"}
"""What a planned change brings with it: the operator says so, and these are not even pending for long."""


def render(kube: Kubernetes, *settings: str) -> list[dict[str, Any]]:
    """What the chart makes with these values."""
    chart = str(REPOSITORY / "charts/broadsheet")
    options = [part for setting in settings for part in ("--set", setting)]
    done = kube.run(["helm", "template", "broadsheet", chart, "--namespace", OPERATOR_NAMESPACE, *options])
    assert done.returncode == 0, done.stderr
    return [body for body in yaml.safe_load_all(done.stdout) if body]


def monitors(kube: Kubernetes) -> list[dict[str, Any]]:
    bodies = render(kube, "podMonitor.enabled=true", "podMonitor.labels.release=prometheus")
    found = [body for body in bodies if body["kind"] == "PodMonitor"]
    assert all(body["metadata"]["labels"]["release"] == "prometheus" for body in found)
    return found


class Discovery(threading.Thread):
    """Lists pods every second or so and gives them to Prometheus."""

    def __init__(self, kube: Kubernetes, prometheus: Prometheus) -> None:
        super().__init__(daemon=True)
        self._kube = kube
        self._prometheus = prometheus
        self.ends = threading.Event()

    def run(self) -> None:
        while not self.ends.wait(1.5):
            self._prometheus.scrape(ports(self._kube.get("pods", "-A")["items"]))


@pytest.fixture(scope="module")
def prometheus(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    kube = world.kube

    def fetch(url: str) -> str:
        done = kube.run(["curl", "--silent", "--show-error", "--max-time", "10", url])
        if done.returncode:
            raise OSError(done.stderr)
        return done.stdout

    jobs = [scrape_job(monitor) for monitor in monitors(kube)]
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(folder, interval="2s", factor=1.0, jobs=jobs, spawn=kube.popen, fetch=fetch) as prometheus:
        discovery = Discovery(kube, prometheus)
        discovery.start()
        yield prometheus
        discovery.ends.set()
        discovery.join(30)


@pytest.fixture(scope="module")
def gazette(world: World) -> Iterator[World]:
    """A Cluster of three brokers with a topic."""
    world.kube.kubectl("create", "namespace", NAMESPACE)
    brokers = {
        "replicas": 3,
        "storage": {"size": "1Gi", "deletionPolicy": "Delete"},
        "rack": {"topologyKey": "topology.kubernetes.io/zone"},
    }
    spec = {"brokers": brokers, "config": {STATIC: "0"}, "canary": {}}
    world.apply(world.cluster(CLUSTER, spec, NAMESPACE))
    world.wait("cluster", CLUSTER, is_at_rest, NAMESPACE, 120 * world.engine.patience)
    topic = {"cluster": CLUSTER, "partitions": 6, "replicationFactor": 3, "minInSyncReplicas": 2}
    world.apply(resource("Topic", "orders", topic, NAMESPACE))
    world.apply(resource("ConsumerGroup", "billing", {"cluster": CLUSTER}, NAMESPACE))
    world.wait("topic", "orders", is_ready, NAMESPACE)
    bootstrap = f"{CLUSTER}-bootstrap.{NAMESPACE}.svc:9092"
    world.client("produce", "orders", "100", "r", bootstrap=bootstrap)
    world.client("consume", "orders", "billing", "100", bootstrap=bootstrap)
    yield world
    # Gone while the operator is there, which takes the volumes away: a test that removes the operator may follow.
    world.kube.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", timeout=130)


@pytest.fixture(scope="module")
def panels(prometheus: Prometheus) -> Iterator[Panels]:
    panels = Panels(prometheus)
    yield panels
    print("\nwhat each panel was answered by, on Kubernetes:\n" + "\n".join(panels.table()))


def settle(world: World, was: int) -> None:
    """Until all three brokers are ready, and in a later generation of work than before."""
    world.wait(
        "cluster",
        CLUSTER,
        lambda c: is_at_rest(c) and c["metadata"]["generation"] >= was,
        NAMESPACE,
        150 * world.engine.patience,
    )


def longest_pending(prometheus: Prometheus, since: float) -> dict[str, float]:
    """Seconds for which each alert was pending without a break since then, and the word `firing` as infinity."""
    longest: dict[str, float] = {}
    for labels, values in prometheus.ask_range("ALERTS", since, time.time(), 1):
        name = labels["alertname"]
        if labels["alertstate"] == "firing":
            longest[name] = float("inf")
            continue
        run, before = 0.0, -1.0
        for at in sorted(values):
            run = run + 1 if at - before <= 1 else 1
            before = at
            longest[name] = max(longest.get(name, 0.0), run)
    return longest


def test_the_documented_scrape_configuration_is_the_podmonitors(world: World) -> None:
    """For brokers and canaries exactly; the operator's PodMonitor is narrower: its own release in its own namespace."""
    brokers, operator = sorted((scrape_job(m) for m in monitors(world.kube)), key=lambda job: str(job["job_name"]))
    documented = {job["job_name"]: job for job in yaml.safe_load(EXAMPLE.read_text())["scrape_configs"]}
    assert brokers == documented["broadsheet-brokers"]
    for rule in documented["broadsheet-operator"]["relabel_configs"]:
        assert rule in operator["relabel_configs"], rule
    assert operator["honor_labels"] is documented["broadsheet-operator"]["honor_labels"] is True


def test_the_chart_ships_dashboards_and_rules(world: World) -> None:
    settings = ("dashboards.enabled=true", "prometheusRule.enabled=true", "runbookUrl=https://wiki/runbooks")
    disabled = "prometheusRule.disabled={BrokerOverloaded}"
    bodies = render(world.kube, *settings, disabled, "prometheusRule.alertLabels.team=platform")
    boards = [body for body in bodies if body["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    assert len(boards) == 7
    world.kube.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(boards))
    (rule,) = [body for body in bodies if body["kind"] == "PrometheusRule"]
    alerts = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert {alert["alert"] for alert in alerts} == {alert.name for alert in ALERTS} - {"BrokerOverloaded"}
    assert all(alert["labels"]["team"] == "platform" for alert in alerts)
    assert all(alert["annotations"]["runbook_url"].startswith("https://wiki/runbooks/") for alert in alerts)
    assert "github.com" not in yaml.safe_dump_all([*boards, rule])


def test_pods_are_found_with_their_labels(gazette: World, prometheus: Prometheus, panels: Panels) -> None:
    def seen() -> set[tuple[str, str, str]]:
        rows = prometheus.ask("up == 1")
        return {(s.labels.get("job", ""), s.labels["namespace"], s.labels.get("cluster", "")) for s in rows}

    jobs = ("broadsheet-broker", "broadsheet-canary")
    wanted = {*((job, NAMESPACE, CLUSTER) for job in jobs), ("broadsheet-operator", OPERATOR_NAMESPACE, "")}
    wait_until(lambda: seen() >= wanted, f"{wanted} to be scraped", 60, 0.5)
    brokers = f'count(up{{job="broadsheet-broker", namespace="{NAMESPACE}", cluster="{CLUSTER}"}} == 1) == 3'
    wait_until(lambda: prometheus.ask(brokers), "three brokers to be scraped", 40, 0.5)
    # The leading operator may have been scraped last before it had seen the Cluster; it keeps the Cluster's namespace.
    ready = f'broadsheet_cluster_ready_brokers{{namespace="{NAMESPACE}", cluster="{CLUSTER}"}} == 3'
    wait_until(lambda: len(prometheus.ask(ready)) == 1, "the operator's figure of the Cluster's namespace", 40, 0.5)
    panels.wait("overview", "Which cluster is it?", lambda s: s.labels.get("cluster") == CLUSTER and s.value == 3)
    panels.wait("canary", "Which broker does not serve, and since when?", lambda s: s.value == 1, 60)
    panels.look("three brokers at rest")


def test_a_rolling_change_raises_no_alert(gazette: World, prometheus: Prometheus, panels: Panels) -> None:
    began = time.time()
    generation = gazette.get("cluster", CLUSTER, NAMESPACE)["metadata"]["generation"]  # type: ignore[index]
    gazette.patch("cluster", CLUSTER, {"config": {STATIC: "1"}}, NAMESPACE)
    panels.wait("overview", "Planned change", seconds=60)
    panels.wait("overview", "Brokers not ready", seconds=60)
    panels.look("a rolling change")
    settle(gazette, generation + 1)
    wait_until(
        lambda: prometheus.ask("max(broadsheet_cluster_rolling) == 0"), "the change to be over in the metrics", 30, 0.5
    )
    panels.wait("operator", "Which brokers did it restart in the last day, and why?")
    panels.look("after a rolling change")
    _nothing_fired(prometheus, began, "a rolling change")


def test_a_drained_node_raises_no_alert(gazette: World, prometheus: Prometheus, panels: Panels) -> None:
    began = time.time()
    pod = gazette.get("pod", f"{CLUSTER}-brokers-1", NAMESPACE)
    assert pod is not None
    node = pod["spec"]["nodeName"]
    selector = f"broadsheet.io/cluster={CLUSTER}"
    gazette.kube.kubectl("drain", node, "--pod-selector", selector, "--delete-emptydir-data", "--ignore-daemonsets",
                         "--timeout=60s")  # fmt: skip
    try:
        panels.wait("overview", "Brokers not ready", seconds=30)
        panels.look("a drained node")
    finally:
        gazette.kube.kubectl("uncordon", node)
    settle(gazette, 0)
    _nothing_fired(prometheus, began, "a drained node")


def test_the_panels_of_the_overview_are_answered(panels: Panels) -> None:
    """On Kubernetes each of them has data, but for those that show nothing while nothing is wrong."""
    panels.look("afterwards")
    quiet = {"overview: Which alerts fire?"}
    assert {where for where in panels.unanswered() if where.startswith("overview")} <= quiet
    assert ON_KUBERNETES & set(panels.unanswered()) == set()


def _nothing_fired(prometheus: Prometheus, began: float, what: str) -> None:
    pending = longest_pending(prometheus, began)
    print(f"\n{what}: {time.time() - began:.0f} s; alerts that were pending, in seconds: {pending}")
    waits = {alert.name: alert.wait for alert in ALERTS}
    assert {name for name, seconds in pending.items() if seconds == float("inf")} == set()
    late = {name: s for name, s in pending.items() if name in OF_A_CHANGE and s > max(10.0, waits[name] / 4)}
    assert late == {}, "the operator says too late that a change is planned"
