"""Kafka's own topics: what a Topic may change of them. Pure.

They hold committed offsets, transactions and the state of share groups. Their records are Kafka's own, hashed over a
fixed number of partitions and compacted: with another cleanup.policy or more partitions they are lost or not found.
"""

from __future__ import annotations

from collections.abc import Iterator

from broadsheet_operator.api.canary_limits import KAFKAS_TOPICS
from broadsheet_operator.api.topic import Topic
from broadsheet_operator.reconcilers.observed import TopicView

METADATA = "__cluster_metadata"
"""The log of the metadata quorum, which no client sees as a topic."""
NAMES = frozenset(KAFKAS_TOPICS)
CHANGEABLE = (
    "max.compaction.lag.ms",
    "min.cleanable.dirty.ratio",
    "min.insync.replicas",
    "segment.bytes",
    "segment.ms",
)
"""Properties that say how the records are kept, and not which."""


def is_own(name: str, observed: TopicView | None) -> bool:
    """Whether a topic belongs to Kafka, by its name or because the cluster says so."""
    return name in NAMES or (observed is not None and observed.internal)


def awaited(desired: Topic, observed: TopicView | None) -> str:
    """Why a Topic that declares one of Kafka's own topics waits; empty when it need not wait."""
    name = desired.topic_name
    if observed is not None or name not in NAMES or name == METADATA:
        return ""
    return f"{name} is one of Kafka's own topics and does not exist yet; Kafka creates it when it is first needed"


def refusal(desired: Topic, observed: TopicView | None) -> str:
    """Why nothing is done for a Topic that declares one of Kafka's own topics; empty when all of it may be done."""
    name = desired.topic_name
    if not is_own(name, observed):
        return ""
    if observed is None:
        return f"{name} is the log of Kafka's metadata quorum, which cannot be declared" if name == METADATA else ""
    wrong = list(_wrong(desired, observed))
    if not wrong:
        return ""
    allowed = f"replicationFactor, minInSyncReplicas and of config {', '.join(CHANGEABLE)}"
    return f"{name} is one of Kafka's own topics: {'; '.join(wrong)}. Allowed are {allowed}"


def _wrong(desired: Topic, observed: TopicView) -> Iterator[str]:
    count = len(observed.partitions)
    if desired.spec.partitions not in (None, count):
        yield f"partitions {desired.spec.partitions} would not find what is kept in {count}"
    for key, value in sorted(desired.spec.configs().items()):
        current = observed.configs.get(key)
        if value is not None and key not in CHANGEABLE and (current is None or current.value != value):
            yield f"{key}={value} would lose or hide its records"
