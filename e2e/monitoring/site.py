"""Three broker processes, an operator on a real API server, clients, and a Prometheus that scrapes them as pods.

The brokers are an external Cluster, `press`; Prometheus sees each as the pod that it would be on Kubernetes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from e2e.apache.agent import WatchedKafka
from e2e.apiserver.operators import Kubelet
from e2e.apiserver.server import Api, ApiServer, namespace
from e2e.brokers import Brokers
from e2e.faults.disk import SmallDisk
from e2e.monitoring.panels import Panels
from e2e.monitoring.prometheus import Pod, Prometheus
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_until

HOME = "paper"
CLUSTER = "press"
DISK_BYTES = 96 * 1024 * 1024
HOUR_MS = 3_600_000
RECORD = b"x" * 1000
TOPICS = {"orders": (6, 3), "ledger": (3, 2), "single": (3, 1), "archive": (1, 3)}
"""Partitions and replicas. min.insync.replicas is 2: `ledger` stops with any of its brokers. `single` is not on
broker 3, whose disk is filled: a broker steps aside only if others have everything that it has."""
GROUPS = {"billing": "orders", "slow": "archive", "stuck": "ledger"}


SMALL = {"log.segment.bytes": "1048576", "log.retention.bytes": "2097152", "log.retention.check.interval.ms": "3000"}
"""Little is kept, so that a disk fills only when the test fills it."""


class Site:
    """Everything, started by `running`."""

    cluster_spec: dict[str, Any]
    """Of the Cluster that is declared."""

    def __init__(self, folder: Path, api: Api, brokers: Brokers, prometheus: Prometheus) -> None:
        self.folder = folder
        self.api = api
        self.brokers = brokers
        self.cluster_spec = {"external": {"bootstrapServers": brokers.bootstrap.split(",")}}
        self.prometheus = prometheus
        self.panels = Panels(prometheus)
        self.operator_port = free_port()
        self.canary_port = free_port()
        self._operator: subprocess.Popen[bytes] | None = None
        self._canary: subprocess.Popen[bytes] | None = None
        self._ends = threading.Event()
        self._threads: list[threading.Thread] = []

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for topic, (partitions, replicas) in TOPICS.items():
            if topic != "single":
                self.brokers.create(topic, partitions, replicas)
        single = NewTopic("single", 3, replica_assignment=[[2], [1], [2]], config={"min.insync.replicas": "1"})
        admin = self.brokers.admin()
        admin.create_topics([single])["single"].result(30)
        self._run(self._produce)
        self._run(self._consume, "billing", "orders", 0.0)
        self.start_operator()
        self.start_canary()
        brokers = [_pod(broker) for broker in self.brokers.brokers.values()]
        self.prometheus.scrape([*brokers, self._operator_pod(), self._canary_pod()])
        self.declare()

    def start_operator(self) -> None:
        command = [sys.executable, "-m", "e2e.monitoring.operator_program", str(self.operator_port)]
        command += ["--broker-image=broker:1", f"--namespace={self.api.namespace}"]
        command += [f"--lease-namespace={self.api.namespace}"]
        environment = {**os.environ, "KUBECONFIG": str(self.api.server.kubeconfig), "POD_NAME": "operator-0"}
        environment["BROADSHEET_E2E_BOOTSTRAP"] = self.brokers.bootstrap
        with (self.folder / "operator.log").open("ab") as log:
            self._operator = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start_canary(self) -> None:
        command = [sys.executable, "-m", "broadsheet_operator.cli", "canary", "--interval=500ms"]
        command += [f"--bootstrap-servers={self.brokers.bootstrap}", f"--http=127.0.0.1:{self.canary_port}"]
        with (self.folder / "canary.log").open("ab") as log:
            self._canary = subprocess.Popen(command, stdout=log, stderr=log)

    def signal_operator(self, what: signal.Signals) -> None:
        assert self._operator is not None
        self._operator.send_signal(what)

    def declare(self) -> None:
        """The resources of a team."""
        self.api.resource("Cluster", CLUSTER, self.cluster_spec)
        for topic, (partitions, replicas) in TOPICS.items():
            spec: dict[str, Any] = {"cluster": CLUSTER, "partitions": partitions, "replicationFactor": replicas}
            self.api.resource("Topic", topic, {**spec, "adoption": "Always"})
        for group in GROUPS:
            self.api.resource("ConsumerGroup", group, {"cluster": CLUSTER, "lag": {"window": "5s"}})

    def close(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(20)
        if self._operator is not None:
            with contextlib.suppress(ProcessLookupError):
                self._operator.send_signal(signal.SIGCONT)
            self._operator.terminate()
            self._operator.wait(30)
        if self._canary is not None:
            self._canary.terminate()
            self._canary.wait(30)

    def last_words(self) -> str:
        return "\n".join((self.folder / "operator.log").read_text(errors="replace").splitlines()[-40:])

    # -- volumes -------------------------------------------------------------------------------------------------------

    def keep_volumes(self) -> None:
        """Copy what the brokers, which do not run, have on their disks: a snapshot of all volumes."""
        for number, volume in self._volumes().items():
            shutil.copytree(volume, self.folder / f"snapshot-{number}", dirs_exist_ok=True)

    def put_back_volumes(self) -> None:
        """Give the brokers, which do not run, the disks that they had then."""
        for number, volume in self._volumes().items():
            for found in volume.iterdir():
                shutil.rmtree(found) if found.is_dir() else found.unlink()
            shutil.copytree(self.folder / f"snapshot-{number}", volume, dirs_exist_ok=True)

    disk: SmallDisk
    """Of broker 3."""

    def _volumes(self) -> dict[int, Path]:
        return {n: broker.log_dir for n, broker in self.brokers.brokers.items()} | {3: self.disk.root}

    # -- clients -------------------------------------------------------------------------------------------------------

    def slow_consumer(self) -> None:
        """Records that are an hour old, and a group that reads one of them a second."""
        producer = Producer({"bootstrap.servers": self.brokers.bootstrap, "log_level": 0})
        begin = int(time.time() * 1000) - HOUR_MS
        for number in range(5000):
            producer.produce("archive", f"record {number}".encode(), timestamp=begin + number)
        producer.flush(30)
        self._run(self._consume, "slow", "archive", 1.0)

    def stuck_consumer(self) -> None:
        """A group with a member that commits nothing although records wait."""
        self._run(self._consume, "stuck", "ledger", -1.0)

    def _run(self, work: Any, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _produce(self) -> None:
        """About 200 records of 1 KB a second to each topic but `archive`, whatever happens to the brokers."""
        producer = Producer(
            {"bootstrap.servers": self.brokers.bootstrap, "log_level": 0, "acks": "all", "message.timeout.ms": 5000}
        )
        while not self._ends.wait(0.05):
            for topic in ("orders", "ledger", "single"):
                for number in range(10):
                    with contextlib.suppress(BufferError, KafkaException):
                        producer.produce(topic, RECORD, key=str(number))
            producer.poll(0)

    def _consume(self, group: str, topic: str, pause: float) -> None:
        """Read and commit; with a pause after each record, or never a commit if the pause is negative."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.brokers.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                "enable.auto.commit": False, "session.timeout.ms": 6000, "log_level": 0,
            }
        )  # fmt: skip
        consumer.subscribe([topic])
        committed = 0.0
        while not self._ends.is_set():
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            if (pause >= 0 and time.monotonic() - committed > 0.5) or (pause < 0 and not committed):
                with contextlib.suppress(KafkaException):
                    consumer.commit(asynchronous=False)
                committed = time.monotonic()
            self._ends.wait(max(0.0, pause))
        consumer.close()

    def _operator_pod(self) -> Pod:
        labels = {"app.kubernetes.io/name": "broadsheet-operator"}
        return Pod(f"127.0.0.1:{self.operator_port}", "broadsheet", "operator-0", labels)

    def _canary_pod(self) -> Pod:
        return Pod(f"127.0.0.1:{self.canary_port}", HOME, f"{CLUSTER}-canary-0", _labels("canary"))


