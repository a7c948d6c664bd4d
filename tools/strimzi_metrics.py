"""What Strimzi's Grafana dashboards for Kafka, KRaft, the Kafka exporter and its operators ask for, and what answers.

The names were read from examples/metrics/grafana-dashboards of Strimzi. tests/docs compares the table with the
catalogue of what is exported (tools/metrics.json), name by name.
"""

from __future__ import annotations

from typing import NamedTuple

KAFKA, KRAFT, EXPORTER, OPERATORS = "Kafka", "KRaft", "Kafka exporter", "Operators"


class Asked(NamedTuple):
    """A metric of a dashboard."""

    name: str
    by: tuple[str, ...]
    """The dashboards that ask for it."""
    here: str = "same"
    """`same`: it is exported by this name. Else a metric that answers the same question; empty: nothing is exported."""
    words: str = ""
    """Why there is none, or how the other one is read."""


_NO_JVM = "there is no JVM"
_PAUSES = f"{_NO_JVM}; pauses show in `broadsheet_request_phase_seconds`"
_KUBERNETES = "exported by Kubernetes (cAdvisor, kubelet), for our pods too"

ASKED = (
    Asked("kafka_cluster_partition_atminisr", (KAFKA, EXPORTER)),
    Asked("kafka_cluster_partition_replicascount", (KAFKA,)),
    Asked("kafka_cluster_partition_underminisr", (KAFKA, EXPORTER)),
    Asked("kafka_controller_controllerstats_uncleanleaderelections_total", (KAFKA,)),
    Asked("kafka_controller_kafkacontroller_activecontrollercount", (KAFKA,)),
    Asked("kafka_controller_kafkacontroller_offlinepartitionscount", (KAFKA,)),
    Asked("kafka_log_log_size", (KAFKA,)),
    Asked("kafka_network_socketserver_networkprocessoravgidle_percent", (KAFKA,)),
    Asked("kafka_server_brokertopicmetrics_bytesin_total", (KAFKA,)),
    Asked("kafka_server_brokertopicmetrics_bytesout_total", (KAFKA,)),
    Asked("kafka_server_brokertopicmetrics_failedfetchrequests_total", (KAFKA,)),
    Asked("kafka_server_brokertopicmetrics_failedproducerequests_total", (KAFKA,)),
    Asked("kafka_server_brokertopicmetrics_messagesin_total", (KAFKA,)),
    Asked("kafka_server_brokertopicmetrics_totalfetchrequests_total", (KAFKA,)),
    Asked("kafka_server_brokertopicmetrics_totalproducerequests_total", (KAFKA,)),
    Asked("kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent", (KAFKA,)),
    Asked("kafka_server_kafkaserver_linux_disk_read_bytes", (KAFKA,)),
    Asked("kafka_server_kafkaserver_linux_disk_write_bytes", (KAFKA,)),
    Asked("kafka_server_replicamanager_leadercount", (KAFKA,)),
    Asked("kafka_server_replicamanager_partitioncount", (KAFKA,)),
    Asked("kafka_server_replicamanager_underreplicatedpartitions", (KAFKA,)),
    Asked("kafka_server_socket_server_metrics_connection_count", (KAFKA,)),
    Asked("process_open_fds", (KAFKA, KRAFT)),
    Asked("kafka_server_raftmetrics_append_records_rate", (KRAFT,)),
    Asked("kafka_server_raftmetrics_commit_latency_avg", (KRAFT,)),
    Asked("kafka_server_raftmetrics_current_epoch", (KRAFT,)),
    Asked("kafka_server_raftmetrics_current_leader", (KRAFT,)),
    Asked("kafka_server_raftmetrics_current_state", (KRAFT,)),
    Asked("kafka_server_raftmetrics_current_vote", (KRAFT,)),
    Asked("kafka_server_raftmetrics_fetch_records_rate", (KRAFT,)),
    Asked("kafka_server_raftmetrics_high_watermark", (KRAFT,)),
    Asked("kafka_server_raftmetrics_log_end_offset", (KRAFT,)),
    *(
        Asked(
            f"kafka_server_raftchannelmetrics_{name}_total",
            (KRAFT,),
            "kafka_network_requestmetrics_requests_total",
            'requests of the quorum by API, with `request=~"Vote|FetchSnapshot|BeginQuorumEpoch|EndQuorumEpoch"`; '
            "bytes are not counted",
        )
        for name in ("incoming_byte", "outgoing_byte", "request", "response")
    ),
    Asked("kafka_broker_info", (EXPORTER,)),
    Asked("kafka_consumergroup_current_offset", (EXPORTER,)),
    Asked("kafka_consumergroup_lag", (EXPORTER,)),
    Asked("kafka_topic_partition_current_offset", (EXPORTER,)),
    Asked("kafka_topic_partition_in_sync_replica", (EXPORTER,)),
    Asked("kafka_topic_partition_leader_is_preferred", (EXPORTER,)),
    Asked("kafka_topic_partition_oldest_offset", (EXPORTER,)),
    Asked("kafka_topic_partition_replicas", (EXPORTER,)),
    Asked("kafka_topic_partition_under_replicated_partition", (EXPORTER,)),
    Asked("kafka_topic_partitions", (EXPORTER,)),
    Asked("strimzi_reconciliations_total", (OPERATORS,), "broadsheet_reconciliations_total", "of all results"),
    Asked(
        "strimzi_reconciliations_successful_total",
        (OPERATORS,),
        "broadsheet_reconciliations_total",
        '`result="success"`',
    ),
    Asked(
        "strimzi_reconciliations_failed_total", (OPERATORS,), "broadsheet_reconciliations_total", '`result="failed"`'
    ),
    Asked("strimzi_reconciliations_locked_total", (OPERATORS,), "", "no reconciliation waits for a lock of another"),
    Asked("strimzi_reconciliations_periodical_total", (OPERATORS,), "broadsheet_operator_resyncs_total"),
    Asked(
        "strimzi_reconciliations_duration_seconds_max",
        (OPERATORS,),
        "broadsheet_reconciliation_seconds",
        "a histogram: `histogram_quantile(0.99, ...)`",
    ),
    Asked(
        "strimzi_resources",
        (OPERATORS,),
        "broadsheet_resources",
        "by kind; each in `broadsheet_resource_ready`",
    ),
    Asked("strimzi_certificate_expiration_timestamp_ms", (OPERATORS,), "", "there are no certificates yet"),
    Asked("jvm_memory_used_bytes", (KAFKA, KRAFT, OPERATORS), "process_resident_memory_bytes", _NO_JVM),
    Asked(
        "jvm_gc_collection_seconds_count",
        (KAFKA, KRAFT),
        "",
        f"{_NO_JVM}; pauses show in `broadsheet_request_phase_seconds`",
    ),
    Asked(
        "jvm_gc_collection_seconds_sum",
        (KAFKA, KRAFT),
        "",
        f"{_NO_JVM}; pauses show in `broadsheet_request_phase_seconds`",
    ),
    Asked("jvm_gc_pause_seconds_count", (OPERATORS,), "", _NO_JVM),
    Asked("jvm_gc_pause_seconds_sum", (OPERATORS,), "", _NO_JVM),
    Asked("jvm_threads_current", (KAFKA, KRAFT), "process_cpu_seconds_total", f"{_NO_JVM}; a broker is one thread"),
    Asked("container_cpu_usage_seconds_total", (KAFKA, KRAFT), "", _KUBERNETES),
    Asked("container_memory_usage_bytes", (KAFKA, KRAFT), "", _KUBERNETES),
    Asked(
        "kubelet_volume_stats_available_bytes",
        (KAFKA, KRAFT),
        "broadsheet_log_directory_available_bytes",
        "also where the kubelet knows no volume",
    ),
)
"""All of them."""
