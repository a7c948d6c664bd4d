"""Brokers under the virtual clock: real code from sockets to files, supervised as an operating system would.

Each `Node` is a machine with a disk and a clock of its own. Its process is `Broker`, started again a moment after it
ended for whatever reason, as long as the node is wanted. Faults are methods; `faults.py` calls them by a schedule.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from broadsheet_broker.broker import Broker
from broadsheet_broker.config import BrokerConfig, load_config
from tests.support.memory_files import MemoryFiles
from tests.support.simulated_loop import Host, HostClock, Simulation

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
PORT, CONTROLLER_PORT = 9092, 9093
NORMAL_DISK = (0.0001, 0.005)
"""Seconds of a blocking disk operation."""


class Killed(BaseException):
    """The process of a node died in the middle of a write. Nothing catches this."""


class Node:
    """One broker: machine, disk, process."""

    def __init__(self, cluster: Cluster, id: int) -> None:
        self.id = id
        self.cluster = cluster
        self.host: Host = cluster.simulation.host(f"broker-{id}")
        self.files = MemoryFiles(HostClock(self.host).time_ms)
        self.random = Random(cluster.simulation.random.getrandbits(64))
        self.broker: Broker | None = None
        """The one that runs, or is starting."""
        self.serving = False
        self.wanted = False
        self.lives = 0
        """How often the process was started."""
        self._stop: asyncio.Event | None = None
        self._began_on_bad_disk = False

    @property
    def name(self) -> str:
        return self.host.name

    def led_epoch(self, of_quorum: bool) -> int:
        """In which epoch it leads the metadata quorum, or partition 0 of the topic; -1 when it does not."""
        broker = self.broker
        if broker is None or not self.serving:
            return -1
        inside = broker.inspect()
        if of_quorum:
            raft: Any = None if inside.node is None else inside.node.raft
            return raft.epoch if raft is not None and raft.is_leader else -1
        for each in inside.partitions:
            if each.is_leader and not each.index and not each.topic.startswith("__"):
                return each.leader_epoch
        return -1

    # The process.

    def start(self) -> None:
        """Run the broker, again and again, until `kill` or `stop`."""
        self.wanted = True
        self.lives += 1
        self._began_on_bad_disk = self.files.fault is not None or self.files.capacity is not None
        self.broker = Broker(self.host.environment(self.files), self.cluster.config_of(self.id))
        loop = self.host.loop
        with loop.running():
            self._stop = asyncio.Event()
            loop.create_task(self._serve(self.broker, self._stop, self.lives), name=f"{self.name} life {self.lives}")

    async def _serve(self, broker: Broker, stop: asyncio.Event, life: int) -> None:
        """What `broadsheet broker` does between its start and its end."""
        broker.on_failure = lambda reason: stop.set()
        try:
            await broker.start()
            self.serving = True
            await stop.wait()
            self.serving = False
            await broker.stop()
        except Exception as error:
            self.serving = False
            self.cluster.process_failed(self, error)
        self._later(0.0, lambda: self._exit(life))

    def _exit(self, life: int) -> None:
        """The process has ended by itself: its memory, sockets and locks are gone."""
        if self.broker is not None and life == self.lives:
            self._end(silently=False)
            self.files.kill()
            self._start_again()

    def _end(self, *, silently: bool) -> None:
        self.serving = False
        self.broker = None
        self._stop = None
        self.host.kill(silently=silently)

    def _start_again(self) -> None:
        life = self.lives
        if self.wanted:
            self._later(self.random.uniform(0.1, 0.5), lambda: self._revive(life))

    def _revive(self, life: int) -> None:
        if self.wanted and self.broker is None and life == self.lives:
            self.start()

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        """Do something from outside of every process."""
        self.cluster.simulation.network.wire.call_later(delay, action)

    # Faults.

    def kill(self) -> None:
        """kill -9: what was written is there, what was only in memory is not."""
        self.wanted = False
        if self.broker is not None:
            self._end(silently=False)
            self.files.kill()

    def kill_while_writing(self, appends: int) -> None:
        """kill -9 in the middle of one of the next writes."""
        countdown = appends

        def appended(path: str) -> None:
            nonlocal countdown
            countdown -= 1
            if countdown <= 0 and self.broker is not None:
                self.files.after_append = None
                self.wanted = False
                self._end(silently=False)
                self.files.tear(path, self.random)
                raise Killed

        self.files.after_append = appended

    def lose_power(self) -> None:
        """What was not synced is gone, or half there; peers hear nothing."""
        self.wanted = False
        self.files.after_append = None
        if self.broker is not None:
            self._end(silently=True)
        # Without holes: a replica that finds sound batches behind a hole is kept offline for a person to look at.
        self.files.lose_power(self.random, holes=False)

    def stop(self) -> None:
        """SIGTERM."""
        self.wanted = False
        if self._stop is not None:
            self._stop.set()

    def bring_back(self) -> None:
        """Whatever happened to this node is over."""
        if self.broker is not None and (self.files.fault is not None or self._began_on_bad_disk):
            self.kill()  # what a broken disk took offline, or a full one kept from opening, comes with the next start
        self.files.capacity = None
        self.files.fault = None
        self.files.after_append = None
        self.host.disk_delay = NORMAL_DISK
        self.host.resume()
        self.cluster.simulation.network.power_on(self.host)
        self.wanted = True
        if self.broker is None:
            self.start()

    def fill_disk(self, room: int) -> None:
        """Leave room for this many bytes."""
        self.files.capacity = self.files.used_bytes() + room

    def break_disk(self, operations: tuple[str, ...]) -> None:
        """These operations fail with EIO."""
        self.files.fault = lambda operation, path: errno.EIO if operation in operations else None

    def slow_disk(self, least: float, most: float) -> None:
        """Blocking calls take this long, in seconds."""
        self.host.disk_delay = (least, most)


class Cluster:
    """Nodes that are each broker and controller."""

    def __init__(self, simulation: Simulation, brokers: int, overrides: Mapping[str, str] | None = None) -> None:
        self.simulation = simulation
        self.overrides = dict(overrides or {})
        self.surprises: list[str] = []
        """What no fault explains."""
        self.size = brokers
        self.nodes = {id: Node(self, id) for id in range(1, brokers + 1)}
        self._configs: dict[int, BrokerConfig] = {}
        simulation.network.wire.set_exception_handler(_pass_over_killed)

    def config_of(self, id: int) -> BrokerConfig:
        found = self._configs.get(id)
        if found is None:
            replicas = min(3, self.size)
            voters = ",".join(f"{node}@broker-{node}:{CONTROLLER_PORT}" for node in self.nodes)
            values = {
                "node.id": str(id),
                "process.roles": "broker,controller",
                "listeners": f"PLAINTEXT://broker-{id}:{PORT},CONTROLLER://broker-{id}:{CONTROLLER_PORT}",
                "controller.listener.names": "CONTROLLER",
                "controller.quorum.voters": voters,
                "broadsheet.cluster.id": CLUSTER_ID,
                "log.dirs": "/data",
                "offsets.topic.num.partitions": "2",
                "offsets.topic.replication.factor": str(replicas),
                "default.replication.factor": str(replicas),
                "min.insync.replicas": str(max(1, replicas - 1)),
                "group.initial.rebalance.delay.ms": "0",
                "broker.session.timeout.ms": "3000",
                "broker.heartbeat.interval.ms": "500",
            } | self.overrides
            found = self._configs[id] = load_config(None, [f"{key}={value}" for key, value in values.items()])
        return found

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(node.name, PORT) for node in self.nodes.values()]

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()

    def newest_leader(self, topic: str, index: int) -> int:
        """Who leads a partition in the newest epoch, of the brokers that think they do; -1 when none does."""
        best, newest = -1, -1
        for node in self.nodes.values():
            for each in node.broker.inspect().partitions if node.broker is not None else ():
                if each.is_leader and (each.topic, each.index) == (topic, index) and each.leader_epoch > newest:
                    best, newest = node.id, each.leader_epoch
        return best

    @property
    def all_serving(self) -> bool:
        return all(node.serving for node in self.nodes.values())

    def disagreement(self) -> str:
        """What is not as it should be when no fault is left: who leads what, as every broker has it, and its ISR. Until
        then a deposed leader may answer a client with the end of its own log. Empty when all is well."""
        states: dict[tuple[str, int], tuple[int, int]] = {}
        for node in self.nodes.values():
            if node.broker is None or node.broker.inspect().replicas is None:
                return f"{node.name} does not run"
            for each in node.broker.inspect().partitions:
                state = (each.leader_epoch, each.partition_epoch)
                if states.setdefault((each.topic, each.index), state) != state:
                    return f"{node.name} has {each.topic}-{each.index} in epochs {state}"
                if len(each.isr) < len(each.replicas):
                    return f"the ISR of {each.topic}-{each.index} is {list(each.isr)}"
        return ""

    def process_failed(self, node: Node, error: Exception) -> None:
        """A process ended by an exception: fine while its disk is broken or full, the end of the run otherwise."""
        disk = node.files
        if disk.fault is None and disk.capacity is None and disk.after_append is None:
            self.simulation.unhandled.append({"message": f"{node.name} ended by itself", "exception": error})


def _pass_over_killed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A process may die while the network hands it bytes; that is no fault of the network."""
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)
