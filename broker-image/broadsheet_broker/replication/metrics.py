"""Metrics of replication, with the names of Kafka's JMX exporter rules and of kafka_exporter.

Everything is worked out at scrape time from the partitions; nothing is kept up to date in between. Per partition, only
its leader reports what kafka_exporter names, so that a sum over brokers counts each partition once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from broadsheet_broker.seams.metrics import Family, Labels

if TYPE_CHECKING:
    from broadsheet_broker.replication.manager import ReplicaManager
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.seams.metrics import Metrics

logger = logging.getLogger(__name__)

Measure = Callable[["Partition"], float]

_MANAGER: tuple[tuple[str, str, Callable[[Partition], bool]], ...] = (
    ("partitioncount", "Replicas held here.", lambda p: True),
    ("leadercount", "Partitions led here.", lambda p: p.is_leader),
    (
        "underreplicatedpartitions",
        "Partitions led here whose ISR is smaller than their replicas.",
        lambda p: p.is_leader and len(p.isr) < len(p.replicas),
    ),
    (
        "underminisrpartitioncount",
        "Partitions led here whose ISR is smaller than min.insync.replicas.",
        lambda p: p.is_leader and len(p.isr) < p.effective_min_insync_replicas,
    ),
    (
        "atminisrpartitioncount",
        "Partitions led here whose ISR is as small as min.insync.replicas allows.",
        lambda p: p.is_leader and len(p.isr) == p.effective_min_insync_replicas,
    ),
)

_LEADER_FAMILIES: tuple[tuple[str, str, Measure], ...] = (
    ("kafka_cluster_partition_replicascount", "Replicas of the partition.", lambda p: len(p.replicas)),
    ("kafka_cluster_partition_insyncreplicascount", "Replicas in sync.", lambda p: len(p.isr)),
    (
        "kafka_cluster_partition_underreplicated",
        "1 while the ISR is smaller than the replicas.",
        lambda p: len(p.isr) < len(p.replicas),
    ),
    (
        "kafka_cluster_partition_underminisr",
        "1 while the ISR is smaller than min.insync.replicas.",
        lambda p: len(p.isr) < p.effective_min_insync_replicas,
    ),
    (
        "kafka_cluster_partition_atminisr",
        "1 while the ISR is as small as min.insync.replicas allows.",
        lambda p: len(p.isr) == p.effective_min_insync_replicas,
    ),
    (
        "kafka_topic_partition_current_offset",
        "High watermark: the offset that the next record for consumers gets.",
        lambda p: p.high_watermark,
    ),
    ("kafka_topic_partition_oldest_offset", "Log start offset.", lambda p: p.log.log_start_offset),
    ("kafka_topic_partition_replicas", "Replicas of the partition.", lambda p: len(p.replicas)),
    ("kafka_topic_partition_in_sync_replica", "Replicas in sync.", lambda p: len(p.isr)),
    ("kafka_topic_partition_leader", "Node id of the leader.", lambda p: p.leader_id),
    (
        "kafka_topic_partition_leader_is_preferred",
        "1 while the first replica leads.",
        lambda p: p.replicas[:1] == (p.leader_id,),
    ),
    (
        "kafka_topic_partition_under_replicated_partition",
        "1 while the ISR is smaller than the replicas.",
        lambda p: len(p.isr) < len(p.replicas),
    ),
)

_LOG_FAMILIES: tuple[tuple[str, str, Measure], ...] = (
    ("kafka_log_log_size", "Bytes of the partition's log on this broker.", lambda p: p.log.size),
    ("kafka_log_log_logstartoffset", "First offset of the log.", lambda p: p.log.log_start_offset),
    ("kafka_log_log_logendoffset", "Offset that the next record gets.", lambda p: p.log.log_end_offset),
)


_BROKER: tuple[tuple[str, str, Callable[[ReplicaManager], float]], ...] = (
    (
        "kafka_server_replicamanager_offlinereplicacount",
        "Replicas whose log cannot be opened.",
        lambda replicas: replicas.offline_count,
    ),
    (
        "kafka_server_replicafetchermanager_maxlag",
        "Records by which the furthest replica here is behind its leader.",
        lambda replicas: replicas.largest_lag,
    ),
    (
        "kafka_log_logmanager_offlinelogdirectorycount",
        "Log directories that failed.",
        lambda replicas: len(replicas.logs.offline_directories),
    ),
    (
        "kafka_server_fetchsessioncache_numincrementalfetchsessions",
        "Fetch sessions in the cache.",
        lambda replicas: len(replicas.sessions),
    ),
    (
        "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached",
        "Partitions in all fetch sessions.",
        lambda replicas: replicas.sessions.partition_count,
    ),
)

_DISK = (
    ("broadsheet_log_directory_capacity_bytes", "Size of the disk that a log directory is on."),
    ("broadsheet_log_directory_available_bytes", "Bytes free on the disk of a log directory, for this process."),
)

_EVICTIONS = (
    "kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total",
    "Fetch sessions that were given up to make room for others.",
)


def register(metrics: Metrics, replicas: ReplicaManager) -> None:
    """Add gauges and the collector of partition families to the broker's registry."""
    for name, help, test in _MANAGER:
        metrics.gauge(f"kafka_server_replicamanager_{name}", help, _counting(replicas, test))
    for name, help, measure in _BROKER:
        metrics.gauge(name, help, _measuring(replicas, measure))
    metrics.collector(lambda: _families(replicas))


