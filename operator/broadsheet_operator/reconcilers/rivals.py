"""Two resources for one thing: the older one wins, the other is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.topic import Topic

Key = tuple[str, str]
"""Namespace and name."""


def key(resource: Topic | ConsumerGroup) -> Key:
    """Namespace and name of the resource."""
    return resource.metadata.namespace, resource.metadata.name


def full_cluster_name(reference: str, namespace: str) -> str:
    """`quickstart`, seen from the namespace of the resource that names it, as namespace/quickstart."""
    return reference if "/" in reference else f"{namespace}/{reference}"


def topic_rivals(topics: Iterable[Topic]) -> Mapping[Key, str]:
    """Which Topics give way, and the older Topic for the same topic that each gives way to, in words."""
    return _rivals("topic", ((topic, topic.topic_name) for topic in topics))


def group_rivals(groups: Iterable[ConsumerGroup]) -> Mapping[Key, str]:
    """Which ConsumerGroups give way, and the older one for the same group that each gives way to, in words."""
    return _rivals("consumergroup", ((group, group.group_id) for group in groups))


def _rivals(kind: str, declared: Iterable[tuple[Topic | ConsumerGroup, str]]) -> Mapping[Key, str]:
    claims: dict[tuple[str, str], list[Topic | ConsumerGroup]] = {}
    for resource, name_in_kafka in declared:
        place = full_cluster_name(resource.spec.cluster, resource.metadata.namespace)
        claims.setdefault((place, name_in_kafka), []).append(resource)
    rivals: dict[Key, str] = {}
    for claimants in claims.values():
        # A resource that is being deleted gives way to any that stays, so that it cannot take the topic with it.
        first, *others = sorted(
            claimants,
            key=lambda r: (r.metadata.deletion_timestamp is not None, r.metadata.creation_timestamp, *key(r)),
        )
        namespace, name = key(first)
        words = f"{kind}/{name}" + (f" in namespace {namespace}" if namespace else "")
        rivals |= {key(other): words for other in others}
    return rivals
