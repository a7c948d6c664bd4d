"""Metrics of replication, with the names of Kafka's JMX exporter rules and of kafka_exporter.

Everything is worked out at scrape time from the partitions; nothing is kept up to date in between. Per partition, only
its leader reports what kafka_exporter names, so that a sum over brokers counts each partition once. Replicas that a
reassignment is adding are not missed before they are there (Kafka's OngoingReassignmentState.replicationFactor).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from broadsheet_broker.seams.metrics import Family, KnownLabels, Labels

if TYPE_CHECKING:
    from broadsheet_broker.metadata.image import ClusterImage
    from broadsheet_broker.replication.manager import ReplicaManager
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.seams.metrics import Metrics

logger = logging.getLogger(__name__)

Measure = Callable[["Partition", int], float]
"""Of a partition, given how many replicas it should have."""

PARTITIONS_AT_ONCE = 200
"""Partitions that are measured before the event loop may do something else: about a millisecond."""

_MANAGER: tuple[tuple[str, str, Measure], ...] = (
    ("partitioncount", "Replicas held here.", lambda p, n: True),
    ("leadercount", "Partitions led here.", lambda p, n: p.is_leader),
    (
        "underreplicatedpartitions",
        "Partitions led here whose ISR is smaller than their replicas.",
        lambda p, n: p.is_leader and len(p.isr) < n,
    ),
    (
        "underminisrpartitioncount",
        "Partitions led here whose ISR is smaller than min.insync.replicas.",
        lambda p, n: p.is_leader and len(p.isr) < p.effective_min_insync_replicas,
    ),
    (
        "atminisrpartitioncount",
        "Partitions led here whose ISR is as small as min.insync.replicas allows.",
        lambda p, n: p.is_leader and len(p.isr) == p.effective_min_insync_replicas,
    ),
)

LEADER_FAMILIES: tuple[tuple[str, str, Measure], ...] = (
    ("kafka_cluster_partition_replicascount", "Replicas of the partition.", lambda p, n: n),
    ("kafka_cluster_partition_insyncreplicascount", "Replicas in sync.", lambda p, n: len(p.isr)),
    (
        "kafka_cluster_partition_underreplicated",
        "1 while the ISR is smaller than the replicas.",
        lambda p, n: len(p.isr) < n,
    ),
    (
        "kafka_cluster_partition_underminisr",
        "1 while the ISR is smaller than min.insync.replicas.",
        lambda p, n: len(p.isr) < p.effective_min_insync_replicas,
    ),
    (
        "kafka_cluster_partition_atminisr",
        "1 while the ISR is as small as min.insync.replicas allows.",
        lambda p, n: len(p.isr) == p.effective_min_insync_replicas,
    ),
    (
        "kafka_topic_partition_current_offset",
        "High watermark: the offset that the next record for consumers gets.",
        lambda p, n: p.high_watermark,
    ),
    ("kafka_topic_partition_oldest_offset", "Log start offset.", lambda p, n: p.log.log_start_offset),
    ("kafka_topic_partition_replicas", "Replicas of the partition.", lambda p, n: n),
    ("kafka_topic_partition_in_sync_replica", "Replicas in sync.", lambda p, n: len(p.isr)),
    ("kafka_topic_partition_leader", "Node id of the leader.", lambda p, n: p.leader_id),
    (
        "kafka_topic_partition_leader_is_preferred",
        "1 while the first replica leads.",
        lambda p, n: p.replicas[:1] == (p.leader_id,),
    ),
    (
        "kafka_topic_partition_under_replicated_partition",
        "1 while the ISR is smaller than the replicas.",
        lambda p, n: len(p.isr) < n,
    ),
)
"""A series for each partition that is led here."""

LOG_FAMILIES: tuple[tuple[str, str, Measure], ...] = (
    ("kafka_log_log_size", "Bytes of the partition's log on this broker.", lambda p, n: p.log.size),
    ("kafka_log_log_logstartoffset", "First offset of the log.", lambda p, n: p.log.log_start_offset),
    ("kafka_log_log_logendoffset", "Offset that the next record gets.", lambda p, n: p.log.log_end_offset),
)
"""A series for each replica that is held here."""


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
    for name, help, measure in _BROKER:
        metrics.gauge(name, help, _measuring(replicas, measure))
    metrics.collector(_Partitions(replicas).families)


def _measuring(replicas: ReplicaManager, measure: Callable[[ReplicaManager], float]) -> Callable[[], float]:
    return lambda: measure(replicas)


class _Partitions:
    """Collects what is exported of partitions, some of them at a time."""

    def __init__(self, replicas: ReplicaManager) -> None:
        self._replicas = replicas
        self._labels: dict[tuple[str, int], KnownLabels] = {}

    def families(self) -> Iterator[Family | None]:
        replicas = self._replicas
        yield from _disks(replicas)
        name, help = _EVICTIONS
        yield Family(name, "counter", help, [((), replicas.sessions.evictions)])
        held = list(replicas.partitions())
        yield _topics(held, replicas.metadata.image)
        of_manager: list[float] = [0] * len(_MANAGER)
        of_leaders: list[list[tuple[Labels, float]]] = [[] for _ in LEADER_FAMILIES]
        of_logs: list[list[tuple[Labels, float]]] = [[] for _ in LOG_FAMILIES]
        for start in range(0, len(held), PARTITIONS_AT_ONCE):
            image = replicas.metadata.image
            for partition in held[start : start + PARTITIONS_AT_ONCE]:
                if partition.retired is not None:
                    continue  # since this scrape began
                wanted = _wanted(partition, image)
                labels = self._labels_of(partition)
                for index, (_, _, test) in enumerate(_MANAGER):
                    of_manager[index] += test(partition, wanted)
                if partition.is_leader:
                    for samples, (_, _, measure) in zip(of_leaders, LEADER_FAMILIES, strict=True):
                        samples.append((labels, measure(partition, wanted)))
                for samples, (_, _, measure) in zip(of_logs, LOG_FAMILIES, strict=True):
                    samples.append((labels, measure(partition, wanted)))
            yield None
        if len(self._labels) > 2 * len(held) + PARTITIONS_AT_ONCE:
            self._labels.clear()
        for count, (name, help, _) in zip(of_manager, _MANAGER, strict=True):
            yield Family(f"kafka_server_replicamanager_{name}", "gauge", help, [((), count)])
        for table, rows in ((LEADER_FAMILIES, of_leaders), (LOG_FAMILIES, of_logs)):
            for (name, help, _), samples in zip(table, rows, strict=True):
                yield Family(name, "gauge", help, samples)

    def _labels_of(self, partition: Partition) -> KnownLabels:
        key = partition.topic, partition.index
        labels = self._labels.get(key)
        if labels is None:
            labels = KnownLabels(("topic", partition.topic), ("partition", str(partition.index)))
            self._labels[key] = labels
        return labels


def _wanted(partition: Partition, image: ClusterImage) -> int:
    """How many replicas a partition should have: all but those that are being added."""
    known = image.partition(partition.topic, partition.index)
    if known is None or not known.adding_replicas:
        return len(partition.replicas)
    return sum(replica not in known.adding_replicas for replica in partition.replicas)


def _topics(held: list[Partition], image: ClusterImage) -> Family:
    """Of each topic whose first partition is led here."""
    topics = dict.fromkeys(partition.topic for partition in held if partition.is_leader and partition.index == 0)
    counts: list[tuple[Labels, float]] = [
        ((("topic", topic),), len(image.topics_by_name[topic].partitions))
        for topic in topics
        if topic in image.topics_by_name
    ]
    return Family("kafka_topic_partitions", "gauge", "Partitions of the topic.", counts)


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
