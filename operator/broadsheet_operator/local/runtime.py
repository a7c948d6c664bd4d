"""`broadsheet up`: the same resources as on Kubernetes, with brokers as processes of this machine.

One loop, level-triggered: read what is declared, check the brokers, reconcile what is due, write what changed. The loop
never waits for a cluster: what asks Kafka runs in that cluster's lanes, and the loop takes in what has come back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.manifests import AnyResource
from broadsheet_operator.api.meta import Condition, Dependent, Status
from broadsheet_operator.kafka.dependents import DEPENDENTS, DependentKind
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kafka.rounds import Histories, Outcome, Task
from broadsheet_operator.local.broker import broker_command
from broadsheet_operator.local.cluster import LocalCluster
from broadsheet_operator.local.identity import CannotStart
from broadsheet_operator.local.manifest_files import ManifestFiles
from broadsheet_operator.local.store import Entry, FileStore, Reference
from broadsheet_operator.reconcilers.conditions import Statement, waiting, with_statements
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.rivals import rivals

TICK_SECONDS = 0.1
"""How often files and processes are checked."""
SOON_SECONDS = 0.2
"""When to reconcile again after something was left to do."""
LAST_ROUND_SECONDS = 5.0
"""At the end: how long rounds under way may take before their brokers are stopped."""
START_ATTEMPTS = 3
"""A broker that ends this many times before it was ever ready is given up."""


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Round:
    """A round for all resources of one kind of one cluster, under way in the cluster's lane."""

    resources: Sequence[Dependent]
    done: Future[tuple[Mapping[ResourceKey, Outcome], float]]
    """The outcomes, and the CPU seconds that they took."""


