"""One round on three brokers: replication factor 3, min.insync.replicas 2, every broker a voter of the quorum."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from e2e.bench import load, probes
from e2e.bench.failover import DEADLINE_S, Failover, median_and_longest
from e2e.bench.gauges import cpu_seconds, idle_cpu, resident_mb
from e2e.brokers import Brokers
from tests.support.broker_process import BrokerProcess

GROUPS = ("idle", "produce", "consume", "latency", "rejoin", "failover", "short-failover", "partitions")
REPLICAS = 3
GB = 1e9

KAFKAS_DEFAULTS = {
    "offsets.topic.num.partitions": "50",
    "broker.session.timeout.ms": "9000",
    "broker.heartbeat.interval.ms": "2000",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}
"""What tests of faults shorten, as Kafka has it; and what Apache Kafka needs beside that on three brokers."""

SHORT_TIMEOUTS = {
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.election.backoff.max.ms": "500",
}
"""A third of Kafka's defaults: what a cluster on one network can afford."""


@dataclass(frozen=True)
class Sizes:
    """How much load a round puts on a cluster. Records are 1 KiB."""

    warmup_records: int = 200_000
    produce_records: int = 300_000
    latency_seconds: float = 10.0
    idle_seconds: float = 10.0
    rejoin_bytes: int = 1_000_000_000
    repetitions: int = 3
    topics: int = 3
    partitions: int = 1_000
    """Of each topic."""


QUICK = Sizes(50_000, 100_000, 4.0, 4.0, 200_000_000, 2, 3, 1_000)


