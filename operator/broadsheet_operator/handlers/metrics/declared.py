"""`METRICS`: all that the operator exports, for the scrape and for the catalogue (tools/metrics.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

CLUSTER = ("namespace", "cluster")
RESOURCE = ("kind", "namespace", "name", "cluster")
GROUP = (*CLUSTER, "consumergroup")
TOPIC = (*CLUSTER, "topic")
PARTITION = (*TOPIC, "partition")
DIRECTORY = (*CLUSTER, "pod", "directory")
KMINION_GROUP = (*CLUSTER, "group_id")
KMINION_INFO = (*KMINION_GROUP, "state")
KMINION_TOPIC = (*KMINION_GROUP, "topic_name")


class Declared(NamedTuple):
    """A metric: what Prometheus is told of it."""

    type: str
    """`gauge`, `counter` or `histogram`; the name of a counter ends in `_total`."""
    help: str
    labels: tuple[str, ...] = ()


OWN_METRICS: dict[str, Declared] = {
    # -- the operator --------------------------------------------------------------------------------------------------
    "broadsheet_build_info": Declared("gauge", "1, with the version of the program.", ("version",)),
    "broadsheet_operator_leading": Declared("gauge", "1 in the operator that holds the lease."),
    "broadsheet_operator_other": Declared(
        "gauge", "1 for each other operator, by its Lease, that watches a namespace of this one.", ("lease",)
    ),
    "broadsheet_operator_status_writes_total": Declared("counter", "Statuses written to the API server."),
    "broadsheet_operator_resyncs_total": Declared("counter", "Times that everything was reconciled again."),
    "broadsheet_operator_last_resync_timestamp_seconds": Declared(
        "gauge", "When everything was last reconciled again, or this operator began to lead; seconds since the epoch."
    ),
    "broadsheet_operator_resync_interval_seconds": Declared("gauge", "How often everything is reconciled again."),
    "broadsheet_reconciliations_total": Declared(
        "counter", "Reconciliations of resources, by kind and result: success or failed.", ("kind", "result")
    ),
    "broadsheet_reconciliation_seconds": Declared(
        "histogram", "Seconds of each reconciliation; resources reconciled together have the same.", ("kind",)
    ),
    # -- resources -----------------------------------------------------------------------------------------------------
    "broadsheet_resources": Declared("gauge", "Resources by kind and condition Ready.", ("kind", "ready")),
    "broadsheet_resource_ready": Declared("gauge", "1 for a resource that is Ready, 0 for one that is not.", RESOURCE),
    "broadsheet_resource_condition": Declared(
        "gauge",
        "1 for the conditions Ready and CanaryHealthy with their present reasons, and for Reconciling and Stalled "
        "while they are True.",
        (*RESOURCE, "condition", "reason"),
    ),
    # -- clusters ------------------------------------------------------------------------------------------------------
    "broadsheet_cluster_reachable": Declared("gauge", "1 while the operator gets answers of the cluster.", CLUSTER),
    "broadsheet_cluster_brokers": Declared("gauge", "Brokers that the Cluster declares.", CLUSTER),
    "broadsheet_cluster_ready_brokers": Declared("gauge", "Brokers of the Cluster that take requests.", CLUSTER),
    "broadsheet_cluster_rolling": Declared(
        "gauge",
        "1 while the operator restarts, adds or drains brokers or exchanges their engine, and while one that was "
        "stopped is on its way back.",
        CLUSTER,
    ),
    "broadsheet_cluster_paused": Declared("gauge", "1 while spec.paused is true.", CLUSTER),
    "broadsheet_broker_restarts_total": Declared(
        "counter", "Brokers that the operator restarted, by reason.", (*CLUSTER, "reason")
    ),
    "kafka_brokers": Declared("gauge", "Brokers that take requests.", CLUSTER),
    "kafka_broker_info": Declared("gauge", "1 for each broker that takes requests.", (*CLUSTER, "id", "address")),
    "broadsheet_broker_bytes": Declared("gauge", "Bytes of all replicas on a broker.", (*CLUSTER, "broker")),
    "broadsheet_log_directory_capacity_bytes": Declared(
        "gauge", "Size of the disk that a log directory is on; of brokers of Apache Kafka.", DIRECTORY
    ),
    "broadsheet_log_directory_available_bytes": Declared(
        "gauge", "Bytes free on the disk of a log directory; of brokers of Apache Kafka.", DIRECTORY
    ),
    # -- consumer groups -----------------------------------------------------------------------------------------------
    "broadsheet_consumergroup_verdict": Declared(
        "gauge",
        "1 for the present verdict of a declared group: OK, Warning, Stalled, Stopped or Rewound.",
        (*GROUP, "verdict"),
    ),
    "broadsheet_lag_wanted": Declared(
        "gauge",
        "1 for a cluster that can be reached, and of which the lag of groups is to be exported: of all groups, or of "
        "those that resources declare if there are any.",
        CLUSTER,
    ),
    "broadsheet_lag_groups": Declared(
        "gauge",
        "Consumer groups by what became of them in the last observation: exported, left_out because of "
        "--lag-partitions, or failed because their coordinator did not answer. Absent while observations fail.",
        (*CLUSTER, "result"),
    ),
    "broadsheet_lag_observation_seconds": Declared(
        "gauge", "How long the last observation of the lag of all groups took.", CLUSTER
    ),
    "broadsheet_lag_observed_timestamp_seconds": Declared(
        "gauge", "When the lag of all groups was last observed; seconds since the epoch.", CLUSTER
    ),
}
"""What prometheus_client writes, by name."""

LAG_METRICS: dict[str, Declared] = {
    # As kafka_exporter has them. A partition without a committed offset has a lag of -1, as its readers expect.
    "kafka_consumergroup_lag": Declared(
        "gauge", "Records not yet read; -1 without a committed offset.", (*GROUP, "topic", "partition")
    ),
    "kafka_consumergroup_lag_sum": Declared("gauge", "Records of a topic not yet read.", (*GROUP, "topic")),
    "kafka_consumergroup_current_offset": Declared("gauge", "Committed offset.", (*GROUP, "topic", "partition")),
    "kafka_consumergroup_current_offset_sum": Declared(
        "gauge", "Committed offsets of a topic, added up.", (*GROUP, "topic")
    ),
    "kafka_consumergroup_members": Declared("gauge", "Members of the group.", GROUP),
    "kafka_consumergroup_group_lag_seconds": Declared(
        "gauge", "Age of the first unread record, in seconds.", (*GROUP, "topic", "partition")
    ),
    "kafka_consumergroup_group_max_lag_seconds": Declared(
        "gauge", "Age of the oldest unread record of the group, in seconds.", GROUP
    ),
    "kafka_topic_partitions": Declared("gauge", "Partitions of the topic.", TOPIC),
    "kafka_topic_partition_current_offset": Declared("gauge", "Offset that the next record gets.", PARTITION),
    "kafka_topic_partition_oldest_offset": Declared("gauge", "Log start offset.", PARTITION),
    "kafka_topic_partition_replicas": Declared("gauge", "Replicas of the partition.", PARTITION),
    "kafka_topic_partition_in_sync_replica": Declared("gauge", "Replicas in sync.", PARTITION),
    "kafka_topic_partition_leader": Declared("gauge", "Node id of the leader; -1 without one.", PARTITION),
    "kafka_topic_partition_leader_is_preferred": Declared("gauge", "1 while the first replica leads.", PARTITION),
    "kafka_topic_partition_under_replicated_partition": Declared(
        "gauge", "1 while the ISR is smaller than the replicas.", PARTITION
    ),
    # As KMinion has them, with `--lag-names kminion` or `both`.
    "kminion_kafka_consumer_group_info": Declared("gauge", "1 for a group that is Stable, 0 otherwise.", KMINION_INFO),
    "kminion_kafka_consumer_group_members": Declared("gauge", "Members of the group.", KMINION_GROUP),
    "kminion_kafka_consumer_group_empty_members": Declared(
        "gauge", "Members without an assigned partition.", KMINION_GROUP
    ),
    "kminion_kafka_consumer_group_topic_members": Declared(
        "gauge", "Members with a partition of the topic.", KMINION_TOPIC
    ),
    "kminion_kafka_consumer_group_topic_assigned_partitions": Declared(
        "gauge", "Partitions of the topic that members have.", KMINION_TOPIC
    ),
    "kminion_kafka_consumer_group_topic_offset_sum": Declared(
        "gauge", "Committed offsets of a topic, added up.", KMINION_TOPIC
    ),
    "kminion_kafka_consumer_group_topic_lag": Declared("gauge", "Records of a topic not yet read.", KMINION_TOPIC),
    "kminion_kafka_consumer_group_topic_partition_lag": Declared(
        "gauge",
        "Records not yet read; a partition without a committed offset has none.",
        (*KMINION_TOPIC, "partition_id"),
    ),
}
"""The lag of groups, and the topics of clusters whose brokers export none: what `lag` writes, by name."""

METRICS = OWN_METRICS | LAG_METRICS
"""Everything that is exported, by name."""


class Samples:
    """The samples of one scrape."""

    def __init__(self) -> None:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        families: dict[str, Any] = {
            "counter": CounterMetricFamily,
            "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        self._families: dict[str, Any] = {
            name: families[metric.type](name, metric.help, labels=metric.labels) for name, metric in OWN_METRICS.items()
        }

    def add(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        """One sample of a declared metric."""
        self._families[name].add_metric(labels, value)

    def add_histogram(self, name: str, buckets: Sequence[tuple[str, float]], sum: float, labels: Sequence[str]) -> None:
        """One histogram of a declared metric: upper bounds and cumulative counts."""
        self._families[name].add_metric(labels, buckets, sum)

    def families(self, *names: str) -> list[object]:
        """These metrics, or all of OWN_METRICS, for prometheus_client."""
        return [self._families[name] for name in names or OWN_METRICS]
