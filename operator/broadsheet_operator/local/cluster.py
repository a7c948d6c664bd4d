"""A Cluster on this machine: its broker processes and the lanes to it.

Nothing here waits: brokers that stop are checked at each look, and what asks Kafka runs in the cluster's own lanes. So
one cluster that does not answer holds up no other.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broadsheet_operator.api.cluster import Cluster, ClusterStatus
from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.kafka.canary import delete_topic
from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kafka.lane import Lane, Lanes
from broadsheet_operator.local.broker import (
    STOP_SECONDS,
    BrokerProcess,
    answers,
    broker_command,
    endpoint,
    free_port,
    place,
    port_in_use,
)
from broadsheet_operator.local.canary import LocalCanary
from broadsheet_operator.reconcilers import carried_out
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.cluster import Remarks, cluster_status
from broadsheet_operator.reconcilers.conditions import Statement, stuck
from broadsheet_operator.reconcilers.engines import engine_of
from broadsheet_operator.reconcilers.inputs import SECRET
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure, TopicView
from broadsheet_operator.reconcilers.properties import unknown
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.seen import Seen
from broadsheet_operator.reconcilers.server_properties import server_properties

GATEWAY_TIMEOUT_MS = 5000
HEALTH_SECONDS = 2.0
MOST_CONTROLLERS = 3
"""Brokers that vote in the metadata quorum, chosen when the cluster is made."""


class CannotStart(Exception):
    """The cluster cannot be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a cluster; both None while a broker does not take connections yet."""

    view: ClusterView | Failure | None = None
    health: ClusterHealth | Failure | None = None
    known: frozenset[str] | None = None
    """The properties that its brokers know, if that was asked."""
    canary: CanaryHealth | str | None = None
    """What its canary says, if it has one."""
    canary_topic: TopicView | Failure | None = None


def observe(
    gateway: KafkaGateway,
    waiting_for: Sequence[tuple[str, int]],
    ask_for_properties: bool,
    ask_canary: Callable[[], CanaryHealth | str | None] = lambda: None,
    canary_topic: str = "",
) -> Observation:
    """Ask the cluster how it is, once all these addresses take connections."""
    if not all(answers(address) for address in waiting_for):
        return Observation()
    said = ask_canary()
    view = gateway.observe_cluster()
    if isinstance(view, Failure):
        return Observation(view, canary=said)
    asked = gateway.observe_known_properties(view.alive[0].id) if ask_for_properties and view.alive else None
    known = None if isinstance(asked, Failure) else asked
    topic = gateway.observe_topics([canary_topic])[canary_topic] if canary_topic else None
    return Observation(view, gateway.observe_health(), known, said, topic)


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
        self.refusal: list[Statement] = []
        """What the status says because its brokers are not as declared and will not be by themselves."""
        self.ready = False
        self.ready_after = 0.0
        """Seconds from start to the first answer."""
        self._say = say
        self._command = command
        self._lanes: Lanes | None = None
        self._observation = Observation()
        self._looking: Future[Observation] | None = None
        """What is being asked in the cluster's own lane."""
        self._carried_out = ""
        """What its brokers were started with, or brought to."""
        self._known: frozenset[str] | None = None
        """The names of all properties that its brokers know; None until they were asked."""
        self._looked = 0.0
        self._canary = LocalCanary(directory, lambda words: say(self.name, words))
        self._started = 0.0
        self._kill_at: float | None = None
        """While its brokers stop: when those that are left are killed (monotonic seconds)."""
        self._start_again = False
        """Start when they have stopped."""

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

    def lane(self, work: str) -> Lane:
        """The way to its Kafka for one kind of work, with a thread of its own."""
        if self._lanes is None:
            self._lanes = Lanes(
                self.name, self.bootstrap, lambda servers: KafkaPythonGateway(servers, GATEWAY_TIMEOUT_MS)
            )
        return self._lanes[work]

    def start(self) -> None:
        """Start its brokers. CannotStart when a port is taken or a file cannot be written."""
        self._started = time.monotonic()
        brokers = self.resource.spec.brokers
        if brokers is None:
            return
        self._carried_out = carried_out.text(self.resource.spec)
        self.refusal = []
        try:
            identity = self._identity(brokers.replicas)
            fewest = len(identity["controllerPorts"])  # type: ignore[arg-type]
            if brokers.replicas < fewest:
                self.refusal = _too_few_brokers(brokers.replicas, fewest)
                return
            for node_id in range(brokers.replicas):
                self._refuse_taken_ports(node_id)
            for node_id in range(brokers.replicas):
                address = endpoint(self.resource, node_id)
                broker = BrokerProcess(self.directory, node_id, address, self._command)
                self.brokers.append(broker)
                broker.start(self._properties(node_id, identity))
        except OSError as error:
            raise CannotStart(f"{self.name}: {error.strerror or error}: {error.filename or self.directory}") from None

    def _refuse_taken_ports(self, node_id: int) -> None:
        for position, listener in enumerate(self.resource.listeners()):
            port = listener.port + node_id
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
                f"{self.name}: {path} is damaged ({error}). Set clusterId to the value in meta.properties of a "
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
        where = place(
            self.resource,
            node_id,
            cluster_id=str(identity["clusterId"]),
            data=self.directory / f"broker-{node_id}",
            controller_ports=ports,
        )
        return server_properties(self.resource, where, engine_of(self.resource))

    def change(self, resource: Cluster) -> None:
        """Take on a new declaration: a broker restarts only when its configuration is another one."""
        before, self.resource = self.resource, resource
        if resource.spec == before.spec or resource.spec.paused:
            return
        if self._kill_at is not None:
            self._start_again = True
            return
        if resource.spec.brokers is None or not self.brokers:
            self.forget_lanes()
            if resource.spec.brokers is not None:
                self._start_or_say()
            return
        if resource.spec.brokers.replicas < len(self.brokers):
            self.refusal = _too_few_brokers(resource.spec.brokers.replicas, len(self.brokers))
            return
        self.refusal = []
        self._carried_out = carried_out.text(resource.spec)
        identity = json.loads((self.directory / "cluster.json").read_text(encoding="utf-8"))
        changes = [_changes(broker.properties, self._properties(broker.node_id, identity)) for broker in self.brokers]
        more = resource.spec.brokers.replicas - len(self.brokers)
        what = [next(filter(None, changes), ""), f"{more} more broker{'s' if more > 1 else ''}" if more > 0 else ""]
        if any(what):
            who = "the broker restarts" if len(self.brokers) == 1 else "its brokers restart"
            self._say(self.name, f"{who} ({'; '.join(filter(None, what))})")
            self.begin_to_stop()
            self._start_again = True

    def _start_or_say(self) -> None:
        try:
            self.start()
        except CannotStart as error:
            self.cannot_start(error)

    def look(self) -> None:
        """Check the processes, take in what the cluster answered, and ask it again when it is time."""
        if self._kill_at is not None:
            self._see_the_end()
            return
        for broker in self.brokers:
            news = broker.look()
            if news:
                self._say(self.name, news)
                self.ready = False
                self.forget_lanes()
        if self.refusal and not self.brokers:
            self.ready = False
            return
        self._look_at_canary()
        if self._looking is not None:
            if not self._looking.done():
                return
            self._take_in(self._looking.result())
            self._looking = None
        if self.ready and time.monotonic() - self._looked < HEALTH_SECONDS:
            return
        self._looked = time.monotonic()
        waiting_for = [] if self.ready else [b.address for b in self.brokers]
        asks = self.resource.spec.brokers is not None and bool(self.resource.spec.config) and self._known is None
        canary = self.resource.spec.canary
        topic = canary.topic if canary is not None else ""
        self._looking = self.lane("cluster").submit(observe, waiting_for, asks, self._canary.ask(), topic)

    def _look_at_canary(self) -> None:
        """It begins when the cluster is ready for the first time, and then stays, whatever becomes of the brokers."""
        wanted, before = self.resource.spec.canary, self._canary.topic
        if self.ready or self._canary.pid is not None:
            self._canary.declare(wanted, self.bootstrap)
            if before and self.ready and (wanted is None or wanted.topic != before):
                self.lane("cluster").submit(delete_topic, before)
        self._canary.look()

    def _take_in(self, observation: Observation) -> None:
        self._observation = observation
        self._canary.take_in(observation.canary)
        self._known = observation.known or self._known
        was_ready, view = self.ready, observation.view
        self.ready = isinstance(view, ClusterView) and bool(view.brokers)
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
        seen = self._observation
        # A property that no broker knows is ignored by all of them: said here, since nothing else would show it.
        remark = unknown(self.resource, self._known) if self._known is not None else ""
        not_done = ""
        if self.resource.spec.paused and self.resource.spec.brokers is not None:
            not_done = carried_out.not_done(self.resource.spec, self._carried_out, exists=True)
        also = self._canary.statements()
        remarks = Remarks(instead=self.refusal, remark=remark, not_done=not_done, also=also)
        return cluster_status(
            self.resource, states, Seen(seen.view, seen.health, canary=seen.canary_topic), now, remarks
        )

    def forget_lanes(self) -> None:
        """Connections of before are of no use; a call that still waits for an answer ends by itself."""
        lanes, self._lanes = self._lanes, None
        self._observation, self._looking = Observation(), None
        if lanes is not None:
            lanes.close()

    def give_up(self, why: str) -> None:
        """Stop its brokers and leave it so until its declaration changes."""
        self.refusal = stuck(Reason.BROKER_DOWN, why)
        self.begin_to_stop()

    def cannot_start(self, error: CannotStart) -> None:
        """Have the status say why it was not started."""
        self.refusal = stuck(Reason.BROKER_DOWN, str(error).removeprefix(f"{self.name}: "))

    def begin_to_stop(self) -> None:
        """Ask its brokers to stop; `look` sees to it that they do."""
        self.ready = self._start_again = False
        self._canary.declare(None, ())
        self.forget_lanes()
        for broker in self.brokers:
            broker.terminate()
        if self._kill_at is None:
            self._kill_at = time.monotonic() + STOP_SECONDS

    @property
    def has_stopped(self) -> bool:
        """Whether no broker is left after `begin_to_stop`."""
        return self._kill_at is None and not self.brokers

    def _see_the_end(self) -> None:
        assert self._kill_at is not None
        if time.monotonic() < self._kill_at and not all(broker.has_ended() for broker in self.brokers):
            return
        self.wait_until_stopped()
        if self._start_again:
            self._start_again = False
            self._start_or_say()

    def wait_until_stopped(self) -> bool:
        """Wait for the end of its brokers after `begin_to_stop`. True if all ended by themselves."""
        deadline = self._kill_at or time.monotonic()
        clean = True
        for broker in self.brokers:
            clean &= broker.wait(deadline - time.monotonic())
        self.brokers, self._kill_at = [], None
        return clean

    def remove(self) -> str:
        """After its end: its data goes only when its policy says so. What became of it, as a sentence."""
        brokers = self.resource.spec.brokers
        if brokers is None:
            return "forgotten; the cluster itself was not started here and is not stopped"
        if brokers.storage is not None and brokers.storage.deletion_policy is DeletionPolicy.DELETE:
            shutil.rmtree(self.directory, ignore_errors=True)
            return "stopped, and its data is deleted"
        return f"stopped; its data stays in {self.directory} (storage.deletionPolicy Retain)"


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The properties that differ, with both values; empty when none does."""
    different = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return ", ".join(f"{key} {_shown(key, before)} -> {_shown(key, after)}" for key in different)


def _shown(key: str, properties: Mapping[str, str]) -> str:
    if key not in properties:
        return "default"
    return "(hidden)" if SECRET.search(key) else properties[key]


def _too_few_brokers(count: int, fewest: int) -> list[Statement]:
    words = (
        f"brokers.replicas is {count}, and the cluster has {fewest} brokers: `broadsheet up` does not move partitions "
        f"away from a broker yet; set it to {fewest} or more"
    )
    return stuck(Reason.NOT_SUPPORTED, words)
