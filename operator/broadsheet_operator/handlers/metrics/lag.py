"""The exact lag of consumer groups, in the names that dashboards know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.metrics.declared import Samples
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.lag import partition_lag
from broadsheet_operator.reconcilers.observed import GroupView

if TYPE_CHECKING:
    from broadsheet_operator.handlers.operator import Operator


def cluster_of(body: Mapping[str, Any], key: ResourceKey) -> ResourceKey:
    """The Cluster that `spec.cluster` of a resource as plain data names, as `name` or `namespace/name`."""
    namespace, _, name = str(body.get("spec", {}).get("cluster", "")).rpartition("/")
    return ResourceKey(namespace or key.namespace, name)


def add_lag(operator: Operator, samples: Samples) -> None:
    """The lag of declared groups, once each, however many resources declare one."""
    from broadsheet_operator.handlers.dependents import utc_now

    now, told = utc_now(), set[tuple[ResourceKey, str]]()
    for key, view in list(operator.dependents.views[Kind.CONSUMER_GROUP].items()):
        body = operator.store.get(Kind.CONSUMER_GROUP, key)
        cluster = cluster_of(body, key) if body is not None else None
        # Of a cluster that does not answer nothing is known: no lag is better than the one of then.
        if cluster is None or not operator.clusters.is_reachable(cluster) or (cluster, view.group_id) in told:
            continue
        told.add((cluster, view.group_id))
        _add_group(samples, [cluster.namespace, cluster.name, view.group_id], view, now)


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
