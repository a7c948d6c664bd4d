"""Two resources for one thing: the older one wins, and the status of the other says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.meta import Dependent


def rivals(declared: Iterable[Dependent]) -> Mapping[ResourceKey, str]:
    """Of these resources of one kind: which give way, and the older one for the same thing that each gives way to."""
    claims: dict[tuple[ResourceKey, str], list[Dependent]] = {}
    for resource in declared:
        claims.setdefault((resource.cluster_key, resource.kafka_name), []).append(resource)
    found: dict[ResourceKey, str] = {}
    for claimants in claims.values():
        # A resource that is being deleted gives way to any that stays, so that it cannot take the topic with it.
        first, *others = sorted(
            claimants,
            key=lambda r: (r.metadata.deletion_timestamp is not None, r.metadata.creation_timestamp, *r.key),
        )
        namespace, name = first.key
        words = f"{first.kind.lower()}/{name}" + (f" in namespace {namespace}" if namespace else "")
        found |= {other.key: words for other in others}
    return found
