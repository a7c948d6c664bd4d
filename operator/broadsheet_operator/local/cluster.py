"""A Cluster on this machine: its broker processes and the lanes to it.

Nothing here waits: brokers that stop are checked at each look, and what asks Kafka runs in the cluster's own lanes. So
one cluster that does not answer holds up no other.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path

from broadsheet_operator.api.cluster import Cluster, ClusterStatus
from broadsheet_operator.api.engine import Engine
from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.kafka.canary import delete_topic
from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.kafka.lane import Lane, Lanes
from broadsheet_operator.local.broker import (
    STOP_SECONDS,
    BrokerProcess,
    broker_command,
    changed_properties,
    endpoint,
    place,
)
from broadsheet_operator.local.canary import LocalCanary
from broadsheet_operator.local.exchange import Check, forbidden
from broadsheet_operator.local.identity import CannotStart, Identity
from broadsheet_operator.local.observation import Observation, observe
from broadsheet_operator.local.programs import Program, is_another, program_of
from broadsheet_operator.local.settling import settle_cluster
from broadsheet_operator.local.troubles import complaints, refuse_taken_ports, too_few_brokers
from broadsheet_operator.reconcilers import carried_out
from broadsheet_operator.reconcilers.cluster import Remarks, cluster_status
from broadsheet_operator.reconcilers.conditions import Statement, stuck
from broadsheet_operator.reconcilers.engines import engine_of
from broadsheet_operator.reconcilers.exchange_state import label
from broadsheet_operator.reconcilers.observed import ClusterView
from broadsheet_operator.reconcilers.properties import unknown
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.seen import Seen
from broadsheet_operator.reconcilers.server_properties import server_properties

GATEWAY_TIMEOUT_MS = 5000
HEALTH_SECONDS = 2.0
CHECK_AGAIN_SECONDS = 20.0
"""After a refusal: when the directories are read again, since what was in the way may be gone."""


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
        self._identity: Identity | None = None
        """Of its directory, once it was started."""
        self._check: Check | None = None
        """Whether another engine can take the directory over, while that is being read."""
        self._check_again_at: float | None = None
        """While its brokers run on because that was refused (monotonic seconds)."""
        self._exchange = ""
        """Which engine takes over from which, from the stop of the brokers until all are back."""
        self._settled = False
        """What belongs to the cluster and not to a broker was brought to what is declared."""
        self._not_settled = ""
        """What of that cannot be done."""
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
        """Start its brokers. CannotStart when that is not possible, or when its data is another engine's."""
        if self._prepare() and self._identity is not None:
            if is_another(self._engine, self.resource.engine()):
                refusal = forbidden(self._engine, self.resource.engine()) or self._check_exchange().refusal()
                if refusal:
                    raise CannotStart(f"{self.name}: {refusal}")
                self._exchange = self._exchange_words()
                self._say(self.name, self._exchange)
            self._start_with(self.resource.engine())

    def _prepare(self) -> bool:
        """Read whose data this is; False when there is nothing to start."""
        self._started = time.monotonic()
        brokers = self.resource.spec.brokers
        if brokers is None:
            return False
        self._carried_out = carried_out.text(self.resource.spec)
        self.refusal, self._settled, self._not_settled = [], False, ""
        with complaints(self.name, self.directory):
            self._identity = Identity.of(self.directory, brokers.replicas, self.name)
        fewest = len(self._identity.controller_ports)
        if brokers.replicas < fewest:
            self.refusal = too_few_brokers(brokers.replicas, fewest)
        return not self.refusal

    def _start_with(self, engine: Engine) -> None:
        """Start all brokers with this engine, which its data is from now on."""
        assert self._identity is not None and self.resource.spec.brokers is not None
        count = self.resource.spec.brokers.replicas
        with complaints(self.name, self.directory):
            before, self._identity.engine = self._identity.engine, engine
            program = self._program()
            for node_id in range(count):
                refuse_taken_ports(self.resource, self.name, node_id)
            if engine != before:
                self._identity.write()
            for node_id in range(count):
                address = endpoint(self.resource, node_id)
                broker = BrokerProcess(self.directory, node_id, address, program.command, program.last_words)
                self.brokers.append(broker)
                broker.start(self._properties(node_id))

    @property
    def _engine(self) -> Engine:
        """The engine that its data is; the declared one while there is none."""
        kept = self._identity.engine if self._identity is not None else None
        return self.resource.engine() if kept is None else kept

    def _in_force(self) -> Cluster:
        """What is declared, with the engine that its data is: the declared one may have been refused."""
        if not is_another(self._engine, self.resource.engine()):
            return self.resource
        spec = self.resource.spec.model_copy(update={"engine": self._engine})
        return self.resource.model_copy(update={"spec": spec})

    def _program(self) -> Program:
        assert self._identity is not None
        return program_of(self._in_force(), self._identity.cluster_id, self.directory, self._command)

    def _properties(self, node_id: int) -> dict[str, str]:
        assert self._identity is not None
        where = place(
            self.resource,
            node_id,
            cluster_id=self._identity.cluster_id,
            data=self.directory / f"broker-{node_id}",
            controller_ports=self._identity.controller_ports,
        )
        cluster = self._in_force()
        return server_properties(cluster, where, engine_of(cluster))

    # Another engine, or another version of it: the directories are read first, then the brokers stop.

    def _check_exchange(self) -> Check:
        assert self._identity is not None
        old, new = engine_of(self._in_force()), engine_of(self.resource)
        return Check(old.title, new, self._identity.directories())

    def _exchange_words(self) -> str:
        return f"{engine_of(self.resource).title} takes over from {engine_of(self._in_force()).title}"

    def _exchange_stage(self) -> str:
        if self._exchange:
            return f"{self._exchange}: its brokers {'stop' if self._kill_at is not None else 'start'}"
        if self._check is None or self.refusal:
            return ""
        new, old = engine_of(self.resource).title, engine_of(self._in_force()).title
        return f"{new} is to take over from {old}: what is stored is read first"

    def _begin_exchange(self) -> None:
        """Read what is stored, while its brokers run or when they have stopped; `look` goes on with what was found."""
        self._check_again_at = None
        refusal = forbidden(self._engine, self.resource.engine())
        if refusal:
            self._refuse_exchange(refusal)
            return
        try:
            with complaints(self.name, self.directory):
                program_of(self.resource, "", self.directory, self._command)
                self._check = self._check_exchange()
        except CannotStart as error:
            self._refuse_exchange(str(error).removeprefix(f"{self.name}: "))

    def _end_exchange(self, refusal: str) -> None:
        if refusal:
            self._refuse_exchange(refusal)
        elif self.brokers:
            words = self._exchange_words()
            self.begin_to_stop()
            self._exchange, self._start_again = words, True
        else:
            self._start_or_say(self.resource.engine())

    def _refuse_exchange(self, refusal: str) -> None:
        """The engine of before runs on, or again."""
        self._exchange = ""
        self.refusal = stuck(Reason.NOT_SUPPORTED, refusal)
        self._check_again_at = time.monotonic() + CHECK_AGAIN_SECONDS
        if not self.brokers:
            self._start_or_say(self._engine)

    def change(self, resource: Cluster) -> None:
        """Take on a new declaration: a broker restarts only when its configuration is another one."""
        before, self.resource = self.resource, resource
        if resource.spec == before.spec or resource.spec.paused:
            return
        if self._kill_at is not None:
            self._start_again = True
            return
        self._check_again_at = None
        if self._check is not None:
            self._check.cancel()
            self._check = None
        if resource.spec.brokers is None or not self.brokers:
            self.forget_lanes()
            if resource.spec.brokers is not None:
                self._start_anew()
            return
        if resource.spec.brokers.replicas < len(self.brokers):
            self.refusal = too_few_brokers(resource.spec.brokers.replicas, len(self.brokers))
            return
        self.refusal, self._settled, self._not_settled = [], False, ""
        if is_another(self._engine, resource.engine()):
            self._begin_exchange()
            return
        self._carried_out = carried_out.text(resource.spec)
        self._restart_if_changed()

    def _restart_if_changed(self) -> None:
        assert self.resource.spec.brokers is not None and self._identity is not None
        self._identity.engine = self.resource.engine()
        try:
            with complaints(self.name, self.directory):
                self._identity.write()
                command = self._program().command
        except CannotStart as error:
            self.cannot_start(error)
            return
        changes = [changed_properties(broker.properties, self._properties(broker.node_id)) for broker in self.brokers]
        more = self.resource.spec.brokers.replicas - len(self.brokers)
        what = [next(filter(None, changes), ""), f"{more} more broker{'s' if more > 1 else ''}" if more > 0 else ""]
        if any(broker.command(broker.properties_file) != command(broker.properties_file) for broker in self.brokers):
            what.append("engine.home or engine.jvm")
        if any(what):
            who = "the broker restarts" if len(self.brokers) == 1 else "its brokers restart"
            self._say(self.name, f"{who} ({'; '.join(filter(None, what))})")
            self.begin_to_stop()
            self._start_again = True

    def _start_anew(self) -> None:
        """While others run: nothing may wait, and what is wrong goes into the status."""
        try:
            ready = self._prepare()
        except CannotStart as error:
            self.cannot_start(error)
            return
        if not ready:
            return
        if is_another(self._engine, self.resource.engine()):
            self._begin_exchange()
        else:
            self._start_or_say(self.resource.engine())

    def _start_or_say(self, engine: Engine) -> None:
        try:
            self._start_with(engine)
        except CannotStart as error:
            self.cannot_start(error)

    def look(self) -> None:
        """Check the processes, take in what the cluster answered, and ask it again when it is time."""
        if self._kill_at is not None:
            self._see_the_end()
            return
        if self._check is not None and self._check.is_done():
            check, self._check = self._check, None
            self._end_exchange(check.refusal())
            return
        if self._check_again_at is not None and self.ready and time.monotonic() >= self._check_again_at:
            self._begin_exchange()
        for broker in self.brokers:
            news = broker.look()
            if news:
                self._say(self.name, news)
                self.ready = False
                self.forget_lanes()
        if (self.refusal or self._check is not None) and not self.brokers:
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
        cluster = self._in_force()
        features = cluster.spec.engine is not None and cluster.spec.brokers is not None and bool(self.brokers)
        settle = None if self._settled or not self.ready else partial(settle_cluster, cluster)
        self._looking = self.lane("cluster").submit(
            observe, waiting_for, asks, self._canary.ask(), topic, features, settle
        )

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
        alive = {broker.id for broker in view.alive} if isinstance(view, ClusterView) else set()
        self.ready = bool(alive) and (was_ready or alive >= {broker.node_id for broker in self.brokers})
        if observation.settled:
            self._settled, self._not_settled = True, observation.refusal
        if observation.words:
            self._say(self.name, observation.words)
        if self.ready and not was_ready:
            self._exchange = ""
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
        remarks = Remarks(
            instead=self.refusal,
            remark="; ".join(filter(None, (remark, self._not_settled))),
            not_done=not_done,
            engine=label(self._engine) if self.brokers else "",
            exchange=self._exchange_stage(),
            interrupted=bool(self._exchange),
            also=also,
        )
        return cluster_status(
            self.resource,
            states,
            Seen(seen.view, seen.health, features=seen.features, canary=seen.canary_topic),
            now,
            remarks,
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
        self._exchange = ""
        self.refusal = stuck(Reason.BROKER_DOWN, str(error).removeprefix(f"{self.name}: "))

    def begin_to_stop(self) -> None:
        """Ask its brokers to stop; `look` sees to it that they do."""
        self.ready = self._start_again = False
        self._canary.declare(None, ())
        self.forget_lanes()
        if self._check is not None:
            self._check.cancel()
            self._check = None
        self._terminate()
        if self._kill_at is None:
            self._kill_at = time.monotonic() + STOP_SECONDS

    def _terminate(self) -> None:
        """Brokers that do not vote first: a broker that stops when the metadata quorum is gone waits long for it."""
        voters = len(self._identity.controller_ports) if self._identity is not None else 0
        others = [broker for broker in self.brokers if broker.node_id >= voters and not broker.has_ended()]
        for broker in others or self.brokers:
            broker.terminate()

    @property
    def has_stopped(self) -> bool:
        """Whether no broker is left after `begin_to_stop`."""
        return self._kill_at is None and not self.brokers

    def _see_the_end(self) -> None:
        assert self._kill_at is not None
        if time.monotonic() < self._kill_at and not all(broker.has_ended() for broker in self.brokers):
            self._terminate()
            return
        self.wait_until_stopped()
        if self._start_again:
            self._start_again = False
            self._start_anew()

    def wait_until_stopped(self) -> bool:
        """Wait for the end of its brokers after `begin_to_stop`. True if all ended by themselves."""
        deadline = self._kill_at or time.monotonic()
        clean = True
        for broker in reversed(self.brokers):  # those that do not vote have the higher numbers
            self._terminate()
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
