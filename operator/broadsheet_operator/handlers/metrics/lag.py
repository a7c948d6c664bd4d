"""The exact lag of consumer groups as text, in the names that dashboards know.

It is written directly, and not through prometheus_client, which takes ten times as long: there may be tens of thousands
of samples. Every metric here has all its samples from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.metrics.declared import LAG_METRICS
from broadsheet_operator.reconcilers.lag import lag_rows
from broadsheet_operator.reconcilers.observed import GroupView, LogView

if TYPE_CHECKING:
    from broadsheet_operator.handlers.operator import Operator

KAFKA_EXPORTER, KMINION, BOTH = "kafka-exporter", "kminion", "both"


class LagText:
    """Takes in groups and logs, and writes them."""

    def __init__(self, names: str = KAFKA_EXPORTER) -> None:
        self._as_kafka_exporter = names in (KAFKA_EXPORTER, BOTH)
        self._as_kminion = names in (KMINION, BOTH)
        self._lines: dict[str, list[str]] = {name: [] for name in LAG_METRICS}

    def _add(self, name: str, labels: str, value: int) -> None:
        self._lines[name].append(f"{name}{{{labels}}} {value}")

    def add_group(self, cluster: ResourceKey, view: GroupView, now_ms: int) -> None:
        """A group as it was observed."""
        where = f'namespace="{_escape(cluster.namespace)}",cluster="{_escape(cluster.name)}"'
        if self._as_kafka_exporter:
            self._add_as_kafka_exporter(f'{where},consumergroup="{_escape(view.group_id)}"', view, now_ms)
        if self._as_kminion:
            self._add_as_kminion(f'{where},group_id="{_escape(view.group_id)}"', view, now_ms)

    def _add_as_kafka_exporter(self, who: str, view: GroupView, now_ms: int) -> None:
        lags: dict[str, int] = {}
        offsets: dict[str, int] = {}
        oldest, of_unknown_age = 0, False
        for at, committed, _, lag, seconds in lag_rows(view, now_ms):
            where = f'{who},topic="{_escape(at.topic)}",partition="{at.partition}"'
            self._add("kafka_consumergroup_lag", where, -1 if lag is None else lag)
            if lag is not None:
                lags[at.topic] = lags.get(at.topic, 0) + lag
            if committed is not None:
                self._add("kafka_consumergroup_current_offset", where, committed)
                offsets[at.topic] = offsets.get(at.topic, 0) + committed
            if seconds is not None:
                self._add("kafka_consumergroup_group_lag_seconds", where, seconds)
                oldest = max(oldest, seconds)
            elif lag:
                of_unknown_age = True
        for name, by_topic in (("lag_sum", lags), ("current_offset_sum", offsets)):
            for topic, total in by_topic.items():
                self._add(f"kafka_consumergroup_{name}", f'{who},topic="{_escape(topic)}"', total)
        self._add("kafka_consumergroup_members", who, len(view.members))
        if oldest or (lags and not of_unknown_age):  # not known is not zero
            self._add("kafka_consumergroup_group_max_lag_seconds", who, oldest)

    def _add_as_kminion(self, who: str, view: GroupView, now_ms: int) -> None:
        """KMinion has no partition without a committed offset, and calls a group that is Stable 1, any other 0."""
        prefix = "kminion_kafka_consumer_group_"
        lags: dict[str, int] = {}
        offsets: dict[str, int] = {}
        for at, committed, _, lag, _ in lag_rows(view, now_ms):
            if lag is None or committed is None:
                continue
            topic = _escape(at.topic)
            self._add(f"{prefix}topic_partition_lag", f'{who},topic_name="{topic}",partition_id="{at.partition}"', lag)
            lags[topic] = lags.get(topic, 0) + lag
            offsets[topic] = offsets.get(topic, 0) + committed
        for name, by_topic in (("topic_lag", lags), ("topic_offset_sum", offsets)):
            for topic, total in by_topic.items():
                self._add(prefix + name, f'{who},topic_name="{topic}"', total)
        self._add(f"{prefix}info", f'{who},state="{_escape(view.state)}"', 1 if view.state == "Stable" else 0)
        self._add(f"{prefix}members", who, len(view.members))
        self._add(f"{prefix}empty_members", who, sum(not member.assigned for member in view.members))
        members: dict[str, int] = {}
        partitions: dict[str, int] = {}
        for member in view.members:
            for topic in {at.topic for at in member.assigned}:
                members[topic] = members.get(topic, 0) + 1
            for at in member.assigned:
                partitions[at.topic] = partitions.get(at.topic, 0) + 1
        for name, counts in (("topic_members", members), ("topic_assigned_partitions", partitions)):
            for topic, count in counts.items():
                self._add(prefix + name, f'{who},topic_name="{_escape(topic)}"', count)

    def add_logs(self, cluster: ResourceKey, logs: Iterable[LogView]) -> None:
        """Topics of a cluster whose brokers do not export them."""
        if not self._as_kafka_exporter:
            return
        where = f'namespace="{_escape(cluster.namespace)}",cluster="{_escape(cluster.name)}"'
        sizes: dict[str, int] = {}
        for (topic, index), partition, start, end in logs:
            sizes[topic] = sizes.get(topic, 0) + 1
            labels = f'{where},topic="{_escape(topic)}",partition="{index}"'
            wanted = len(partition.replicas)
            values = {
                "current_offset": end,
                "oldest_offset": start,
                "replicas": wanted,
                "in_sync_replica": len(partition.isr),
                "leader": -1 if partition.leader is None else partition.leader,
                "leader_is_preferred": int(partition.replicas[:1] == (partition.leader,)),
                "under_replicated_partition": int(len(partition.isr) < wanted),
            }
            for name, value in values.items():
                if value is not None:
                    self._add(f"kafka_topic_partition_{name}", labels, value)
        for topic, count in sizes.items():
            self._add("kafka_topic_partitions", f'{where},topic="{_escape(topic)}"', count)

    def text(self) -> str:
        """All of it, without metrics that have no sample."""
        parts: list[str] = []
        for name, lines in self._lines.items():
            if lines:
                metric = LAG_METRICS[name]
                parts += (f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.type}", *lines)
        return "\n".join([*parts, ""]) if parts else ""


def lag_text(operator: Operator) -> str:
    """The lag of all groups of the clusters that can be reached."""
    from broadsheet_operator.handlers.dependents import utc_now

    now_ms = int(utc_now().timestamp() * 1000)
    text = LagText(operator.settings.lag_names)
    told: set[tuple[ResourceKey, str]] = set()
    for cluster, view in operator.declared_groups():
        if (cluster, view.group_id) not in told:  # two resources may declare one group
            text.add_group(cluster, view, now_ms)
        told.add((cluster, view.group_id))
    for cluster, session in list(operator.sessions.items()):
        seen = session.lag.view if session.lag is not None else None
        if seen is None or not operator.clusters.is_reachable(cluster):
            continue
        for view in seen.groups:
            if (cluster, view.group_id) not in told:
                text.add_group(cluster, view, now_ms)
        text.add_logs(cluster, seen.logs)
    return text.text()


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
