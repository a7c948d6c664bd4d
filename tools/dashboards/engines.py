"""Expressions that both engines answer, where Broadsheet and Apache Kafka have different metrics for one question.

Each has one result per cluster, or per broker, so that a selection with clusters of both shows both. In
tools/engine_metrics.py stands what only one of them has.
"""

from __future__ import annotations

BY_CLUSTER, BY_BROKER = "by (namespace, cluster)", "by (namespace, cluster, pod)"
IDLE = (
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
)
"""Broadsheet has one thread and the same value twice; Apache Kafka has network threads and request handlers."""
METADATA_ERRORS = (
    "kafka_server_broker_metadata_metrics_metadata_apply_error_count",
    "kafka_server_broker_metadata_metrics_metadata_load_error_count",
    "kafka_controller_kafkacontroller_metadataerrorcount",
)
PHASES = {
    "queue": ("requestqueuetimems",),
    "local": ("localtimems",),
    "remote": ("remotetimems",),
    "response": ("responsequeuetimems", "responsesendtimems"),
}
"""A phase of `broadsheet_request_phase_seconds`, and the times of Apache Kafka's RequestMetrics that are the same."""


def any_of(names: tuple[str, ...], selected: str) -> str:
    """A selector of several metrics; only for aggregations, which tolerate that they have the same labels."""
    return f'{{__name__=~"{"|".join(names)}", {selected}}}'


def busy(selected: str) -> str:
    """Share of its time in which the busiest kind of thread of each broker works."""
    return f"1 - min {BY_BROKER} ({any_of(IDLE, selected)})"


def metadata_behind(selected: str) -> str:
    """1 for each node that cannot store or apply the metadata."""
    return (
        f"max {BY_BROKER} (broadsheet_metadata_is_behind{{{selected}}})"
        f" or max {BY_BROKER} ({any_of(METADATA_ERRORS, selected)}) > bool 0"
    )


def request_seconds(selected: str, rate: str, by: str = BY_CLUSTER) -> str:
    """99th percentile of whole requests. Percentiles of Apache Kafka cannot be added up: the highest counts."""
    labels = by.removesuffix(")")
    return (
        f"histogram_quantile(0.99, sum {labels}, le) (rate(broadsheet_request_seconds_bucket{{{selected}}}{rate})))"
        f' or max {by} (kafka_network_requestmetrics_totaltimems{{{selected}, quantile="0.99"}}) / 1000'
    )


def phase_seconds(phase: str, selected: str, rate: str) -> str:
    """99th percentile of one phase of requests."""
    times = any_of(tuple(f"kafka_network_requestmetrics_{name}" for name in PHASES[phase]), selected)
    apache = f'sum by (namespace, cluster, pod, request) ({times[:-1]}, quantile="0.99"}})'
    return (
        "histogram_quantile(0.99, sum by (namespace, cluster, le) "
        f'(rate(broadsheet_request_phase_seconds_bucket{{{selected}, phase="{phase}"}}{rate})))'
        f" or max {BY_CLUSTER} ({apache}) / 1000"
    )


def refused(request: str, selected: str, rate: str) -> str:
    """Refused or failed writes (`Produce`) or reads (`Fetch`) per second, by broker."""
    ours = f"kafka_server_brokertopicmetrics_failed{request.lower()}requests_total"
    # What Apache Kafka counts by topic leaves out too large records and partitions that are not led here.
    return (
        f'sum {BY_BROKER} (rate(kafka_network_requestmetrics_errors_total{{{selected}, request="{request}"}}{rate}))'
        f' or sum {BY_BROKER} (rate({ours}{{{selected}, topic=""}}{rate}))'
    )