def _pod(broker: BrokerProcess) -> Pod:
    if isinstance(broker, WatchedKafka):
        address = broker.metrics_address
    else:
        address = broker.overrides["broadsheet.http.listener"].removeprefix("http://")
    return Pod(address, HOME, f"{CLUSTER}-brokers-{broker.node_id}", _labels("broker"))


def _labels(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "broadsheet" if component == "broker" else f"broadsheet-{component}",
        "app.kubernetes.io/component": component,
        "broadsheet.io/cluster": CLUSTER,
    }


@contextlib.contextmanager
def running(folder: Path, *, factor: float = 1 / 60, interval: str = "1s") -> Iterator[Site]:
    """The site, up, until the block ends. `factor` is of the `for` of alerts, `interval` between scrapes."""
    disks: list[SmallDisk] = []

    def prepare(broker: BrokerProcess) -> None:
        broker.overrides["broadsheet.http.listener"] = f"http://127.0.0.1:{free_port()}"
        if broker.node_id == 3:
            disks.append(SmallDisk(broker, DISK_BYTES))

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ApiServer())
        api = stack.enter_context(namespace(server, HOME))
        brokers = Brokers(Broadsheet, folder / "brokers", overrides=SMALL, prepare=prepare)
        stack.callback(lambda: [disk.close() for disk in disks])
        stack.enter_context(brokers)
        prometheus = stack.enter_context(Prometheus(folder, interval=interval, factor=factor))
        site = Site(folder, api, brokers, prometheus)
        site.disk = disks[0]
        stack.callback(site.close)
        site.start()
        wait_until(lambda: prometheus.ask("broadsheet_cluster_reachable == 1"), "the operator to reach the brokers", 60)
        yield site


@contextlib.contextmanager
def running_apache_kafka(folder: Path, *, factor: float = 1 / 60, interval: str = "5s") -> Iterator[Site]:
    """The same with brokers of Apache Kafka, as a Cluster whose pods would be these processes.

    Scrapes are less frequent, and rates are over more time: those of three JVMs take a share of the machine.
    """

    def prepare(broker: BrokerProcess) -> None:
        broker.node_id -= 1  # as on Kubernetes, where the first pod is 0

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ApiServer())
        api = stack.enter_context(namespace(server, HOME))
        brokers = Brokers(SmallKafka, folder / "brokers", overrides=SMALL, prepare=prepare)
        stack.enter_context(brokers)
        prometheus = stack.enter_context(Prometheus(folder, interval=interval, factor=factor))
        site = Site(folder, api, brokers, prometheus)
        site.panels.interval = "30s"
        engine = {"type": "apache-kafka", "version": WatchedKafka.version}
        site.cluster_spec = {"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}, "engine": engine}
        stack.callback(site.close)
        site.start()
        Kubelet(api).run(CLUSTER)
        wait_until(lambda: prometheus.ask("broadsheet_cluster_reachable == 1"), "the operator to reach the brokers", 60)
        yield site


class SmallKafka(WatchedKafka):
    """With a heap that is enough for three at once."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, heap="320M")
