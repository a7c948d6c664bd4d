"""Which operator looks after a Cluster: two releases that watch the same namespaces must not both act.

Operators of one release share a Lease, and one of them leads. Another release has another Lease, so both would lead.
The first that sees a Cluster therefore writes the name of its own Lease into an annotation of it; another one stands by
and reports so, as long as that Lease is held. Nothing is renewed: at rest nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
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

    async def claim(self, cluster: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        """The Cluster, which is this operator's now, or why it is another one's."""
        owner = owner_of(cluster)
        if self.is_ours(cluster):
            return cluster, ""
        if owner:
            words = await self._holds(owner)
            if words:
                return cluster, words
        metadata = cluster["metadata"]
        patch = {"metadata": {"annotations": {OPERATOR: self.lease}, "resourceVersion": metadata["resourceVersion"]}}
        key = ResourceKey.of(cluster)
        written = await self.api.patch(Kind.CLUSTER, key.namespace, key.name, patch)
        return {**cluster, **written}, ""

    async def _holds(self, owner: str) -> str:
        """Why another release still looks after a Cluster; empty once its Lease was given up or not renewed."""
        namespace, _, name = owner.rpartition("/")
        told = f"the operator with the Lease {owner} looks after this Cluster, and this one ({self.lease}) stands by"
        try:
            lease = await self.api.get(Kind.LEASE, namespace, name)
        except KubernetesError as error:
            if error.retriable:
                raise
            return f"{told}; if that one is gone, remove the annotation {OPERATOR} ({error.message})"
        held = bool(lease and lease.get("spec", {}).get("holderIdentity"))
        version = str(lease["metadata"]["resourceVersion"]) if lease and held else "not held"
        now = asyncio.get_running_loop().time()
        known = self._owners.setdefault(owner, _Owner(version, now))
        if known.version != version:
            self._owners[owner] = known = _Owner(version, now)
        return told if now - known.since < PATIENCE * self.lease_seconds else ""


def owner_of(cluster: Mapping[str, Any]) -> str:
    """namespace/name of the Lease of the operators that look after a Cluster; empty for none yet."""
    return str((cluster["metadata"].get("annotations") or {}).get(OPERATOR, ""))
