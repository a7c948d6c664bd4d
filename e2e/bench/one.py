"""One round on one broker: start it, warm it up, measure, stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from e2e.bench import load
from e2e.bench.gauges import PeakMemory, clients_cpu_seconds, cpu_seconds, resident_mb
from tests.support.broker_process import BrokerProcess

GROUPS = ("start", "produce", "single", "consume", "latency", "partitions")


@dataclass(frozen=True)
class Sizes:
    """How much load a round puts on a broker. Records are 1 KiB."""

    warmup_records: int = 300_000
    produce_records: int = 800_000
    single_records: int = 50_000
    latency_seconds: float = 10.0
    end_to_end_records: int = 5_000
    partitions: int = 1_000
    many_records: int = 50_000


QUICK = Sizes(50_000, 100_000, 10_000, 4.0, 1_000, 1_000, 20_000)
GB = 1e9


class Round:
    """Measures one fresh broker."""

    def __init__(
        self, broker: BrokerProcess, sizes: Sizes, groups: Collection[str], say: Callable[[str], None]
    ) -> None:
        self.broker = broker
        self.sizes = sizes
        self.groups = groups
        self.say = say
        self.figures: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        """All figures of this round, by the keys of MEASURES."""
        self.broker.start()
        load.create_topic(self.broker.bootstrap, "first", 1)
        if "start" in self.groups:
            self.start()
        if {"produce", "consume"} & set(self.groups):
            self.produce()
        for group in ("consume", "single", "latency", "partitions"):
            if group in self.groups:
                getattr(self, group)()
        return self.figures

    def record(self, key: str, figure: float) -> None:
        self.figures[key] = figure
        self.say(f"{self.broker.name:>10}  {key:<20} {figure:,.2f}")

    def start(self) -> None:
        """The second start, so that making and formatting the directory is not counted for either."""
        self.broker.stop()
        producer = load.FirstProduce(self.broker.bootstrap, "first")
        began = time.perf_counter()
        self.broker.spawn()
        self.record("start", producer.wait() - began)
        time.sleep(3.0)  # idle is what it is after it has settled
        self.record("memory_idle", resident_mb(self.broker.pid))

    def produce(self) -> None:
        """The first runs warm the broker's JVM up and are thrown away."""
        bootstrap = self.broker.bootstrap
        load.create_topic(bootstrap, "warm", 3)
        for batch_size in ("16384", "65536"):
            load.produce(bootstrap, "warm", self.sizes.warmup_records // 2, 1000, batch_size=batch_size, acks="all")
        with PeakMemory(self.broker.pid) as peak:
            for size, batch_size in (("16k", "16384"), ("64k", "65536")):
                used, by_client = 0.0, 0.0
                for acks in ("1", "all"):
                    topic = f"produce-{size}-{acks}"
                    load.create_topic(bootstrap, topic, 3)
                    before, client_before = cpu_seconds(self.broker.pid), clients_cpu_seconds()
                    _, rate = load.produce(
                        bootstrap, topic, self.sizes.produce_records, 50_000, batch_size=batch_size, acks=acks
                    )
                    used += cpu_seconds(self.broker.pid) - before
                    by_client += clients_cpu_seconds() - client_before
                    self.record(f"produce_{size}_{'acks1' if acks == '1' else acks}", rate)
                taken_in = 2 * (self.sizes.produce_records + 50_000) * 1024
                self.record(f"cpu_{size}", used / (taken_in / GB))
                self.record(f"client_{size}", by_client / (taken_in / GB))
        self.record("memory_load", peak.mb)

    def consume(self) -> None:
        """From the page cache, as a consumer that keeps up reads; the first run is thrown away."""
        load.consume(self.broker.bootstrap, "produce-16k-1", self.sizes.produce_records)
        before, client_before = cpu_seconds(self.broker.pid), clients_cpu_seconds()
        rates = [
            load.consume(self.broker.bootstrap, f"produce-16k-{acks}", self.sizes.produce_records)
            for acks in ("all", "1", "all")
        ]
        self.record("consume", sum(rates) / 3)
        sent = 3 * self.sizes.produce_records * 1024 / GB
        self.record("cpu_consume", (cpu_seconds(self.broker.pid) - before) / sent)
        self.record("client_consume", (clients_cpu_seconds() - client_before) / sent)

    def single(self) -> None:
        """A batch of one byte has no room for a second record, and one partition makes one batch a request."""
        load.create_topic(self.broker.bootstrap, "single", 1)
        settings = {"batch_size": "1", "linger_ms": "0", "acks": "1"}
        warmup = self.sizes.single_records // 5
        load.produce(self.broker.bootstrap, "single", warmup, 1000, **settings)
        before = cpu_seconds(self.broker.pid)
        rate, _ = load.produce(self.broker.bootstrap, "single", self.sizes.single_records, warmup, **settings)
        used = cpu_seconds(self.broker.pid) - before
        self.record("single", rate)
        self.record("cpu_single", used * 1000 / ((self.sizes.single_records + warmup) / 1000))

    def latency(self) -> None:
        load.create_topic(self.broker.bootstrap, "latency", 1)
        load.steady_latency(self.broker.bootstrap, "latency", 500, 3.0)
        p50, p99 = load.steady_latency(self.broker.bootstrap, "latency", 500, self.sizes.latency_seconds)
        self.record("latency_p50", p50)
        self.record("latency_p99", p99)
        load.create_topic(self.broker.bootstrap, "end-to-end", 1)
        self.record("end_to_end", load.end_to_end(self.broker.bootstrap, "end-to-end", self.sizes.end_to_end_records))

    def partitions(self) -> None:
        bootstrap = self.broker.bootstrap
        began = time.perf_counter()
        load.create_topic(bootstrap, "many", self.sizes.partitions)
        load.write_to_each(bootstrap, "many", self.sizes.partitions)
        self.record("many_create", time.perf_counter() - began)
        self.record("many_metadata", load.metadata_ms(bootstrap))
        _, rate = load.produce(bootstrap, "many", self.sizes.many_records, 20_000, batch_size="16384", acks="all")
        self.record("many_produce", rate)
        self.record("many_memory", resident_mb(self.broker.pid))
