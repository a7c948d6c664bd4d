"""Collects what is exported when it is asked for, from what is in memory: no gauge is kept in step by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from broadsheet_operator.api.cluster import ConsumerGroupMetrics
from broadsheet_operator.api.engine import is_apache_kafka
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.metrics.declared import Samples
from broadsheet_operator.handlers.metrics.lag import lag_text
from broadsheet_operator.kafka.dependents import cluster_of
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import Storage
from broadsheet_operator.reconcilers.provisioning import RESTART_REASONS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from broadsheet_operator.handlers.operator import Operator

OF_A_STANDBY = ("broadsheet_build_info", "broadsheet_operator_leading")


def scrape(registry: CollectorRegistry, operator: Operator | None) -> bytes:
    """The body of /metrics: what the registry collects, and the lag of consumer groups."""
    from prometheus_client import generate_latest

    text = generate_latest(registry)
    return text + lag_text(operator).encode() if operator is not None else text


class OperatorCollector:
    """A prometheus_client collector over the running operator, if this process leads."""

    def __init__(self, leader: Callable[[], Operator | None]) -> None:
        self._leader = leader
        self._version = version("broadsheet")  # reads a file

    def describe(self) -> Iterable[object]:
        return []

    def collect(self) -> Iterable[object]:
        samples, operator = Samples(), self._leader()
        samples.add("broadsheet_build_info", 1, [self._version])
        samples.add("broadsheet_operator_leading", 1.0 if operator else 0.0)
        if operator is None:
            return samples.families(*OF_A_STANDBY)
        _add_work(operator, samples)
        for kind in (Kind.CLUSTER, *operator.kinds):
            _add_resources(operator, kind, samples)
        storage = operator.clusters.storage()
        for key, body in operator.store.list(Kind.CLUSTER):
            _add_cluster(operator, key, body, storage.get(key, {}), samples)
        for key, body in operator.store.list(Kind.CONSUMER_GROUP):
            if _is_ours(operator, Kind.CONSUMER_GROUP, key, body):
                _add_verdict(key, body, samples)
        _add_observations(operator, samples)
        return samples.families()


def _add_work(operator: Operator, samples: Samples) -> None:
    counts = operator.counts
    for lease in list(operator.neighbours.others):
        samples.add("broadsheet_operator_other", 1, [lease])
    samples.add("broadsheet_operator_status_writes_total", operator.writer.statuses_written)
    samples.add("broadsheet_operator_resyncs_total", operator.resyncs)
    samples.add("broadsheet_operator_last_resync_timestamp_seconds", operator.last_resync.timestamp())
    samples.add("broadsheet_operator_resync_interval_seconds", operator.settings.resync_seconds)
    for (kind, result), count in sorted(counts.reconciliations.items()):
        samples.add("broadsheet_reconciliations_total", count, [kind, result])
    for kind, buckets, seconds in counts.histograms():
        samples.add_histogram("broadsheet_reconciliation_seconds", buckets, seconds, [kind])


def _add_resources(operator: Operator, kind: Kind, samples: Samples) -> None:
    tally: dict[str, int] = {}
    for key, body in operator.store.list(kind):
        if not _is_ours(operator, kind, key, body):
            continue
        cluster = key if kind is Kind.CLUSTER else cluster_of(body, key)
        who = [kind.kind, key.namespace, key.name, cluster.name]
        ready = "Unknown"
        for condition in body.get("status", {}).get("conditions", ()):
            name, value = str(condition["type"]), str(condition["status"])
            if name == "Ready":
                ready = value
            if name in ("Ready", "CanaryHealthy") or (name in ("Reconciling", "Stalled") and value == "True"):
                samples.add("broadsheet_resource_condition", 1, [*who, name, str(condition["reason"])])
        samples.add("broadsheet_resource_ready", 1 if ready == "True" else 0, who)
        tally[ready] = tally.get(ready, 0) + 1
    for ready, count in sorted(tally.items()):
        samples.add("broadsheet_resources", count, [kind.kind, ready])


def _add_cluster(
    operator: Operator, key: ResourceKey, body: Mapping[str, Any], storage: Mapping[int, Storage], samples: Samples
) -> None:
    """`storage`: what each broker keeps."""
    if not _is_ours(operator, Kind.CLUSTER, key, body):
        return
    who = [key.namespace, key.name]
    spec, status = body.get("spec", {}), body.get("status", {})
    samples.add("broadsheet_cluster_paused", 1 if spec.get("paused") else 0, who)
    figures = operator.clusters.figures.get(key)
    if figures is not None:
        samples.add("broadsheet_cluster_reachable", 1 if figures.reachable else 0, who)
        if figures.reachable:
            samples.add("kafka_brokers", len(figures.brokers), who)
        for seen in figures.brokers:
            samples.add("kafka_broker_info", 1, [*who, str(seen.id), f"{seen.host}:{seen.port}"])
    if spec.get("brokers") is None:
        return
    samples.add("broadsheet_cluster_brokers", spec["brokers"].get("replicas", 1), who)
    samples.add("broadsheet_cluster_ready_brokers", status.get("readyReplicas", 0), who)
    samples.add("broadsheet_cluster_rolling", 1 if figures is not None and figures.rolling else 0, who)
    for reason in RESTART_REASONS:  # from 0 on: increase() does not see the step to a first sample
        samples.add("broadsheet_broker_restarts_total", operator.counts.restarts[key, reason], [*who, reason])
    for broker, kept in sorted(storage.items()):
        samples.add("broadsheet_broker_bytes", kept.size, [*who, str(broker)])
        for disk in kept.directories if is_apache_kafka(spec) else ():
            where = [*who, f"{key.name}-brokers-{broker}", disk.path]
            samples.add("broadsheet_log_directory_capacity_bytes", disk.capacity, where)
            samples.add("broadsheet_log_directory_available_bytes", disk.available, where)


def _add_verdict(key: ResourceKey, body: Mapping[str, Any], samples: Samples) -> None:
    status = body.get("status", {})
    cluster = cluster_of(body, key)
    if status.get("verdict") and status.get("groupId"):
        who = [cluster.namespace, cluster.name, str(status["groupId"]), str(status["verdict"])]
        samples.add("broadsheet_consumergroup_verdict", 1, who)


def _add_observations(operator: Operator, samples: Samples) -> None:
    declared = Counter(cluster for cluster, _ in operator.declared_groups())
    unknown = operator.unknown_groups()
    for cluster, session in list(operator.sessions.items()):
        if session.lag is None or not operator.clusters.is_reachable(cluster):
            continue
        who, seen, mode = [cluster.namespace, cluster.name], session.lag.view, operator.exported_groups(cluster)
        if mode == ConsumerGroupMetrics.ALL or (
            mode == ConsumerGroupMetrics.DECLARED and declared[cluster] + unknown[cluster]
        ):
            samples.add("broadsheet_lag_wanted", 1, who)
        if mode == ConsumerGroupMetrics.DECLARED:
            samples.add("broadsheet_lag_groups", declared[cluster], [*who, "exported"])
            samples.add("broadsheet_lag_groups", unknown[cluster], [*who, "failed"])
        if mode != ConsumerGroupMetrics.ALL or seen is None or session.lag.observed is None:
            continue
        counts = {"exported": declared[cluster] + len(seen.groups), "left_out": seen.left_out, "failed": seen.failed}
        for result, count in counts.items():
            samples.add("broadsheet_lag_groups", count, [*who, result])
        samples.add("broadsheet_lag_observation_seconds", session.lag.seconds, who)
        samples.add("broadsheet_lag_observed_timestamp_seconds", session.lag.observed.timestamp(), who)


def _is_ours(operator: Operator, kind: Kind, key: ResourceKey, body: Mapping[str, Any]) -> bool:
    """Not what belongs to the Cluster of another release's operator, which exports it."""
    cluster = body if kind is Kind.CLUSTER else operator.store.get(Kind.CLUSTER, cluster_of(body, key))
    return cluster is None or operator.ownership.is_ours(cluster)
