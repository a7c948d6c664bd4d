"""What is measured and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One line of the table. `aim` and `floor` are ratios of ours to Apache Kafka's; None: nothing was promised."""

    key: str
    title: str
    unit: str
    more_is_better: bool
    aim: float | None = None
    floor: float | None = None


ONE_BROKER = (
    Measure("produce_16k_acks1", "produce, batch.size=16384, acks=1", "MiB/s", True, 1.5, 1.3),
    Measure("produce_16k_all", "produce, batch.size=16384, acks=all", "MiB/s", True, 1.5, 1.3),
    Measure("produce_64k_acks1", "produce, batch.size=65536, acks=1", "MiB/s", True, 1.5, 1.3),
    Measure("produce_64k_all", "produce, batch.size=65536, acks=all", "MiB/s", True, 1.5, 1.3),
    Measure("single", "one record a request (linger.ms=0, batch.size=1)", "requests/s", True, 1.0, 1.0),
    Measure("consume", "consume", "MiB/s", True, 1.5, 1.2),
    Measure("latency_p50", "end to end at 500 records/s, p50", "ms", False),
    Measure("latency_p99", "end to end at 500 records/s, p99", "ms", False, 0.8, 1.0),
    Measure("end_to_end", "EndToEndLatency, one at a time, average", "ms", False),
    Measure("cpu_16k", "broker CPU per GB in, batch.size=16384", "s", False, 0.5, 0.7),
    Measure("cpu_64k", "broker CPU per GB in, batch.size=65536", "s", False, 0.5, 0.7),
    Measure("client_16k", "the producer's own CPU per GB, batch.size=16384", "s", False),
    Measure("client_64k", "the producer's own CPU per GB, batch.size=65536", "s", False),
    Measure("client_consume", "the consumer's own CPU per GB", "s", False),
    Measure("cpu_single", "broker CPU per 1,000 requests of one record", "ms", False),
    Measure("cpu_consume", "broker CPU per GB out, consume", "s", False),
    Measure("memory_idle", "resident memory, idle", "MB", False, 0.1, 1 / 6),
    Measure("memory_load", "resident memory under load, highest", "MB", False, 0.1, 1 / 6),
    Measure("start", "start to first acknowledged record", "s", False, 0.1, 0.1),
    Measure("many_create", "1,000 partitions: create, and a record into each", "s", False),
    Measure("many_produce", "1,000 partitions: produce, batch.size=16384, acks=all", "MiB/s", True),
    Measure("many_memory", "1,000 partitions: resident memory after it", "MB", False),
    Measure("many_metadata", "1,000 partitions: Metadata answer", "ms", False),
)
THREE_BROKERS = (
    Measure("three_produce_16k", "produce, batch.size=16384, acks=all", "MiB/s", True, 1.2, 1.2),
    Measure("three_produce_64k", "produce, batch.size=65536, acks=all", "MiB/s", True, 1.2, 1.2),
    Measure("three_cpu_16k", "CPU of all brokers per GB in, batch.size=16384", "s", False),
    Measure("three_cpu_64k", "CPU of all brokers per GB in, batch.size=65536", "s", False),
    Measure("three_consume", "consume", "MiB/s", True),
    Measure("three_latency_p50", "end to end at 500 records/s, acks=all, p50", "ms", False),
    Measure("three_latency_p99", "end to end at 500 records/s, acks=all, p99", "ms", False, 1.0, 1.0),
    Measure("three_kill", "leader killed (-9) to the first acknowledged record, median", "s", False, 0.2, 0.2),
    Measure("three_kill_max", "leader killed (-9) to the first acknowledged record, longest", "s", False),
    Measure("three_stop", "leader silent (SIGSTOP) to the first acknowledged record, median", "s", False, 1.0, 1.0),
    Measure("three_stop_max", "leader silent (SIGSTOP) to the first acknowledged record, longest", "s", False),
    Measure("short_kill", "short timeouts: leader killed, median", "s", False, 0.2, 0.2),
    Measure("short_kill_max", "short timeouts: leader killed, longest", "s", False),
    Measure("short_stop", "short timeouts: leader silent, median", "s", False, 1.0, 1.0),
    Measure("short_stop_max", "short timeouts: leader silent, longest", "s", False),
    Measure("three_rejoin", "start with 1 GB behind to being in every ISR again", "s", False),
    Measure("three_memory_idle", "resident memory of all brokers, idle", "MB", False, 0.1, 1 / 6),
    Measure("three_cpu_idle", "CPU of all brokers, idle, of one core", "%", False),
    Measure("three_many_create", "3,000 partitions: create, and a record into each", "s", False),
    Measure("three_many_memory", "3,000 partitions: resident memory of all brokers", "MB", False, 0.1, 1 / 6),
    Measure("three_many_cpu_idle", "3,000 partitions: CPU of all brokers, idle, of one core", "%", False),
    Measure("three_many_metadata", "3,000 partitions: Metadata answer", "ms", False),
    Measure("three_many_controller", "3,000 partitions: active controller killed to the next change", "s", False),
    Measure("three_many_leaders", "3,000 partitions: the same to a leader for every partition", "s", False),
)
