"""What only one engine of a Cluster exports, and what differs between the two under one name.

The brokers of Broadsheet answer /metrics themselves; those of Apache Kafka by Prometheus' JMX agent, whose rules
(operator/broadsheet_operator/templates/jmx-exporter.yaml) give MBeans the names of Broadsheet's metrics.
tests/docs compares the tables with the catalogue (tools/metrics.json), both ways.
"""

from __future__ import annotations

from typing import NamedTuple


class Instead(NamedTuple):
    """What answers the question of a metric where it is missing."""

    names: tuple[str, ...]
    """Metrics of the other engine, or of the operator; none if nothing answers it."""
    words: str


_FROM_THE_OPERATOR = "from the operator"
ONLY_BROADSHEET: dict[str, Instead] = {
    "broadsheet_build_info": Instead(("kafka_server_app_version",), ""),
    "broadsheet_connections_refused_total": Instead(
        (), "Apache Kafka waits (`max.connections`) or closes the connection (per address), and counts neither"
    ),
    "broadsheet_connections_rejected_total": Instead(
        ("kafka_server_socket_server_metrics_failed_authentication_total",),
        "only failed authentications and TLS handshakes are counted, not requests that are invalid",
    ),
    "broadsheet_group_coordinator_waiting_writes": Instead((), "not counted"),
    "broadsheet_group_members": Instead(("kafka_consumergroup_members",), "by group, from the operator"),
    "broadsheet_loop_longest_turn_seconds": Instead((), "many threads instead of an event loop"),
    "broadsheet_loop_slow_turns_total": Instead((), "many threads instead of an event loop"),
    "broadsheet_loop_wait_seconds": Instead(
        ("kafka_network_requestmetrics_requestqueuetimems",), "how long requests waited for a thread"
    ),
    "broadsheet_memory_closed_connections_total": Instead((), "no target: the heap has a fixed size"),
    "broadsheet_memory_pressure": Instead((), "no target: the heap has a fixed size"),
    "broadsheet_memory_target_bytes": Instead((), "no target: the heap has a fixed size"),
    "broadsheet_metadata_is_behind": Instead(
        (
            "kafka_server_broker_metadata_metrics_metadata_apply_error_count",
            "kafka_server_broker_metadata_metrics_metadata_load_error_count",
            "kafka_controller_kafkacontroller_metadataerrorcount",
        ),
        "above 0 until the restart; Apache Kafka ends when it cannot write the metadata log",
    ),
    "broadsheet_metadata_last_fsync_seconds": Instead(
        ("kafka_log_logflushstats_logflushrateandtimems",),
        "99th percentile of the flushes of all logs, in milliseconds; most are those of the metadata log",
    ),
    "broadsheet_request_phase_seconds": Instead(
        (
            "kafka_network_requestmetrics_requestqueuetimems",
            "kafka_network_requestmetrics_localtimems",
            "kafka_network_requestmetrics_remotetimems",
            "kafka_network_requestmetrics_responsequeuetimems",
            "kafka_network_requestmetrics_responsesendtimems",
        ),
        "percentiles in milliseconds, which cannot be added up over brokers; the last two are the phase `response`",
    ),
    "broadsheet_request_queue_bytes": Instead(
        ("kafka_network_requestchannel_requestqueuesize",), "requests instead of bytes"
    ),
    "broadsheet_request_seconds": Instead(
        ("kafka_network_requestmetrics_totaltimems",),
        "percentiles of recent requests in milliseconds, not a histogram: no mean, and none over several brokers",
    ),
    "broadsheet_log_directory_available_bytes": Instead(
        ("broadsheet_log_directory_available_bytes",), f"{_FROM_THE_OPERATOR} (KIP-827)"
    ),
    "broadsheet_log_directory_capacity_bytes": Instead(
        ("broadsheet_log_directory_capacity_bytes",), f"{_FROM_THE_OPERATOR} (KIP-827)"
    ),
    **{
        f"kafka_topic_{name}": Instead((f"kafka_topic_{name}",), f"{_FROM_THE_OPERATOR}, as for external clusters")
        for name in (
            "partition_current_offset",
            "partition_in_sync_replica",
            "partition_leader",
            "partition_leader_is_preferred",
            "partition_oldest_offset",
            "partition_replicas",
            "partition_under_replicated_partition",
            "partitions",
        )
    },
    "broadsheet_unsent_answer_bytes": Instead((), "not counted; one answer for each connection"),
}
"""Metrics of Broadsheet's brokers that Apache Kafka's do not export."""

