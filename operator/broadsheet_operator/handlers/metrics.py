"""The operator's own metrics, and the exact lag of every declared group, in the names that dashboards know.

Collected when asked for, from what is in memory: no counter is kept in step by hand, none goes stale.
`METRICS` declares all of them, for the scrape and for the catalogue (tools/metrics.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.lag import partition_lag
from broadsheet_operator.reconcilers.observed import GroupView

if TYPE_CHECKING:
    from broadsheet_operator.handlers.operator import Operator

CLUSTER = ("namespace", "cluster")
GROUP = (*CLUSTER, "consumergroup")


class Declared(NamedTuple):
    """A metric: what Prometheus is told of it."""

    type: str
    """`gauge` or `counter`; the name of a counter ends in `_total`."""
    help: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Declared] = {
    "broadsheet_operator_leading": Declared("gauge", "1 in the operator that holds the lease."),
    "broadsheet_resources": Declared("gauge", "Resources by kind and condition Ready.", ("kind", "ready")),
    "broadsheet_operator_status_writes_total": Declared("counter", "Statuses written to the API server."),
    "broadsheet_operator_resyncs_total": Declared("counter", "Times that everything was reconciled again."),
    "broadsheet_broker_bytes": Declared("gauge", "Bytes of all replicas on a broker.", (*CLUSTER, "broker")),
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
}
"""Everything that is exported, by name."""


class Samples:
    """The samples of one scrape."""

    def __init__(self) -> None:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        self._families: dict[str, Any] = {
            name: families[metric.type](name, metric.help, labels=metric.labels) for name, metric in METRICS.items()
        }

    def add(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        """One sample of a declared metric."""
        self._families[name].add_metric(labels, value)

    def families(self, *names: str) -> list[object]:
        """These metrics, or all, for prometheus_client."""
        return [self._families[name] for name in names or METRICS]


class OperatorCollector:
    """A prometheus_client collector over the running operator, if this process leads."""

    def __init__(self, leader: Callable[[], Operator | None]) -> None:
        self._leader = leader

    def describe(self) -> Iterable[object]:
        return []

    def collect(self) -> Iterable[object]:
        samples, operator = Samples(), self._leader()
        samples.add("broadsheet_operator_leading", 1.0 if operator else 0.0)
        if operator is None:
            return samples.families("broadsheet_operator_leading")
        _count_resources(operator, samples)
        samples.add("broadsheet_operator_status_writes_total", operator.writer.statuses_written)
        samples.add("broadsheet_operator_resyncs_total", operator.resyncs)
        for key, sizes in operator.clusters.sizes().items():
            for broker, size in sorted(sizes.items()):
                samples.add("broadsheet_broker_bytes", size, [key.namespace, key.name, str(broker)])
        _add_lag(operator, samples)
        return samples.families()


def _count_resources(operator: Operator, samples: Samples) -> None:
    for kind in (Kind.CLUSTER, *operator.kinds):
        tally: dict[str, int] = {}
        for _, body in operator.store.list(kind):
            conditions = body.get("status", {}).get("conditions", ())
            ready = next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "Unknown")
            tally[ready] = tally.get(ready, 0) + 1
        for ready, count in sorted(tally.items()):
            samples.add("broadsheet_resources", count, [kind.kind, ready])


def _add_lag(operator: Operator, samples: Samples) -> None:
    from broadsheet_operator.handlers.dependents import utc_now

    now = utc_now()
    for key, view in list(operator.dependents.views[Kind.CONSUMER_GROUP].items()):
        body = operator.store.get(Kind.CONSUMER_GROUP, key)
        if body is not None:
            _add_group(samples, [key.namespace, str(body["spec"]["cluster"]), view.group_id], view, now)


def _add_group(samples: Samples, who: Sequence[str], view: GroupView, now: datetime) -> None:
    lags: dict[str, int] = {}
    offsets: dict[str, int] = {}
    oldest = 0
    for at in partition_lag(view, now):
        where = [*who, at.topic, str(at.partition)]
        samples.add("kafka_consumergroup_lag", -1 if at.lag is None else at.lag, where)
        if at.lag is not None:
            lags[at.topic] = lags.get(at.topic, 0) + at.lag
        if at.committed is not None:
            samples.add("kafka_consumergroup_current_offset", at.committed, where)
            offsets[at.topic] = offsets.get(at.topic, 0) + at.committed
        if at.lag_seconds is not None:
            samples.add("kafka_consumergroup_group_lag_seconds", at.lag_seconds, where)
            oldest = max(oldest, at.lag_seconds)
    for name, by_topic in (("lag_sum", lags), ("current_offset_sum", offsets)):
        for topic, total in by_topic.items():
            samples.add(f"kafka_consumergroup_{name}", total, [*who, topic])
    samples.add("kafka_consumergroup_members", len(view.members), who)
    samples.add("kafka_consumergroup_group_max_lag_seconds", oldest, who)
