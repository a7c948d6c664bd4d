"""Which operator looks after a Cluster: two releases that watch the same namespaces must not both act.

Operators of one release share a Lease, and one of them leads. Another release has another Lease, so both would lead.
The first that sees a Cluster therefore writes the name of its own Lease into an annotation of it; another one stands by
and reports so, as long as that Lease is held. Nothing is renewed: at rest nothing is written.

A Lease that was given back before this operator came is nobody's any more (a release that was renamed or uninstalled),
and its Clusters are taken over at once. One that is given back while this operator stands by may be taken again in a
moment (the other release is upgraded), and one that is only not renewed may be a slow holder's: both are waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.kubernetes import Kind, Kubernetes, KubernetesError

OPERATOR = "broadsheet.io/operator"
"""Annotation of a Cluster: namespace/name of the Lease of the operators that look after it."""
PATIENCE = 2.0
"""An owner that does not hold its Lease counts as gone after this many lease durations: an upgrade takes less."""


@dataclass(slots=True)
class _Owner:
    """Another release's Lease, as it was first seen in its present state."""

    version: str = ""
    since: float = 0.0
    was_held: bool = False
    """This operator has seen it with a holder."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Why a Cluster is not this operator's."""

    words: str
    held: bool = True
    """Somebody holds the other Lease; if not, this operator takes over unless it is taken again soon."""


@dataclass(slots=True)
class Ownership:
    """Of one operator. `lease`: namespace/name of its own Lease; empty: there is no other operator to think of."""

    api: Kubernetes
    lease: str
    lease_seconds: float
    _owners: dict[str, _Owner] = field(default_factory=dict)

    def is_ours(self, cluster: Mapping[str, Any]) -> bool:
        """Whether this operator looks after a Cluster, as far as the Cluster says."""
        return not self.lease or owner_of(cluster) == self.lease

    async def claim(self, cluster: Mapping[str, Any]) -> tuple[Mapping[str, Any], Elsewhere | None]:
        """The Cluster, which is this operator's now, or why it is another one's."""
        owner = owner_of(cluster)
        if self.is_ours(cluster):
            return cluster, None
        if owner:
            other = await self._holds(owner)
            if other is not None:
                return cluster, other
        metadata = cluster["metadata"]
        patch = {"metadata": {"annotations": {OPERATOR: self.lease}, "resourceVersion": metadata["resourceVersion"]}}
        key = ResourceKey.of(cluster)
        written = await self.api.patch(Kind.CLUSTER, key.namespace, key.name, patch)
        return {**cluster, **written}, None

    async def _holds(self, owner: str) -> Elsewhere | None:
        """Why another release still looks after a Cluster; None once its Lease was given up or not renewed."""
        namespace, _, name = owner.rpartition("/")
        told = f"the operator with the Lease {owner} looks after this Cluster, and this one ({self.lease}) stands by"
        try:
            lease = await self.api.get(Kind.LEASE, namespace, name)
        except KubernetesError as error:
            if error.retriable:
                raise
            return Elsewhere(f"{told}; if that one is gone, remove the annotation {OPERATOR} ({error.message})")
        spec = (lease or {}).get("spec", {})
        held = bool(spec.get("holderIdentity"))
        version = str(lease["metadata"]["resourceVersion"]) if lease and held else "not held"
        now = asyncio.get_running_loop().time()
        known = self._owners.setdefault(owner, _Owner(version, now))
        if known.version != version:
            self._owners[owner] = known = _Owner(version, now, known.was_held)
        known.was_held = known.was_held or held
        patience = PATIENCE * self.lease_seconds
        if now - known.since >= patience or (lease and not held and not known.was_held):
            return None
        soon = f"this one ({self.lease}) takes over unless that changes within {patience:g} s"
        if not held:
            return Elsewhere(f"no operator holds the Lease {owner} any more, and {soon}", held=False)
        if _seconds_old(spec) >= patience:  # by another machine's clock: good enough for words
            words = f"the operator with the Lease {owner} has not renewed it since {spec['renewTime']}, and {soon}"
            return Elsewhere(words, held=False)
        return Elsewhere(told)


def _seconds_old(spec: Mapping[str, Any]) -> float:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return 0.0


def owner_of(cluster: Mapping[str, Any]) -> str:
    """namespace/name of the Lease of the operators that look after a Cluster; empty for none yet."""
    return str((cluster["metadata"].get("annotations") or {}).get(OPERATOR, ""))
