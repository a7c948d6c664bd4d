"""Broker properties that need no restart: which are to be altered while the brokers run. Pure.

The Cluster's dynamic properties are cluster-wide defaults in Kafka (KIP-226). A key that was declared and is no longer
goes back to the brokers' default; to know such keys, the ones that this operator has set are remembered in an
annotation of the Cluster's ConfigMap. A key that is unmanaged, or was never declared, is left alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from broadsheet_operator.api import Cluster

ANNOTATION = "broadsheet.io/live-properties"
MIN_ISR = "min.insync.replicas"

DYNAMIC = frozenset(
    {
        "background.threads", "compression.type", "leader.replication.throttled.rate",
        "follower.replication.throttled.rate", "log.cleaner.backoff.ms", "log.cleaner.delete.retention.ms",
        "log.cleaner.max.compaction.lag.ms", "log.cleaner.min.cleanable.ratio", "log.cleaner.min.compaction.lag.ms",
        "log.cleanup.policy", "log.flush.interval.messages", "log.flush.interval.ms", "log.index.interval.bytes",
        "log.index.size.max.bytes", "log.local.retention.bytes", "log.local.retention.ms",
        "log.message.timestamp.after.max.ms", "log.message.timestamp.before.max.ms", "log.message.timestamp.type",
        "log.preallocate", "log.retention.bytes", "log.retention.ms", "log.roll.jitter.ms", "log.roll.ms",
        "log.segment.bytes", "log.segment.delete.delay.ms", "max.connection.creation.rate", "max.connections",
        "max.connections.per.ip", "message.max.bytes", "min.insync.replicas", "num.io.threads", "num.network.threads",
        "num.recovery.threads.per.data.dir", "num.replica.fetchers", "producer.id.expiration.ms",
        "transaction.partition.verification.enable", "unclean.leader.election.enable",
    }
)  # fmt: skip
"""Broker properties that Kafka alters live (DynamicBrokerConfig, KIP-226): a change of one restarts no broker."""


@dataclass(frozen=True, slots=True)
class LiveChange:
    """What is to be altered."""

    changes: Mapping[str, str]
    resets: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changes or self.resets)

    def words(self) -> str:
        """For events and logs."""
        parts = [f"{key}={value}" for key, value in sorted(self.changes.items())]
        parts += [f"{key} back to its default" for key in self.resets]
        return f"altered without a restart: {', '.join(parts)}"


def unknown(cluster: Cluster, known: Collection[str]) -> str:
    """A sentence about declared properties that no broker knows, and so ignores; empty when there are none."""
    keys = [key for key, value in (cluster.spec.config or {}).items() if value is not None]
    # Properties of a single listener are spelled with its name, and no broker lists those that it might know.
    strange = [key for key in sorted(keys) if key not in known and not key.startswith("listener.name.")]
    words = []
    for key in strange:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        words.append(f"{key} (did you mean {near[0]}?)" if near else key)
    return f"brokers do not know and ignore {', '.join(words)}" if words else ""


def needs_restart(properties: Mapping[str, str]) -> dict[str, str]:
    """The properties whose change a broker notices only at its start."""
    return {key: value for key, value in properties.items() if key not in DYNAMIC}


def declared(cluster: Cluster) -> dict[str, str]:
    """The Cluster's own dynamic properties, and min.insync.replicas even if it is not declared.

    With eligible leader replicas that number belongs to the whole cluster (KIP-966): brokers keep the one with which
    they were made, whatever their configuration says, and it cannot be taken back. It is as small as it was until the
    last broker that leaves is gone.
    """
    config = cluster.spec.config or {}
    found = {key: str(value) for key, value in config.items() if key in DYNAMIC and value is not None}
    if cluster.spec.brokers is not None and MIN_ISR not in cluster.spec.unmanaged_keys():
        present = (cluster.status.replicas if cluster.status else None) or 0
        found.setdefault(MIN_ISR, min_isr(max(cluster.spec.brokers.replicas, present)))
    return found


def min_isr(brokers: int) -> str:
    """Default min.insync.replicas for a cluster of this size."""
    return "2" if brokers >= 3 else "1"


def remembered(cluster: Cluster, config_map: Mapping[str, object] | None) -> tuple[str, ...]:
    """Keys that were declared once or are now: what the annotation is to say before anything is altered."""
    return tuple(sorted({*_annotated(config_map), *declared(cluster)}))


def plan_live_change(
    cluster: Cluster, config_map: Mapping[str, object] | None, observed: Mapping[str, str | None]
) -> LiveChange:
    """From what is declared and what is set for all brokers to what has to change."""
    wanted = declared(cluster)
    changes = {key: value for key, value in wanted.items() if observed.get(key) != value}
    gone = set(_annotated(config_map)) - set(wanted) - cluster.spec.unmanaged_keys()
    return LiveChange(changes, tuple(sorted(gone & set(observed))))


def _annotated(config_map: Mapping[str, object] | None) -> list[str]:
    metadata = config_map.get("metadata") if config_map else None
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    text = annotations.get(ANNOTATION, "") if isinstance(annotations, Mapping) else ""
    return [key for key in str(text).split(",") if key]
