"""The engine of a Cluster is exchanged by stopping, against the real API server; the test plays the kubelet."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from e2e.apiserver.operators import Kubelet, OperatorThread
from e2e.apiserver.server import REPOSITORY, Api, Refused
from e2e.apiserver.states import CALM, settled
from tests.support.fake_kafka import FakeKafka
from tests.support.waiting import wait_until

SPEC: dict[str, Any] = {"brokers": {"replicas": 4, "storage": {"size": "1Gi", "deletionPolicy": "Delete"}}}
APACHE: dict[str, Any] = {"engine": {"type": "apache-kafka", "version": "4.3.0", "exchange": "Stop"}}
OURS: dict[str, Any] = {"engine": {"type": "broadsheet", "exchange": "Stop"}}
ENGINE, PHASE = "broadsheet.io/engine", "broadsheet.io/exchange"


class Site:
    """A Cluster of four brokers, three of which vote."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.kubelet = Kubelet(api)

    def pods(self) -> list[int]:
        names = [pod["metadata"]["name"] for pod in self.api.list("Pod")]
        return sorted(int(name.rpartition("-")[2]) for name in names if name.startswith("news-brokers-"))

    def kafka(self, kafka: FakeKafka) -> None:
        """Brokers register when their pods run, and three vote."""
        kafka.pods = lambda: [0, 1, 2, 3]
        kafka.voters = [0, 1, 2]

    def make(self) -> None:
        self.api.resource("Cluster", "news", SPEC)
        self.kubelet.run("news")
        settled(self.api, "news")

    def annotation(self, name: str) -> str:
        found = self.api.one("StatefulSet", "news-brokers")["metadata"].get("annotations", {})
        return str(found.get(name, ""))

    def image(self) -> str:
        template = self.api.one("StatefulSet", "news-brokers")["spec"]["template"]
        return str(template["spec"]["containers"][0]["image"])

    def claims(self) -> dict[str, str]:
        found = self.api.list("PersistentVolumeClaim")
        return {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in found}

    def replicas(self, count: int) -> None:
        self._until(
            lambda: self.api.one("StatefulSet", "news-brokers")["spec"]["replicas"] == count, f"{count} replicas"
        )

    def stops(self) -> None:
        """The brokers stop, the voters last and together, and the other engine's may come."""
        for count in (3, 0):
            self.replicas(count)
            self.kubelet.stop("news")
        self.replicas(4)

    def words(self, words: str) -> None:
        self._until(lambda: words in self.api.one("Cluster", "news")["status"].get("exchange", ""), words)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(condition, what, 60)
        except TimeoutError as error:
            found = self.api.one("StatefulSet", "news-brokers")["metadata"].get("annotations")
            said = self.api.one("Cluster", "news").get("status")
            raise AssertionError(f"{error}; pods {self.pods()}, annotations {found}, status {said}") from None


@pytest.fixture
def site(api: Api) -> Site:
    return Site(api)


