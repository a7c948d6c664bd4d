"""A Cluster on this machine: its broker processes and the gateway to it."""

from __future__ import annotations

import base64
import json
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from broadsheet_operator.api.cluster import Cluster, ClusterStatus
from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.local.broker import (
    STOP_SECONDS,
    BrokerProcess,
    broker_command,
    endpoint,
    free_port,
    port_in_use,
    render_properties,
)
from broadsheet_operator.reconcilers.cluster import cluster_status
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure

GATEWAY_TIMEOUT_MS = 5000
HEALTH_SECONDS = 2.0
MOST_CONTROLLERS = 3
"""Brokers that vote in the metadata quorum, chosen when the cluster is made."""


class CannotStart(Exception):
    """The cluster cannot be started; the message says why and what to do."""


class LocalCluster:
    """Brokers of one Cluster resource. `resource` is replaced when its declaration changes."""

    def __init__(
        self,
        resource: Cluster,
        directory: Path,
        say: Callable[[str, str], None],
        command: Callable[[Path], list[str]] = broker_command,
    ) -> None:
        self.resource = resource
        self.directory = directory
        self.brokers: list[BrokerProcess] = []
        self.refusal = ""
        self.ready = False
        self.ready_after = 0.0
        """Seconds from start to the first answer."""
        self._say = say
        self._command = command
        self._gateway: KafkaGateway | None = None
        self._view: ClusterView | Failure | None = None
        self._health: ClusterHealth | Failure | None = None
        self._looked = 0.0
        self._started = 0.0

    @property
    def name(self) -> str:
        """As people say it."""
        return f"cluster/{self.resource.metadata.name}"

    @property
    def bootstrap(self) -> list[str]:
        """host:port of its brokers."""
        if self.resource.spec.external is not None:
            return list(self.resource.spec.external.bootstrap_servers)
        return [f"{b.address[0]}:{b.address[1]}" for b in self.brokers]

    @property
    def gateway(self) -> KafkaGateway:
        """The way to its Kafka."""
        if self._gateway is None:
            self._gateway = KafkaPythonGateway(self.bootstrap, GATEWAY_TIMEOUT_MS)
        return self._gateway

    def start(self) -> None:
        """Start its brokers. CannotStart when a port is taken or a file cannot be written."""
        self._started = time.monotonic()
        brokers = self.resource.spec.brokers
        if brokers is None:
            return
        self.refusal = ""
        try:
            identity = self._identity(brokers.replicas)
            fewest = len(identity["controllerPorts"])  # type: ignore[arg-type]
            if brokers.replicas < fewest:
                self.refusal = _too_few_brokers(brokers.replicas, fewest)
                return
            for node_id in range(brokers.replicas):
                address = endpoint(self.resource, node_id)
                self._refuse_taken_ports(node_id)
                broker = BrokerProcess(self.directory, node_id, address, self._command)
                self.brokers.append(broker)
                broker.start(self._properties(node_id, identity))
        except OSError as error:
            raise CannotStart(f"{self.name}: {error.strerror or error}: {error.filename or self.directory}") from None

    def _refuse_taken_ports(self, node_id: int) -> None:
        for position, door in enumerate(self.resource.listeners()):
            port = door.port + node_id
            if port_in_use(port):
                raise CannotStart(
                    f"{self.name}: port {port} of localhost is in use by another program (another Kafka?). "
                    f"Stop it, or set spec.listeners[{position}].port of the Cluster to a free port"
                )

    def _identity(self, count: int) -> dict[str, object]:
        """Cluster id and controller ports: made once, then kept, so that the data stays this cluster's.

        So are the controllers: a configuration that named others could let those rule that have no data.
        """
        path = self.directory / "cluster.json"
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            kept: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CannotStart(
                f"{self.name}: {path} is damaged ({error}). Put clusterId back as it stands in meta.properties of a "
                "broker here, or remove the file if there are no data yet"
            ) from None
        except FileNotFoundError:
            random_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            controllers = min(count, MOST_CONTROLLERS) if count != 2 else 1  # two are no safer than one
            kept = {"clusterId": random_id, "controllerPorts": [free_port() for _ in range(controllers)]}
        ports = [int(p) for p in kept["controllerPorts"]]  # type: ignore[attr-defined]
        kept["controllerPorts"] = [free_port() if port_in_use(p) else p for p in ports]
        new = path.with_suffix(".new")  # never half of it: with another id the brokers refuse their data
        new.write_text(json.dumps(kept), encoding="utf-8")
        new.replace(path)
        return kept

    def _properties(self, node_id: int, identity: dict[str, object]) -> dict[str, str]:
        ports = identity["controllerPorts"]
        assert isinstance(ports, list)
        return render_properties(
            self.resource,
            node_id,
            cluster_id=str(identity["clusterId"]),
            data=self.directory / f"broker-{node_id}",
            controller_ports=ports,
        )

    def change(self, resource: Cluster) -> None:
        """Take on a new declaration: a broker restarts only when its configuration is another one."""
        before, self.resource = self.resource, resource
        if resource.spec == before.spec or resource.spec.paused:
            return
        if resource.spec.brokers is None or not self.brokers:
            self.forget_gateway()
            if resource.spec.brokers is not None:
                self._start_or_say()
            return
        if resource.spec.brokers.replicas < len(self.brokers):
            self.refusal = _too_few_brokers(resource.spec.brokers.replicas, len(self.brokers))
            return
        self.refusal = ""
        identity = json.loads((self.directory / "cluster.json").read_text(encoding="utf-8"))
        changed = [b for b in self.brokers if b.properties != self._properties(b.node_id, identity)]
        if changed or resource.spec.brokers.replicas > len(self.brokers):
            who = "the broker restarts" if len(self.brokers) == 1 else "its brokers restart"
            self._say(self.name, f"configuration changed: {who}")
            self.stop()
            self._start_or_say()

    def _start_or_say(self) -> None:
        try:
            self.start()
        except CannotStart as error:
            self.refusal = str(error).removeprefix(f"{self.name}: ")

    def look(self) -> None:
        """See after the processes, and ask the cluster how it is."""
        for broker in self.brokers:
            news = broker.look()
            if news:
                self._say(self.name, news)
                self.ready = False
                self.forget_gateway()
        if self.refusal and not self.brokers:
            self.ready = False
            return
        if any(not b.answers() for b in self.brokers) if not self.ready else False:
            self._view = None
            return
        if self.ready and time.monotonic() - self._looked < HEALTH_SECONDS:
            return
        self._looked = time.monotonic()
        self._view = self.gateway.observe_cluster()
        self._health = self.gateway.observe_health() if isinstance(self._view, ClusterView) else None
        was_ready, self.ready = self.ready, isinstance(self._view, ClusterView) and bool(self._view.brokers)
        if self.ready and not was_ready:
            self.ready_after = time.monotonic() - self._started
            for broker in self.brokers:
                broker.was_ready = True

    def look_again(self) -> None:
        """Something was changed in it; what was seen before is old."""
        self._looked = 0.0

    def status(self, now: datetime) -> ClusterStatus:
        """What there is to say about it."""
        states = [b.state(ready=self.ready) for b in self.brokers]
        return cluster_status(self.resource, states, self._view, self._health, now, refusal=self.refusal)

    def forget_gateway(self) -> None:
        """Connections of before are of no use."""
        gateway, self._gateway = self._gateway, None
        self._view = self._health = None
        if gateway is not None:
            gateway.close()

    def stop(self) -> bool:
        """Stop its brokers, first by asking. True if all ended by themselves."""
        self.ready = False
        self.forget_gateway()
        for broker in self.brokers:
            broker.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        clean = True
        for broker in self.brokers:
            clean &= broker.wait(deadline - time.monotonic())
        self.brokers = []
        return clean

    def delete(self) -> str:
        """Stop it for good; its data goes only when its policy says so. What became of it, in words."""
        self.stop()
        brokers = self.resource.spec.brokers
        if brokers is None:
            return "forgotten; the cluster itself is not ours to stop"
        if brokers.storage is not None and brokers.storage.deletion_policy is DeletionPolicy.DELETE:
            shutil.rmtree(self.directory, ignore_errors=True)
            return "stopped, and its data is deleted"
        return f"stopped; its data stays in {self.directory} (storage.deletionPolicy Retain)"


def _too_few_brokers(count: int, fewest: int) -> str:
    return (
        f"brokers.replicas is {count}, and the cluster has {fewest} brokers: `broadsheet up` does not move partitions "
        f"away from a broker yet; set it to {fewest} or more"
    )
