"""Two resources for one thing: the older one wins, the other is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broadsheet_operator.api.topic import Topic

Key = tuple[str, str]
"""Namespace and name."""


def key(topic: Topic) -> Key:
    """Namespace and name of the resource."""
    return topic.metadata.namespace, topic.metadata.name


def full_cluster_name(reference: str, namespace: str) -> str:
    """`quickstart`, seen from the namespace of the resource that names it, as namespace/quickstart."""
    return reference if "/" in reference else f"{namespace}/{reference}"


def topic_rivals(topics: Iterable[Topic]) -> Mapping[Key, str]:
    """Which Topics give way, and the older Topic for the same topic that each gives way to, in words."""
    claims: dict[tuple[str, str], list[Topic]] = {}
    for topic in topics:
        place = full_cluster_name(topic.spec.cluster, topic.metadata.namespace)
        claims.setdefault((place, topic.topic_name), []).append(topic)
    rivals: dict[Key, str] = {}
    for claimants in claims.values():
        # A resource that is being deleted gives way to any that stays, so that it cannot take the topic with it.
        first, *others = sorted(
            claimants,
            key=lambda t: (t.metadata.deletion_timestamp is not None, t.metadata.creation_timestamp, *key(t)),
        )
        namespace, name = key(first)
        words = f"topic/{name}" + (f" in namespace {namespace}" if namespace else "")
        rivals |= {key(other): words for other in others}
    return rivals