def test_each_step_goes_on_with_an_operator_that_has_seen_none_of_the_others(site: Site) -> None:
    """An operator begins, and ends, at each point; claims survive a deletionPolicy Delete; the image changes last."""
    api = site.api

    def operator() -> OperatorThread:
        made = OperatorThread(api.namespace, CALM)
        site.kafka(made.kafka)
        return made

    with operator():
        site.make()
        before = site.claims()
        assert site.annotation(ENGINE) == "broadsheet" and site.image() == "broker:1"
        api.resource("Cluster", "news", {**SPEC, **APACHE})
        site.replicas(3)
        assert site.annotation(PHASE) == "Stopping"
    with operator():
        site.words("waits until broker 3 has stopped")
        policy = api.one("StatefulSet", "news-brokers")["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    site.kubelet.stop("news")
    with operator():
        site.replicas(0)
        site.words("waits until brokers 0, 1, 2 have stopped")
        assert site.image() == "broker:1", "a broker that an eviction restarts now is still one of the old engine"
        assert [b["state"] for b in api.one("Cluster", "news")["status"]["brokers"]][3] == "Stopped"
        budget = api.one("PodDisruptionBudget", "news-brokers")
        assert budget["spec"]["maxUnavailable"] == 0
    api.call("DELETE", api.path("Pod", "news-brokers-0"), {"gracePeriodSeconds": 0})
    with operator():
        site.words("waits until brokers 1, 2 have stopped")
        site.kubelet.stop("news")
        site.replicas(4)
        assert site.annotation(ENGINE) == "apache-kafka 4.3.0" and site.image() == "apache/kafka:4.3.0"
        assert not site.pods()
    with operator():
        site.words("Apache Kafka 4.3.0 starts on the brokers' volumes: waits until brokers 0, 1, 2, 3 run")
        site.kubelet.run("news")
        done = settled(api, "news")
    assert done["status"]["engine"] == "apache-kafka 4.3.0" and "exchange" not in done["status"]
    assert not site.annotation(PHASE)
    assert site.claims() == before
    policy = api.one("StatefulSet", "news-brokers")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy["whenScaled"] == "Delete", "as declared again"


def test_the_readmes_command_has_a_cluster_taken_over_by_apache_kafka(site: Site) -> None:
    found = re.search(r"```console\n(kubectl patch cluster news .*?)```", (REPOSITORY / "README.md").read_text(), re.S)
    assert found is not None
    with OperatorThread(site.api.namespace, CALM) as operator:
        site.kafka(operator.kafka)
        site.make()
        command = shlex.split(found[1].replace("\\\n", ""))
        assert site.api.kubectl(*command[1:]) == "cluster.broadsheet.io/news patched\n"
        site.stops()
        assert site.annotation(ENGINE) == "apache-kafka 4.3.0" and site.image() == "apache/kafka:4.3.0"


def test_an_engine_that_is_set_back_while_brokers_stop_starts_again(site: Site) -> None:
    with OperatorThread(site.api.namespace, CALM) as operator:
        site.kafka(operator.kafka)
        site.make()
        site.api.resource("Cluster", "news", {**SPEC, **APACHE})
        site.replicas(3)
        site.kubelet.stop("news")
        site.replicas(0)
        site.api.resource("Cluster", "news", {**SPEC, **OURS})
        site.replicas(4)
        assert site.image() == "broker:1"
        site.kubelet.run("news")
        settled(site.api, "news")
    assert site.annotation(ENGINE) == "broadsheet" and not site.annotation(PHASE)
    assert ("EngineStarting", "engine.type was set back: Broadsheet starts again") in site.api.notes("news")


def test_brokers_that_cannot_start_say_why_and_the_engine_can_be_set_back(site: Site) -> None:
    with OperatorThread(site.api.namespace, CALM) as operator:
        site.kafka(operator.kafka)
        site.make()
        site.api.resource("Cluster", "news", {**SPEC, **APACHE})
        site.stops()
        operator.kafka.down = True
        site.kubelet.run("news")
        words = "the image has no /opt/kafka/bin/kafka-server-start.sh"
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}
        for number in site.pods():
            site.kubelet.ends(f"news-brokers-{number}", waiting, words)
        said = site.api.says("Cluster", "news", "Ready", words)
        assert "Apache Kafka 4.3.0 starts on the brokers' volumes: waits until broker" in said
        assert said.endswith("if they cannot, set engine.type back")
        site.api.resource("Cluster", "news", {**SPEC, **OURS})
        site.stops()
        operator.kafka.down = False
        site.kubelet.run("news")
        settled(site.api, "news")
    assert site.annotation(ENGINE) == "broadsheet" and site.image() == "broker:1"


def test_the_api_server_refuses_another_engine_without_an_exchange(site: Site) -> None:
    with OperatorThread(site.api.namespace, CALM) as operator:
        site.kafka(operator.kafka)
        site.make()
        with pytest.raises(Refused, match=r"engine\.exchange: Stop"):
            site.api.resource("Cluster", "news", {**SPEC, "engine": {"type": "apache-kafka", "version": "4.3.0"}})
        assert site.pods() == [0, 1, 2, 3]