def _measuring(replicas: ReplicaManager, measure: Callable[[ReplicaManager], float]) -> Callable[[], float]:
    return lambda: measure(replicas)


def _counting(replicas: ReplicaManager, test: Callable[[Partition], bool]) -> Callable[[], float]:
    return lambda: sum(1 for partition in replicas.partitions() if test(partition))


def _families(replicas: ReplicaManager) -> Iterator[Family]:
    yield from _disks(replicas)
    name, help = _EVICTIONS
    yield Family(name, "counter", help, [((), replicas.sessions.evictions)])
    held = list(replicas.partitions())
    led = [partition for partition in held if partition.is_leader]
    topics = dict.fromkeys(partition.topic for partition in led if partition.index == 0)
    image = replicas.metadata.image
    counts: list[tuple[Labels, float]] = [
        ((("topic", topic),), len(image.topics_by_name[topic].partitions))
        for topic in topics
        if topic in image.topics_by_name
    ]
    yield Family("kafka_topic_partitions", "gauge", "Partitions of the topic.", counts)
    for families, partitions in ((_LEADER_FAMILIES, led), (_LOG_FAMILIES, held)):
        labels = [_labels(partition) for partition in partitions]
        for name, help, measure in families:
            yield Family(name, "gauge", help, _samples(labels, partitions, measure))


def _disks(replicas: ReplicaManager) -> Iterator[Family]:
    """Of each directory that is online; several may be on one disk."""
    files = replicas.logs.environment.files
    capacity: list[tuple[Labels, float]] = []
    available: list[tuple[Labels, float]] = []
    for path in replicas.logs.directories:
        labels = (("directory", path),)
        try:
            capacity.append((labels, files.total_bytes(path)))
            available.append((labels, files.free_bytes(path)))
        except OSError as error:
            logger.warning("the size of the disk of %s cannot be read: %s", path, error)
    for (name, help), samples in zip(_DISK, (capacity, available), strict=True):
        yield Family(name, "gauge", help, samples)


def _labels(partition: Partition) -> Labels:
    return ("topic", partition.topic), ("partition", str(partition.index))


def _samples(labels: Iterable[Labels], partitions: Iterable[Partition], measure: Measure) -> list[tuple[Labels, float]]:
    return [(label, float(measure(partition))) for label, partition in zip(labels, partitions, strict=True)]
