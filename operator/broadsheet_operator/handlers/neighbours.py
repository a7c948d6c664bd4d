"""Other releases of the operator that watch the same namespaces: noticed before there is a Cluster to disagree about.

Two releases have two Leases, so both lead. Each Cluster is looked after by one of them (`ownership`), and nothing
breaks; but a person who installs the second one should learn that it is not alone, and which of the two does nothing.
Every operator writes into an annotation of its Lease which namespaces it watches, and its leader lists the Leases that
carry the operator's label from time to time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.lease import LABELS, watched_namespaces
from broadsheet_operator.handlers.writing import Writer
from broadsheet_operator.kubernetes import Kind, Kubernetes, KubernetesError

logger = logging.getLogger(__name__)

GONE_AFTER = 3
"""Looks without a renewal after which a Lease counts as given up."""


@dataclass(slots=True)
class _Seen:
    """A Lease as it was when it last changed."""

    version: str
    looks: int = 0
    """Looks since then."""
    renewed: bool = False
    """It was seen to change: its holder is alive. A Lease that only stands there may be left from long ago."""


class Neighbours:
    """What one operator knows of others. `lease`: namespace/name of its own; `namespaces`: those that it watches, none
    for all."""

    def __init__(self, api: Kubernetes, writer: Writer, lease: str, namespaces: Sequence[str], seconds: float) -> None:
        self._api = api
        self._writer = writer
        self._lease = lease
        self._namespaces = frozenset(namespaces)
        self._seconds = seconds
        self._seen: dict[str, _Seen] = {}
        self.others: dict[str, str] = {}
        """By the Lease of each other operator that is alive, what both watch, as a phrase."""

    async def watch(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            try:
                await self.look()
            except KubernetesError as error:
                if not error.retriable:
                    logger.info("other operators are not looked for: %s", error.message)
                    return
            await asyncio.sleep(self._seconds)

    async def look(self) -> None:
        """Look once, and say who has come."""
        leases = await self._api.list(Kind.LEASE, labels=",".join(f"{key}={value}" for key, value in LABELS.items()))
        found = {str(ResourceKey.of(body)): body for body in leases}
        ours = found.pop(self._lease, None)
        for name in self._seen.keys() - found.keys():
            del self._seen[name]
        known, self.others = self.others, self._alive(found)
        for name in sorted(self.others.keys() - known.keys()):
            words = (
                f"the operator with the Lease {name} watches {self.others[name]}, too: each Cluster is changed by the "
                "one that saw it first, and the other stands by; uninstall one of the two, or give each its own "
                "namespaces (watchNamespaces)"
            )
            logger.warning("%s", words)
            if ours is not None:
                self._writer.event(ours, "Warning", "AnotherOperator", words)
        for name in sorted(known.keys() - self.others.keys()):
            logger.info("the operator with the Lease %s is gone", name)

    def _alive(self, leases: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        result: dict[str, str] = {}
        for name, body in leases.items():
            version = str(body["metadata"].get("resourceVersion", ""))
            seen = self._seen.setdefault(name, _Seen(version))
            if seen.version == version:
                seen.looks += 1
            else:
                self._seen[name] = seen = _Seen(version, renewed=True)
            held = bool((body.get("spec") or {}).get("holderIdentity"))
            both = overlap(self._namespaces, watched_namespaces(body))
            if held and both and seen.renewed and seen.looks < GONE_AFTER:
                result[name] = both
        return result


def overlap(ours: Iterable[str], theirs: Iterable[str]) -> str:
    """Which namespaces two operators both watch, as a phrase; empty for none. No names mean all namespaces."""
    mine, other = frozenset(ours), frozenset(theirs)
    if not mine and not other:
        return "all namespaces"
    both = mine & other if mine and other else mine | other
    if not both:
        return ""
    listed = ", ".join(sorted(both)[:5]) + (" ..." if len(both) > 5 else "")
    return f"the {'namespace' if len(both) == 1 else 'namespaces'} {listed}"