def test_an_engine_that_one_field_manager_leaves_out_is_no_order_while_another_owns_the_exchange(site: Site) -> None:
    """A chart of Argo CD's without spec.engine stopped a cluster, since somebody had set the exchange by hand."""
    api = site.api
    metadata = {"name": "news", "namespace": api.namespace}
    body = {"apiVersion": "broadsheet.io/v1alpha1", "kind": "Cluster", "metadata": metadata}
    api.apply({**body, "spec": {**SPEC, "engine": {"type": "apache-kafka", "version": "4.3.0"}}}, "argocd-controller")
    api.apply({**body, "spec": {"engine": {"exchange": "Stop"}}})
    with pytest.raises(Refused, match=r"write both, or set engine\.type back"):
        api.apply({**body, "spec": SPEC}, "argocd-controller")


def test_everything_that_is_changed_together_with_the_engine_waits_for_it(site: Site) -> None:
    """Services led to a port on which no broker listened yet, so that the exchange never began."""
    api, closed = site.api, [{"schedule": "0 3 29 2 *", "duration": "1h"}]
    more = {"listeners": [{"name": "inner", "port": 9095}], "maintenanceWindows": closed, **APACHE}
    bigger = {"brokers": {**SPEC["brokers"], "replicas": 6, "resources": {"limits": {"memory": "2Gi"}}}, **more}

    def ports(service: str = "news-bootstrap") -> list[int]:
        return [port["port"] for port in api.one("Service", service)["spec"]["ports"]]

    with OperatorThread(api.namespace, CALM) as operator:
        site.kafka(operator.kafka)
        site.make()
        api.resource("Cluster", "news", bigger)
        site.words("waits for the maintenance window")
        assert ports() == [9092] and ports("news-brokers") == [9092, 9093]
        assert api.one("StatefulSet", "news-brokers")["spec"]["replicas"] == 4
        api.patch("Cluster", "news", {"spec": {"maintenanceWindows": None}})
        site.replicas(3)
        api.patch("Cluster", "news", {"spec": {"maintenanceWindows": closed, "brokers": {"replicas": 5}}})
        site.kubelet.stop("news")
        site.replicas(0)
        api.patch("StatefulSet", "news-brokers", {"spec": {"replicas": 2}})
        site.replicas(0)
        assert ports() == [9092] and site.annotation(ENGINE) == "broadsheet"
        site.kubelet.stop("news")
        site.replicas(4)
        assert ports() == [9095]
        site.kubelet.run("news")
        site.replicas(5)
        assert not site.annotation(PHASE)


def test_a_stateful_set_that_is_scaled_before_the_other_template_is_written_gets_no_other_template(site: Site) -> None:
    """No broker of Broadsheet is left behind with brokers of Apache Kafka beside it."""
    api = site.api
    with OperatorThread(api.namespace, CALM) as operator:
        site.kafka(operator.kafka)
        site.make()
    annotations = {ENGINE: "apache-kafka 4.3.0", PHASE: "Starting", "broadsheet.io/exchange-brokers": "4"}
    policy = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    scaled = {"replicas": 2, "persistentVolumeClaimRetentionPolicy": policy}
    api.patch("StatefulSet", "news-brokers", {"metadata": {"annotations": annotations}, "spec": scaled})
    api.resource("Cluster", "news", {**SPEC, **APACHE})
    site.kubelet.stop("news")
    with OperatorThread(api.namespace, CALM) as operator:
        site.kafka(operator.kafka)
        site.replicas(0)
        site.words("waits until the StatefulSet's controller has seen that no broker is to run")
        assert site.pods() == [0, 1] and site.image() == "broker:1"
        site.kubelet.stop("news")
        site.replicas(4)
        assert site.image() == "apache/kafka:4.3.0" and not site.pods()
        site.kubelet.run("news")
        settled(api, "news")
