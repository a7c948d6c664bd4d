"""One run: a cluster, clients that work, faults, healing, and the verdict. Everything follows from the seed.

    outcome = run(seed=7, brokers=1)
    print(outcome.report())

`python -m tests.simulation --seeds 7 --brokers 1 --verbose` repeats a run and prints all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import struct
import zlib
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.clients.admin import EARLIEST, LATEST, create_topic, list_offset
from tests.simulation.clients.connection import PROBLEMS, BrokerError, ClusterView
from tests.simulation.clients.consumer import Consumer
from tests.simulation.clients.member import Member, find_coordinator, read_commits
from tests.simulation.clients.producer import Producer
from tests.simulation.clients.raw import send_rubbish
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Fault, Faults, make_schedule
from tests.simulation.invariants import InvariantBroken, Invariants
from tests.support.history.checker import check
from tests.support.history.operations import Final, History, Outcome, Partition, Poll, Seek
from tests.support.simulated_loop import Host, HostClock, Simulation, SimulationStuck

TOPIC = "orders"
GROUP = "shipping"
TROUBLE_BEGINS, TROUBLE_ENDS = 3.0, 15.0
"""Virtual seconds."""
PATIENCE = 120.0
"""Virtual seconds after the healing in which everything must have come right."""


@dataclass(slots=True)
class Run:
    """What came out."""

    seed: int
    brokers: int
    schedule: list[Fault] = field(default_factory=list)
    hits: list[str] = field(default_factory=list)
    """Whom the faults hit that look for a leader."""
    complaints: list[str] = field(default_factory=list)
    history: History = field(default_factory=History)
    trace: int = 0
    """A checksum over every event: equal for equal runs."""
    steps: int = 0
    virtual_seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.complaints

    def count(self, outcome: Outcome) -> int:
        return sum(1 for send in self.history.sends if send.outcome is outcome)

    def summary(self) -> str:
        polls = sum(1 for read in self.history.reads if type(read) is Poll)
        return (
            f"seed {self.seed}: {self.count(Outcome.OK)} acknowledged, {self.count(Outcome.UNKNOWN)} unknown, "
            f"{polls} polled, {len(self.history.commits)} commits, {len(self.schedule)} faults, {self.steps} steps in "
            f"{self.virtual_seconds:.1f} virtual seconds, trace {self.trace:08x}"
        )

    def report(self) -> str:
        """The run as text, and how to repeat it."""
        lines = [self.summary()]
        lines += [f"  {fault}" for fault in self.schedule]
        lines += [f"  {hit}" for hit in self.hits]
        lines += [f"  WRONG: {re.sub('xx+', '..', complaint)}" for complaint in self.complaints]
        lines.append(f"  repeat: make simulate SEEDS={self.seed}..{self.seed} BROKERS={self.brokers} VERBOSE=1")
        lines.append("  with the fewest faults that still fail: the same with SHRINK=1")
        return "\n".join(lines)


def run(seed: int, brokers: int = 1, kept: Collection[int] | None = None) -> Run:
    """The run of a seed; with only some faults of its schedule, by number from 0, when `kept` says so."""
    collecting = gc.isenabled()
    gc.disable()  # a fifth faster; and no finalizer runs at a moment that depends on what ran before
    simulation = Simulation(seed)
    scenario = Scenario(simulation, seed, brokers, kept)
    try:
        return scenario.run()
    finally:
        simulation.end()
        if collecting:
            gc.enable()


class Scenario:
    """Holds what one run needs."""

    def __init__(self, simulation: Simulation, seed: int, brokers: int, kept: Collection[int] | None = None) -> None:
        self.simulation = simulation
        self.random = random = Random(f"{seed} of {brokers}")
        self.result = Run(seed, brokers)
        self.history = self.result.history
        self.history.durable_acks = frozenset({-1, 1}) if brokers == 1 else frozenset({-1})
        self.partitions: list[Partition] = [(TOPIC, index) for index in range(random.randint(1, 3))]
        self.replicas = min(3, brokers)
        self.cluster = Cluster(simulation, brokers, self._overrides())
        self.clients: list[Host] = []
        self.producers: list[Producer] = []
        self.consumers: list[Consumer] = []
        self.members: list[Member] = []
        self.kept = kept
        self.working = True
        self.stage: object = "working"
        """What the run was about when it got stuck."""
        self.invariants = Invariants(self.cluster)
        simulation.after_step.append(self._after_step)

    def _overrides(self) -> dict[str, str]:
        """Intervals short enough that everything periodic happens in a run."""
        random = self.random
        return {
            "log.flush.offset.checkpoint.interval.ms": str(random.choice((200, 2000, 60000))),
            "log.flush.start.offset.checkpoint.interval.ms": str(random.choice((200, 60000))),
            "replica.high.watermark.checkpoint.interval.ms": str(random.choice((100, 1000, 5000))),
            "log.retention.check.interval.ms": str(random.choice((500, 300000))),
            "metadata.log.max.record.bytes.between.snapshots": str(random.choice((200, 20971520))),
            "log.index.interval.bytes": str(random.choice((0, 4096))),
        } | (self._overrides_of_several() if self.result.brokers > 1 else {})

    def _overrides_of_several(self) -> dict[str, str]:
        """How soon brokers give each other up."""
        random = self.random
        session = random.choice((800, 3000))
        return {
            "broker.session.timeout.ms": str(session),
            "broker.heartbeat.interval.ms": str(session // 5),
            "replica.lag.time.max.ms": str(random.choice((600, 2000, 30000))),
            "controller.quorum.fetch.timeout.ms": str(random.choice((500, 2000))),
            "controller.quorum.election.timeout.ms": str(random.choice((300, 1000))),
        }

    def _after_step(self, host: Host) -> None:
        simulation, result = self.simulation, self.result
        result.trace = zlib.crc32(struct.pack("<d", simulation.time), result.trace)
        self.invariants.may_lose = bool(self.history.losses)
        self.invariants.look(host)

    # The course of a run.

    def run(self) -> Run:
        result = self.result
        try:
            self._play()
            result.complaints += [str(anomaly) for anomaly in check(self.history)]
        except (SimulationStuck, InvariantBroken, RuntimeError, AssertionError, OSError) as error:
            cause = f" ({error.__cause__!r})" if error.__cause__ is not None else ""
            result.complaints.append(f"{type(error).__name__}: {error}{cause}; {self.stage}")
        result.complaints += self.cluster.surprises
        result.steps = self.simulation.steps
        result.virtual_seconds = self.simulation.time
        result.trace = zlib.crc32(repr((self.history.sends, self.history.reads)).encode(), result.trace)
        return result

    def _play(self) -> None:
        simulation = self.simulation
        self.cluster.start()
        random = self.random
        configs = {"segment.ms": str(random.choice((500, 3000, 604800000)))}
        if random.random() < 0.2:
            configs |= {"retention.ms": str(random.choice((1000, 5000))), "file.delete.delay.ms": "300"}
        setup = self._view("admin")
        simulation.run(self.clients[0], create_topic(setup, TOPIC, len(self.partitions), self.replicas, configs))
        work = [self._start(host, job) for host, job in self._jobs()]
        schedule = make_schedule(random, self.result.brokers, TROUBLE_BEGINS, TROUBLE_ENDS)
        self.result.schedule = [
            fault for number, fault in enumerate(schedule) if self.kept is None or number in self.kept
        ]
        faults = Faults(self.cluster, self.clients, self.history, random)
        faults.plan(self.result.schedule)
        self.result.hits = faults.log
        simulation.run_for(TROUBLE_ENDS + 1.5 - simulation.time)
        faults.heal()
        self.working = False
        judge = self._view("judge")
        simulation.run(self.clients[-1], self._finish(judge), limit=PATIENCE)
        for member in self.members:
            member.end()
        self.invariants.compare_replicas()
        for task in work:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise AssertionError(f"a client failed: {task.exception()!r}") from task.exception()

    def _start(self, host: Host, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        with host.loop.running():
            return host.loop.create_task(job)

    def _view(self, name: str) -> ClusterView:
        host = self.simulation.host(name)
        self.clients.append(host)
        return ClusterView(host, name, self.cluster.addresses)

    def _jobs(self) -> list[tuple[Host, Coroutine[Any, Any, None]]]:
        random = self.random
        jobs: list[tuple[Host, Coroutine[Any, Any, None]]] = []
        for number in range(random.randint(1, 3)):
            acks, idempotent = random.choice(((-1, True), (-1, True), (-1, False), (1, False), (0, False)))
            view = self._view(f"producer-{number}")
            jobs.append((self.clients[-1], self._produce(view, acks, idempotent, random.uniform(0.02, 0.3))))
        for number in range(random.randint(1, 2)):
            view = self._view(f"consumer-{number}")
            jobs.append((self.clients[-1], self._consume(view, random.choice((50, 500)), random.choice((300, 10**6)))))
        if random.random() < 0.6:
            for number in range(random.randint(1, 3)):
                view = self._view(f"member-{number}")
                jobs.append((self.clients[-1], self._take_part(view, random.uniform(0.1, 1.0), random.random() < 0.3)))
        if random.random() < 0.2:
            jobs.append((self.simulation.host("vandal"), self._vandalise()))
            self.clients.append(self.simulation.host("vandal"))
        return jobs

    async def _produce(self, view: ClusterView, acks: int, idempotent: bool, pause: float) -> None:
        random = Random(self.random.random())
        producer = Producer(
            view,
            self.history,
            acks=acks,
            idempotent=idempotent,
            delivery_timeout=random.choice((3.0, 60.0)),
            timestamp_ms=HostClock(self.simulation.host(view.client_id)).time_ms,
            on_surprise=self._lost_producer_state,
        )
        producer.forgetful_brokers = self.result.brokers > 1
        self.producers.append(producer)
        while self.working:
            producer.send(random.choice(self.partitions), random.randint(1, 3), random.choice((0, 10, 300)))
            await asyncio.sleep(random.uniform(0, 2 * pause))

    def _lost_producer_state(self, text: str, partition: Partition, broker_id: int) -> None:
        """Only a loss of power makes a broker forget what an idempotent producer wrote, or a retention that has not
        been asked for. A leader that does not know that it is deposed lacks what its successor has taken, and the
        producer may come back to it: it asks others who leads, and they may not have heard of it either."""
        deposed = self.cluster.newest_leader(*partition) not in (broker_id, -1)
        if not deposed and not any(fault.kind == "lose_power" for fault in self.result.schedule):
            self.cluster.surprises.append(text)

    async def _consume(self, view: ClusterView, max_wait_ms: int, max_bytes: int) -> None:
        consumer = Consumer(
            view,
            self.history,
            max_wait_ms=max_wait_ms,
            max_bytes=max_bytes,
            sessions=self.random.random() < 0.7,
            on_surprise=self.cluster.surprises.append,
        )
        consumer.assign((partition, 0) for partition in self.partitions)
        self.consumers.append(consumer)
        await consumer.run()

    async def _take_part(self, view: ClusterView, commit_interval: float, moody: bool) -> None:
        """Be a member of the group; a moody one leaves it and comes back."""
        random = Random(self.random.random())
        await view.refresh([TOPIC])
        consumer = Consumer(view, self.history, max_wait_ms=200, on_surprise=self.cluster.surprises.append)
        member = Member(consumer, view, self.history, GROUP, TOPIC)
        self.members.append(member)
        while True:
            try:
                async with asyncio.timeout(random.uniform(1, 6) if moody and self.working else None):
                    await member.run(commit_interval)
            except TimeoutError:
                if random.random() < 0.5:
                    await member.leave()
                consumer.assign(())
                await asyncio.sleep(random.uniform(0, 2))

    async def _vandalise(self) -> None:
        random = Random(self.random.random())
        while self.working:
            await send_rubbish(random.choice(self.cluster.addresses), random)
            await asyncio.sleep(random.uniform(0, 1))

    # The end.

    async def _finish(self, view: ClusterView) -> None:
        """Everything is healed: all sends end, all consumers reach the end, then the whole log is read."""
        self.stage = "waiting for the brokers to serve"
        while not self.cluster.all_serving:
            await view.rest()
        for producer in self.producers:
            self.stage = producer
            await producer.flush()
        self.stage = "waiting for the brokers to agree"
        while self.cluster.disagreement():
            self.stage = f"waiting for the brokers to agree: {self.cluster.disagreement()}"
            await view.rest()
        self.stage = "looking for the ends of the logs"
        await view.refresh([TOPIC])
        ends: dict[Partition, int] = {}
        for partition in self.partitions:
            ends[partition] = await self._settled_end(view, partition)
        for partition in self.partitions:
            start = await list_offset(view, partition, EARLIEST)
            self.stage = f"reading {partition} from {start} to {ends[partition]}"
            self.history.finals.append(await self._read_all(view, partition, start, ends[partition]))
        self.stage = f"waiting for the consumers to come to {ends}"
        for consumer in self.consumers:
            consumer.hurry()
        while not all(
            consumer.places[partition].offset >= ends[partition]
            for consumer in self.consumers
            for partition in self.partitions
        ):
            await view.rest()
        if self.members:
            await self._finish_group(view, ends)

    async def _finish_group(self, view: ClusterView, ends: dict[Partition, int]) -> None:
        """The group comes to the end too, and says so."""
        self.stage = f"waiting for the group to commit {ends}"
        while True:
            await view.rest(0.2, 0.5)
            try:
                coordinator = await find_coordinator(view, GROUP)
                places = await read_commits(view, coordinator, self.history, GROUP, self.partitions)
            except (BrokerError, *PROBLEMS):
                continue
            if all(places[partition] >= end for partition, end in ends.items()):
                return

    async def _settled_end(self, view: ClusterView, partition: Partition) -> int:
        """Where the partition ends once nothing is under way: late packets of dead connections came too."""
        end = await list_offset(view, partition, LATEST)
        while True:
            await asyncio.sleep(1.0)
            again = await list_offset(view, partition, LATEST)
            if again == end:
                return end
            end = again

    async def _read_all(self, view: ClusterView, partition: Partition, start: int, end: int) -> Final:
        """Read a whole log. Retention may take its beginning away meanwhile: then again from where it begins now."""
        while True:
            aside = History()
            reader = Consumer(view, aside, max_wait_ms=100, on_surprise=self.cluster.surprises.append)
            reader.assign([(partition, start)])
            with contextlib.suppress(KeyError):
                while reader.places[partition].offset < end:
                    await reader.poll()
            records = [(read.offset, read.value) for read in aside.reads if type(read) is Poll]
            seeks = [read for read in aside.reads if type(read) is Seek][1:]
            if not seeks:
                return Final(partition, start, end, records)
            begins = await list_offset(view, partition, EARLIEST)
            if begins <= start:
                raise AssertionError(f"the last reader of {partition} was sent elsewhere: {seeks}")
            start = begins