class Runtime:
    """Runs what a state directory and some manifest files declare."""

    def __init__(
        self,
        paths: Sequence[str],
        store: FileStore,
        say: Callable[[str, str], None],
        *,
        adapt: Callable[[AnyResource], AnyResource] = lambda resource: resource,
        command: Callable[[Path], list[str]] = broker_command,
        kinds: Sequence[DependentKind] = DEPENDENTS,
    ) -> None:
        self.store = store
        self._kinds = {kind.name: kind for kind in kinds}
        self.clusters: dict[str, LocalCluster] = {}
        self.entries: dict[Reference, Entry] = {}
        self._files = ManifestFiles(paths, store, say, adapt)
        self._say = say
        self._command = command
        self._histories = Histories()
        self._fingerprint: tuple[int, ...] = ()
        self._due: dict[tuple[str, str], float] = {}
        """By kind and cluster, when its resources are reconciled again."""
        self._rounds: dict[tuple[str, str], Round] = {}
        """By kind and cluster, what is under way."""
        self._leaving: dict[str, LocalCluster] = {}
        """Clusters whose brokers stop for good. Another one of the same name waits until they have."""
        self._is_up = False
        self._first: set[str] = set()
        """Clusters of the start that were not ready yet: if one does not come up, `up` ends and says why."""
        self._told: dict[Reference, tuple[str, str, str]] = {}

    def start(self) -> None:
        """Read the manifests and start the brokers. ManifestError or CannotStart says what is wrong."""
        self.store.prepare()
        self._files.read_all()
        self._read_declared()
        for entry in self.entries.values():
            if isinstance(entry.resource, Cluster) and entry.resource.metadata.deletion_timestamp is None:
                self._first.add(entry.resource.metadata.name)
                self._local(entry.resource).start()
        self._is_up = True

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` is set."""
        while not stop.is_set():
            self.step()
            stop.wait(TICK_SECONDS)

    def step(self) -> None:
        """One turn of the loop. CannotStart when a broker will not come up."""
        self._files.reread()
        if self.store.fingerprint() != self._fingerprint:
            self._read_declared()
        for name, cluster in list(self._leaving.items()):
            self._finish_leaving(name, cluster)
        for cluster in list(self.clusters.values()):
            was_ready = cluster.ready
            cluster.look()
            if cluster.ready and not was_ready:
                self._due.clear()
                self._first.discard(cluster.resource.metadata.name)
            self._give_up_on(cluster)
            self._write(("Cluster", cluster.resource.metadata.name), cluster.status(utc_now()))
        for place, round in list(self._rounds.items()):
            if round.done.done():
                self._take_in(place)
        for place, resources in self._places().items():
            if place not in self._rounds and time.monotonic() >= self._due.get(place, 0.0):
                self._begin(place, resources)

    def stop(self) -> bool:
        """Stop all brokers, and leave statuses behind that say so. True if all ended by themselves."""
        # A reset that is under way must be in the status, or the next start would do it again.
        busy = {place: round.done for place, round in self._rounds.items() if self._is_ready(place[1])}
        finished = wait(busy.values(), LAST_ROUND_SECONDS).done
        for place in [place for place, done in busy.items() if done in finished]:
            self._take_in(place)
        every = [*self.clusters.values(), *self._leaving.values()]
        for cluster in every:
            cluster.begin_to_stop()
        ends = [cluster.wait_until_stopped() for cluster in every]
        for name, cluster in list(self._leaving.items()):
            self._finish_leaving(name, cluster)
        self._say = lambda what, words: None
        for cluster in self.clusters.values():
            self._write(("Cluster", cluster.resource.metadata.name), cluster.status(utc_now()))
        for place, resources in self._places().items():
            self._reachable(place[1], resources)
        return all(ends)

    # What is declared

    def _read_declared(self) -> None:
        self._fingerprint = self.store.fingerprint()
        self.entries = self.store.entries()
        self._due.clear()
        for entry in self.entries.values():
            if isinstance(entry.resource, Cluster):
                self._take_on(entry.resource)
        for name in set(self.clusters) - {n for k, n in self.entries if k == "Cluster"}:
            self._leave(name)

    def _take_on(self, resource: Cluster) -> None:
        name = resource.metadata.name
        if name in self._leaving:
            return  # `_finish_leaving` has it read again
        if resource.metadata.deletion_timestamp is not None:
            if name in self.clusters:
                self.clusters[name].resource = resource
                self._leave(name)
            else:
                self._gone(("Cluster", name), resource, "deleted")
        elif name in self.clusters:
            self.clusters[name].change(resource)
        elif self._is_up:
            # At the start, start() does this, and a failure ends `up`.
            cluster = self._local(resource)
            try:
                cluster.start()
            except CannotStart as error:
                cluster.cannot_start(error)

    def _leave(self, name: str) -> None:
        self._leaving[name] = cluster = self.clusters.pop(name)
        cluster.begin_to_stop()

    def _finish_leaving(self, name: str, cluster: LocalCluster) -> None:
        if not cluster.has_stopped:
            cluster.look()
            return
        del self._leaving[name]
        if cluster.resource.metadata.deletion_timestamp is not None:
            self._gone(("Cluster", name), cluster.resource, cluster.remove())
        self._fingerprint = ()  # one of the same name may have been declared meanwhile

    def _local(self, resource: Cluster) -> LocalCluster:
        name = resource.metadata.name
        if name not in self.clusters:
            directory = self.store.directory / "clusters" / name
            self.clusters[name] = LocalCluster(resource, directory, self._say, self._command)
        return self.clusters[name]

    def _give_up_on(self, cluster: LocalCluster) -> None:
        for broker in cluster.brokers:
            if not broker.was_ready and broker.failures >= START_ATTEMPTS:
                words = broker.last_words() or "it wrote no log"
                words = f"broker {broker.node_id} does not start: {words} (log: {broker.log_file})"
                if cluster.resource.metadata.name in self._first:
                    raise CannotStart(f"{cluster.name}: {words}")
                cluster.give_up(words)
                return

    # What is done about it

    def _places(self) -> dict[tuple[str, str], list[Dependent]]:
        """What belongs to a Cluster, by kind and cluster."""
        result: dict[tuple[str, str], list[Dependent]] = {}
        for (kind, _), entry in self.entries.items():
            if isinstance(entry.resource, Dependent) and kind in self._kinds:
                result.setdefault((kind, entry.resource.cluster_key.name), []).append(entry.resource)
        return result

    def _begin(self, place: tuple[str, str], resources: Sequence[Dependent]) -> None:
        """Begin a round, or say why there can be none now."""
        kind, name = self._kinds[place[0]], place[1]
        self._due[place] = time.monotonic() + kind.local_seconds
        if not self._reachable(name, resources):
            return
        task = Task(
            resources=resources,
            clock=utc_now,
            rivals=rivals(resources),
            cluster=self.clusters[name].resource.spec,
            histories=self._histories,
        )
        done = self.clusters[name].lane(kind.plural).submit(_timed, kind.round, task)
        self._rounds[place] = Round(resources, done)

    def _is_ready(self, cluster_name: str) -> bool:
        cluster = self.clusters.get(cluster_name)
        return cluster is not None and cluster.ready

    def _reachable(self, cluster_name: str, resources: Sequence[Dependent]) -> bool:
        """Whether the cluster of these resources can be asked now; if not, their statuses say why."""
        if self._is_ready(cluster_name):
            return True
        for resource in resources:
            if cluster_name in self.clusters or cluster_name in self._leaving:
                words = f"cluster/{cluster_name} does not take requests yet"
                self._excuse(resource, waiting(Reason.CLUSTER_NOT_READY, words))
            elif resource.metadata.deletion_timestamp is not None:
                key = (type(resource).__name__, resource.metadata.name)
                self._gone(key, resource, "its cluster is gone, so nothing was deleted in Kafka")
            else:
                words = f"there is no Cluster {cluster_name}; declare it, or correct spec.cluster"
                self._excuse(resource, waiting(Reason.CLUSTER_NOT_FOUND, words))
        return False

    def _excuse(self, resource: Dependent, told: list[Statement]) -> None:
        kind = type(resource).__name__
        base = resource.status or self._kinds[kind].empty_status(resource)
        status = with_statements(resource.status, base, told, resource.metadata.generation, utc_now())
        self._write((kind, resource.metadata.name), status)

    def _take_in(self, place: tuple[str, str]) -> None:
        kind, name = place
        round = self._rounds.pop(place)
        outcomes, seconds = round.done.result()
        for resource in round.resources:
            key = (kind, resource.metadata.name)
            current = self.entries.get(key)
            if current is None or current.resource.metadata.uid != resource.metadata.uid:
                continue  # deleted meanwhile, and perhaps another one of the same name is declared
            outcome = outcomes[resource.key]
            for words in outcome.done:
                self._say(f"{kind.lower()}/{key[1]}", words)
            if outcome.release:
                self._gone(key, resource, outcome.parting_words)
            else:
                self._write(key, outcome.status)
        now = time.monotonic()
        # With very many topics a look takes its time; most of the processor is to be left to others.
        self._due[place] = max(self._due.get(place, 0.0), now + 10 * seconds)
        if any(o.pending or o.done for o in outcomes.values()):
            if name in self.clusters:
                self.clusters[name].look_again()
            self._due[place] = now + SOON_SECONDS

    def _gone(self, key: Reference, resource: AnyResource, words: str) -> None:
        self._say(f"{key[0].lower()}/{key[1]}", words)
        self.store.remove(*key, resource.metadata.uid, words)
        self.entries.pop(key, None)
        self._told.pop(key, None)
        if key[0] == ConsumerGroup.__name__:  # topics may have the same names
            self._histories.forget(resource.key)

    def _write(self, key: Reference, status: Status) -> None:
        """Keep a status, write it if it is another one, and report a change of Ready."""
        entry = self.entries.get(key)
        if entry is None or (entry.resource.status == status and key in self._told):
            return
        resource = entry.resource.model_copy(update={"status": status})
        self.entries[key] = Entry(resource, entry.origin)
        if isinstance(resource, Cluster) and key[1] in self.clusters:
            self.clusters[key[1]].resource = resource
        self.store.write_status(*key, status.written())
        ready = status.condition("Ready")
        if ready is not None and self._told.get(key) != _gist(ready):
            if key in self._told and ready.reason == Reason.BROKER_DOWN:
                return  # the broker's end has been reported already, in more detail
            if ready.reason == Reason.CLUSTER_NOT_READY:
                self._told.setdefault(key, _gist(ready))
                return  # everything waits for its cluster then, and the cluster says so itself
            self._told[key] = _gist(ready)
            self._say(f"{key[0].lower()}/{key[1]}", _sentence(ready, status))


def _timed(
    gateway: KafkaGateway, work: Callable[[KafkaGateway, Task], Mapping[ResourceKey, Outcome]], task: Task
) -> tuple[Mapping[ResourceKey, Outcome], float]:
    before = time.thread_time()
    return work(gateway, task), time.thread_time() - before


def _gist(ready: Condition) -> tuple[str, str, str]:
    return ready.status, ready.reason, ready.message


def _sentence(ready: Condition, status: Status) -> str:
    if ready.status != "True":
        return f"{ready.reason}: {ready.message}" if ready.message else ready.reason
    partitions = getattr(status, "partitions", None)
    if isinstance(partitions, int):
        replicas = getattr(status, "replication_factor", 0)
        count = f"{partitions} {'partition' if partitions == 1 else 'partitions'}"
        return f"ready: {count}, {replicas} {'replica' if replicas == 1 else 'replicas'} each"
    return f"ready: {ready.message[0].lower()}{ready.message[1:]}" if ready.message else "ready"
