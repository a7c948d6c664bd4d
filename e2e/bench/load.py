"""The clients that put load on a broker: Kafka's own performance tools, and ours for latency at a steady rate."""

from __future__ import annotations

import re
import statistics
import threading
import time

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from e2e.apache.apache import run_tool

TOOLS = "org.apache.kafka.tools."
STEADY_STATE = re.compile(r"steady state records sent, ([\d.]+) records/sec \(([\d.]+) MB/sec\)")


def create_topic(bootstrap: str, topic: str, partitions: int, replicas: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions, replicas)], operation_timeout=60)[topic].result(90)


def create_topic_at(bootstrap: str, topic: str, replicas: list[int]) -> None:
    """One partition on these brokers, led by the first."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    new = NewTopic(topic, 1, replica_assignment=[replicas])
    admin.create_topics([new], operation_timeout=60)[topic].result(90)


def produce(bootstrap: str, topic: str, records: int, warmup: int, **config: str) -> tuple[float, float]:
    """ProducerPerformance with records of 1 KiB: records/s and MiB/s, once the client's own JVM is warm."""
    settings = [f"{key.replace('_', '.')}={value}" for key, value in config.items()]
    done = run_tool(
        TOOLS + "ProducerPerformance",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--throughput", "-1", "--record-size", "1024"),
        *("--num-records", str(records + warmup), "--warmup-records", str(warmup)),
        *("--reporting-interval", "60000", "--command-property", *settings),
        timeout=180,
        check=True,
    )
    match = STEADY_STATE.search(done.stdout)
    if match is None:
        raise RuntimeError(f"ProducerPerformance printed no steady state:\n{done.stdout}{done.stderr}")
    return float(match[1]), float(match[2])


def consume(bootstrap: str, topic: str, records: int) -> float:
    """ConsumerPerformance: MiB/s from the first fetch on (joining the group is not counted)."""
    done = run_tool(
        TOOLS + "ConsumerPerformance",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(records)),
        *("--hide-header", "--timeout", "30000"),
        timeout=120,
        check=True,
    )
    fields = done.stdout.strip().splitlines()[-1].split(", ")
    if int(fields[4]) < records:
        raise RuntimeError(f"ConsumerPerformance read {fields[4]} of {records} records:\n{done.stdout}{done.stderr}")
    return float(fields[8])


def end_to_end(bootstrap: str, topic: str, records: int) -> float:
    """EndToEndLatency, acks=all, one record at a time: the average in ms (its percentiles are whole milliseconds)."""
    done = run_tool(
        TOOLS + "EndToEndLatency",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(records)),
        *("--producer-acks", "all", "--record-size", "1024"),
        timeout=120,
        check=True,
    )
    return float(done.stdout.partition("Avg latency:")[2].split()[0])


def steady_latency(bootstrap: str, topic: str, rate: int, seconds: float) -> tuple[float, float]:
    """p50 and p99 in ms from send to receipt of records of 1 KiB sent at a steady rate, acks=all, linger.ms=0.

    Open loop: each record is due at a time of its own, and its latency counts from then, so that a broker that
    stalls cannot slow down the clock that it is measured with.
    """
    latencies: list[float] = []
    count = int(rate * seconds)
    ready, failed = threading.Event(), threading.Event()

    def receive() -> None:
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "latency", "enable.auto.commit": False, "log_level": 0}
        )
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
        consumer.assign([TopicPartition(topic, 0, end)])
        consumer.poll(0.5)
        ready.set()
        deadline = time.monotonic() + seconds + 30
        while len(latencies) < count and time.monotonic() < deadline:
            record = consumer.poll(1.0)
            if record is not None and record.error() is None:
                due = int((record.value() or b"")[:20])
                latencies.append((time.perf_counter_ns() - due) / 1e6)
        if len(latencies) < count:
            failed.set()
        consumer.close()

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    if not ready.wait(30):
        raise RuntimeError("the latency consumer did not come up")
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0, "log_level": 0})
    start = time.perf_counter_ns() + 100_000_000
    for number in range(count):
        due = start + number * 1_000_000_000 // rate
        while (early := due - time.perf_counter_ns()) > 0:
            time.sleep(early / 1e9)
        producer.produce(topic, f"{due:020d}".encode().ljust(1024, b"."), partition=0)
        producer.poll(0)
    producer.flush(30)
    receiver.join(60)
    if failed.is_set():
        raise RuntimeError(f"{len(latencies)} of {count} records arrived")
    settled = latencies[rate:]  # the first second finds connections and caches cold
    quantiles = statistics.quantiles(settled, n=100)
    return quantiles[49], quantiles[98]


def write_to_each(bootstrap: str, topic: str, partitions: int) -> None:
    """One acknowledged record in each partition: until then a new topic is not there for its users."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    missing = set(range(partitions))

    def delivered(error: object, record: Message) -> None:
        if error is None:
            missing.discard(record.partition())

    for partition in range(partitions):
        producer.produce(topic, b"first", partition=partition, on_delivery=delivered)
    producer.flush(60)
    if missing:
        raise RuntimeError(f"{len(missing)} of {partitions} partitions of {topic} took no record")


def metadata_ms(bootstrap: str, times: int = 30) -> float:
    """The median time of a Metadata answer that names every topic and partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    took = []
    for _ in range(times):
        began = time.perf_counter()
        admin.list_topics(timeout=30)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


class FirstProduce:
    """A producer that waits for a broker to come up: the time of its first acknowledged record."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.acknowledged_at = 0.0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "linger.ms": 0,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 20,
                "retry.backoff.ms": 10,
                "topic.metadata.refresh.fast.interval.ms": 10,
                "log_level": 0,
            }
        )
        self._producer.produce(topic, b"first", on_delivery=self._delivered)

    def _delivered(self, error: object, _record: object) -> None:
        if error is not None:
            raise RuntimeError(f"the first record was not delivered: {error}")
        self.acknowledged_at = time.perf_counter()

    def wait(self, deadline_s: float = 60) -> float:
        self._producer.flush(deadline_s)
        if not self.acknowledged_at:
            raise RuntimeError(f"no record was acknowledged within {deadline_s} s of the start")
        return self.acknowledged_at
