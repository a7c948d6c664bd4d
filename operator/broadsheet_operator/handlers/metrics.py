"""The operator's own metrics, and the exact lag of every declared group, in the names that dashboards know.

Collected when asked for, from what is in memory: no counter is kept in step by hand, none goes stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.lag import partition_lag

if TYPE_CHECKING:
    from broadsheet_operator.handlers.operator import Operator


class OperatorCollector:
    """A prometheus_client collector over the running operator, if this process leads."""

    def __init__(self, leader: Callable[[], Operator | None]) -> None:
        self._leader = leader

    def describe(self) -> Iterable[object]:
        return []

    def collect(self) -> Iterable[object]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        operator = self._leader()
        leading = GaugeMetricFamily("broadsheet_operator_leading", "1 in the operator that holds the lease.")
        leading.add_metric([], 1.0 if operator else 0.0)
        yield leading
        if operator is None:
            return
        resources = GaugeMetricFamily("broadsheet_resources", "Resources there are.", labels=["kind", "ready"])
        for kind in (Kind.CLUSTER, *operator.kinds):
            tally: dict[str, int] = {}
            for _, body in operator.store.list(kind):
                conditions = body.get("status", {}).get("conditions", ())
                ready = next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "Unknown")
                tally[ready] = tally.get(ready, 0) + 1
            for ready, count in sorted(tally.items()):
                resources.add_metric([kind.kind, ready], count)
        yield resources
        written = CounterMetricFamily("broadsheet_operator_status_writes", "Statuses written to the API server.")
        written.add_metric([], operator.writer.statuses_written)
        yield written
        resyncs = CounterMetricFamily("broadsheet_operator_resyncs", "Times that everything was read again.")
        resyncs.add_metric([], operator.resyncs)
        yield resyncs
        kept = GaugeMetricFamily(
            "broadsheet_broker_bytes", "Bytes of all replicas on a broker.", labels=["namespace", "cluster", "broker"]
        )
        for key, sizes in operator.clusters.sizes().items():
            for broker, size in sorted(sizes.items()):
                kept.add_metric([key.namespace, key.name, str(broker)], size)
        yield kept
        yield from self._lag(operator)

    def _lag(self, operator: Operator) -> Iterable[object]:
        from prometheus_client.core import GaugeMetricFamily

        from broadsheet_operator.handlers.dependents import utc_now

        labels = ["namespace", "cluster", "consumergroup", "topic", "partition"]
        lag = GaugeMetricFamily("kafka_consumergroup_lag", "Records not yet read.", labels=labels)
        offset = GaugeMetricFamily("kafka_consumergroup_current_offset", "Committed offset.", labels=labels)
        seconds = GaugeMetricFamily(
            "kafka_consumergroup_group_lag_seconds", "Age of the first unread record.", labels=labels
        )
        members = GaugeMetricFamily("kafka_consumergroup_members", "Members of the group.", labels=labels[:3])
        sums = GaugeMetricFamily("kafka_consumergroup_lag_sum", "Records not yet read of a topic.", labels=labels[:4])
        worst = GaugeMetricFamily(
            "kafka_consumergroup_group_max_lag_seconds", "Age of the oldest unread record.", labels=labels[:3]
        )
        now = utc_now()
        for key, view in list(operator.dependents.views[Kind.CONSUMER_GROUP].items()):
            body = operator.store.get(Kind.CONSUMER_GROUP, key)
            if body is None:
                continue
            who = [key.namespace, str(body["spec"]["cluster"]), view.group_id]
            members.add_metric(who, len(view.members))
            by_topic: dict[str, int] = {}
            oldest = 0
            for at in partition_lag(view, now):
                where = [*who, at.topic, str(at.partition)]
                # -1 for a partition without a commit: what kafka_exporter's readers (KEDA) expect.
                lag.add_metric(where, -1 if at.lag is None else at.lag)
                if at.committed is not None:
                    offset.add_metric(where, at.committed)
                if at.lag_seconds is not None:
                    seconds.add_metric(where, at.lag_seconds)
                    oldest = max(oldest, at.lag_seconds)
                if at.lag is not None:
                    by_topic[at.topic] = by_topic.get(at.topic, 0) + at.lag
            for topic, total in by_topic.items():
                sums.add_metric([*who, topic], total)
            worst.add_metric(who, oldest)
        yield from (lag, offset, seconds, members, sums, worst)