OF_THE_JVM = "jvm_"
OF_THE_AGENT = "jmx_"
ONLY_APACHE_KAFKA: dict[str, Instead] = {
    "kafka_controller_kafkacontroller_metadataerrorcount": Instead(("broadsheet_metadata_is_behind",), ""),
    "kafka_log_logflushstats_logflushrateandtimems": Instead(("broadsheet_metadata_last_fsync_seconds",), ""),
    "kafka_network_requestchannel_requestqueuesize": Instead(("broadsheet_request_queue_bytes",), ""),
    "kafka_network_requestmetrics_errors_total": Instead(
        (
            "kafka_server_brokertopicmetrics_failedproducerequests_total",
            "kafka_server_brokertopicmetrics_failedfetchrequests_total",
        ),
        "only of writes and reads, and without the error",
    ),
    "kafka_network_requestmetrics_localtimems": Instead(("broadsheet_request_phase_seconds",), ""),
    "kafka_network_requestmetrics_remotetimems": Instead(("broadsheet_request_phase_seconds",), ""),
    "kafka_network_requestmetrics_requestqueuetimems": Instead(("broadsheet_request_phase_seconds",), ""),
    "kafka_network_requestmetrics_responsequeuetimems": Instead(("broadsheet_request_phase_seconds",), ""),
    "kafka_network_requestmetrics_responsesendtimems": Instead(("broadsheet_request_phase_seconds",), ""),
    "kafka_network_requestmetrics_totaltimems": Instead(("broadsheet_request_seconds",), ""),
    "kafka_server_app_version": Instead(("broadsheet_build_info",), ""),
    "kafka_server_broker_metadata_metrics_metadata_apply_error_count": Instead(("broadsheet_metadata_is_behind",), ""),
    "kafka_server_broker_metadata_metrics_metadata_load_error_count": Instead(("broadsheet_metadata_is_behind",), ""),
    "kafka_server_group_coordinator_metrics_consumer_group_count": Instead((), "Broadsheet has classic groups only"),
    "kafka_server_group_coordinator_metrics_group_count": Instead(
        ("kafka_coordinator_group_groupmetadatamanager_numgroups",), "Broadsheet has classic groups only"
    ),
    **{
        f"kafka_server_raftchannelmetrics_{name}_total": Instead(
            ("kafka_network_requestmetrics_requests_total",), "requests of the quorum by API; bytes are not counted"
        )
        for name in ("incoming_byte", "outgoing_byte", "request", "response")
    },
    "kafka_server_socket_server_metrics_failed_authentication_total": Instead(
        ("broadsheet_connections_rejected_total",), ""
    ),
    "process_virtual_memory_bytes": Instead(("process_resident_memory_bytes",), ""),
}
"""Metrics of Apache Kafka's brokers that Broadsheet's do not export, beside those of the JVM and of the agent."""

DIFFERENT: dict[str, str] = {
    "kafka_controller_controllerstats_uncleanleaderelections_total": "every controller counts each election, not only "
    "the active one; so does `kafka_controller_controllerstats_electionfromeligibleleaderreplicas_total`",
    "kafka_coordinator_group_groupmetadatamanager_numgroups": "classic groups only; all states are counted once a "
    "minute. Groups of the new protocol are in `kafka_server_group_coordinator_metrics_consumer_group_count`",
    "kafka_network_requestmetrics_requests_total": "has a label `version` besides, so use `sum by (request)`; also of "
    "the controller's listener",
    "kafka_network_socketserver_networkprocessoravgidle_percent": "of the network threads (`num.network.threads`), "
    "and not of the one core that a broker of Broadsheet has",
    "kafka_server_brokertopicmetrics_failedproducerequests_total": "not of too large records, unknown partitions and "
    "wrong leaders: `kafka_network_requestmetrics_errors_total` has all, by error, without the topic",
    "kafka_server_brokertopicmetrics_failedfetchrequests_total": "the same; a topic has a sample from its first "
    "failure on",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent": "of the request handlers (`num.io.threads`), "
    "in the last minute",
    "kafka_cluster_partition_insyncreplicascount": "0 on followers, as `kafka_cluster_partition_replicascount`: use "
    "`max by (topic, partition)`",
    "kafka_server_raftmetrics_commit_latency_avg": "absent while no record is committed",
    "kafka_server_raftmetrics_current_state": "only the present state has a sample",
    "kafka_server_socket_server_metrics_connection_count": "one sample for each network thread, with the label "
    "`networkProcessor`, as for connections that begin and end: use `sum by (listener)`",
    "process_resident_memory_bytes": "of the whole JVM; `jvm_memory_used_bytes` has its parts",
}
"""Metrics that both have, and what is to be known of them when they come from Apache Kafka."""