class Round:
    """Measures one fresh cluster, and its failover on another one with short timeouts."""

    def __init__(
        self, kind: type[BrokerProcess], sizes: Sizes, groups: Collection[str], say: Callable[[str], None]
    ) -> None:
        self.kind = kind
        self.sizes = sizes
        self.groups = [group for group in GROUPS if group in groups]
        self.say = say
        self.figures: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        """All figures of this round, by the keys of THREE_BROKERS."""
        usual = [group for group in self.groups if group != "short-failover"]
        if usual:
            self._on_a_cluster({}, usual)
        if "short-failover" in self.groups:
            self._on_a_cluster(SHORT_TIMEOUTS, ["short-failover"])
        return self.figures

    def _on_a_cluster(self, overrides: dict[str, str], groups: Collection[str]) -> None:
        self.cluster = Brokers(self.kind, size=REPLICAS, overrides={**KAFKAS_DEFAULTS, **overrides})
        try:
            self.cluster.start()
            self.bootstrap = self.cluster.bootstrap
            self.failover = Failover(self.cluster, self.say)
            self._create("first", 1)
            for group in groups:
                self._measure(group)
        except Exception:
            self.say(f"the last words of {self.cluster.name}:\n{self.cluster.last_words()}")
            raise
        finally:
            self.cluster.close()

    def _measure(self, group: str) -> None:
        match group:
            case "failover":
                self.failovers("three")
            case "short-failover":
                self.failovers("short")
            case _:
                getattr(self, group)()

    def record(self, key: str, figure: float) -> None:
        self.figures[key] = figure
        self.say(f"{self.cluster.name:>10}  {key:<22} {figure:,.2f}")

    def _create(self, topic: str, partitions: int) -> None:
        load.create_topic(self.bootstrap, topic, partitions, REPLICAS)

    def _produce(self, topic: str, records: int, warmup: int, batch_size: str) -> float:
        """MiB/s, acks=all."""
        return load.produce(self.bootstrap, topic, records, warmup, batch_size=batch_size, acks="all")[1]

    def idle(self) -> None:
        load.write_to_each(self.bootstrap, "first", 1)
        time.sleep(5.0)  # idle is what it is after it has settled
        self.record("three_cpu_idle", idle_cpu(self.cluster.pids, self.sizes.idle_seconds))
        self.record("three_memory_idle", resident_mb(*self.cluster.pids))

    def produce(self) -> None:
        """The first runs warm the brokers' JVMs up and are thrown away."""
        self._create("warm", 3)
        for batch_size in ("16384", "65536"):
            load.produce(
                self.bootstrap, "warm", self.sizes.warmup_records // 2, 1000, batch_size=batch_size, acks="all"
            )
        for size, batch_size in (("16k", "16384"), ("64k", "65536")):
            topic, warmup = f"produce-{size}", 50_000
            self._create(topic, 3)
            before = cpu_seconds(*self.cluster.pids)
            rate = self._produce(topic, self.sizes.produce_records, warmup, batch_size)
            self.record(f"three_produce_{size}", rate)
            probes.first_success([self.cluster.brokers[1].bootstrap], probes.has_full_isr(topic, REPLICAS), DEADLINE_S)
            used = cpu_seconds(*self.cluster.pids) - before
            self.record(f"three_cpu_{size}", used / ((self.sizes.produce_records + warmup) * 1024 / GB))

    def consume(self) -> None:
        """From the page cache, as a consumer that keeps up reads; the first run is thrown away."""
        if "produce" not in self.groups:
            self._create("produce-16k", 3)
            load.produce(
                self.bootstrap, "produce-16k", self.sizes.produce_records, 1000, batch_size="16384", acks="all"
            )
        rates = [load.consume(self.bootstrap, "produce-16k", self.sizes.produce_records) for _ in range(3)]
        self.record("three_consume", sum(rates[1:]) / 2)

    def latency(self) -> None:
        self._create("latency", 1)
        load.steady_latency(self.bootstrap, "latency", 500, 3.0)
        p50, p99 = load.steady_latency(self.bootstrap, "latency", 500, self.sizes.latency_seconds)
        self.record("three_latency_p50", p50)
        self.record("three_latency_p99", p99)

    def rejoin(self) -> None:
        """A broker is stopped cleanly, misses what is written, and comes back: from its start to every ISR."""
        self._create("rejoin", 3)
        load.write_to_each(self.bootstrap, "rejoin", 3)
        away = next(node for node in self.cluster.brokers if node != self.failover.controller())
        broker = self.cluster.brokers[away]
        broker.stop()
        records = self.sizes.rejoin_bytes // 1024
        self._produce("rejoin", records, 1000, "65536")
        others = [self.cluster[node].bootstrap for node in self.cluster.others(away)]
        began = time.perf_counter()
        broker.spawn()
        self.record("three_rejoin", probes.first_success(others, probes.has_full_isr("rejoin", 3), 120) - began)

    def failovers(self, prefix: str) -> None:
        for name, fault in (("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)):
            median, longest = median_and_longest(self.failover.times(fault, self.sizes.repetitions))
            self.record(f"{prefix}_{name}", median)
            self.record(f"{prefix}_{name}_max", longest)

    def partitions(self) -> None:
        topics = [f"many-{number}" for number in range(self.sizes.topics)]
        began = time.perf_counter()
        for topic in topics:
            self._create(topic, self.sizes.partitions)
            load.write_to_each(self.bootstrap, topic, self.sizes.partitions)
        self.record("three_many_create", time.perf_counter() - began)
        time.sleep(5.0)
        self.record("three_many_cpu_idle", idle_cpu(self.cluster.pids, self.sizes.idle_seconds))
        self.record("three_many_memory", resident_mb(*self.cluster.pids))
        self.record("three_many_metadata", load.metadata_ms(self.bootstrap))
        controller = self.failover.controller()
        survivors = [self.cluster[node].bootstrap for node in self.cluster.others(controller)]
        began = self.failover.take_away(signal.SIGKILL, controller)
        changed = probes.first_success(survivors, probes.changes_metadata(topics[0]), DEADLINE_S, 1.0)
        self.record("three_many_controller", changed - began)
        led = probes.first_success(survivors, probes.has_leaders(topics, without=controller), DEADLINE_S, 5.0)
        self.record("three_many_leaders", led - began)
