"""Who leads: a Lease that one operator holds (coordination.k8s.io/v1). Standbys are Ready and wait.

kopf's own peering freezes all peers of equal priority, so it is switched off. The client library's election never gives
a lease back, so each upgrade would leave the clusters unserved until it ran out; this one does. Times of other
machines are not believed: a lease has run out when it has not changed for its duration by this machine's own clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broadsheet_operator.kubernetes import Kind, Kubernetes, KubernetesError
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

logger = logging.getLogger(__name__)

LABELS = {"app.kubernetes.io/name": "broadsheet-operator"}
"""Of the Lease of every operator: by them one finds another (`neighbours`)."""
WATCHES = "broadsheet.io/watches"
"""Annotation of the Lease: the namespaces that its holder watches, or * for all."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease as it was first seen in this state, by the monotonic clock."""

    version: str
    at: float


def may_take(spec: Mapping[str, Any], identity: str, seen: Seen, now: float, lease_seconds: float) -> bool:
    """Whether this operator may write itself into a lease: it is its own, not held, or it has run out. Pure."""
    holder = spec.get("holderIdentity") or ""
    duration = float(spec.get("leaseDurationSeconds") or lease_seconds)
    return holder in ("", identity) or now - seen.at >= duration


class Lease:
    """One operator's view of the lease."""

    def __init__(
        self,
        api: Kubernetes,
        name: str,
        namespace: str,
        identity: str,
        settings: OperatorSettings = DEFAULTS,
        watches: Sequence[str] = (),
    ) -> None:
        """`watches`: namespaces that the operator watches, none for all."""
        self._metadata = {"labels": LABELS, "annotations": {WATCHES: ",".join(sorted(watches)) or "*"}}
        self._api = api
        self.settings = settings
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._seen = Seen("", 0.0)
        self._version = ""
        """resourceVersion of our own last write."""

    def __str__(self) -> str:
        return f"{self._namespace}/{self._name}"

    async def try_to_hold(self) -> bool:
        """Take or renew the lease; False when another holds it or the API server does not answer."""
        try:
            async with asyncio.timeout(self.settings.lease_retry_seconds * 2):
                return await self._hold()
        except (KubernetesError, TimeoutError) as error:
            if not (isinstance(error, KubernetesError) and error.status == 409):  # 409: another was faster
                logger.warning("lease %s: %s", self, str(error) or "the API server does not answer in time")
            return False

    async def _hold(self) -> bool:
        now = asyncio.get_running_loop().time()
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = await self._api.get(Kind.LEASE, self._namespace, self._name)
        duration = max(1, int(self.settings.lease_seconds))
        wanted = {"holderIdentity": self._identity, "leaseDurationSeconds": duration, "renewTime": stamp}
        if lease is None:
            body = {
                "apiVersion": Kind.LEASE.api_version,
                "kind": Kind.LEASE.kind,
                "metadata": {"name": self._name, "namespace": self._namespace, **self._metadata},
                "spec": wanted | {"acquireTime": stamp, "leaseTransitions": 0},
            }
            await self._api.create(body)
            return True
        version, spec = lease["metadata"]["resourceVersion"], lease.get("spec", {})
        if version != self._seen.version:
            self._seen = Seen(version, now)
        if not may_take(spec, self._identity, self._seen, now, self.settings.lease_seconds):
            return False
        if spec.get("holderIdentity") != self._identity:
            wanted |= {"acquireTime": stamp, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        patch = {"metadata": {"resourceVersion": version, **self._metadata}, "spec": wanted}
        await self._api.patch(Kind.LEASE, self._namespace, self._name, patch)
        return True

    async def release(self) -> None:
        """Give the lease back, so that a standby takes over at once."""
        try:
            async with asyncio.timeout(self.settings.lease_retry_seconds):
                lease = await self._api.get(Kind.LEASE, self._namespace, self._name)
                if lease is None or lease.get("spec", {}).get("holderIdentity") != self._identity:
                    return
                patch = {
                    "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
                    "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
                }
                await self._api.patch(Kind.LEASE, self._namespace, self._name, patch)
        except (KubernetesError, TimeoutError) as error:
            logger.info("lease %s could not be given back; it runs out by itself: %s", self, error)


def watched_namespaces(lease: Mapping[str, Any]) -> frozenset[str]:
    """Which namespaces the holder of a Lease watches; empty for all of them, and where it does not say."""
    told = str((lease["metadata"].get("annotations") or {}).get(WATCHES, "*"))
    return frozenset() if told == "*" else frozenset(told.split(","))


async def lead(lease: Lease, while_leading: Callable[[], Awaitable[None]]) -> None:
    """Wait for the lease, then run `while_leading` until it ends or the lease is lost; then return.

    A leader that lost its lease must not go on acting: the caller ends the process, and a new one stands by.
    """
    loop, settings = asyncio.get_running_loop(), lease.settings
    while not await lease.try_to_hold():  # noqa: ASYNC110 - another machine's doing: there is nothing to wait for
        await asyncio.sleep(settings.lease_retry_seconds)
    logger.info("leading (lease %s)", lease)
    work = asyncio.ensure_future(while_leading())
    renewed = loop.time()
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=settings.lease_retry_seconds)
            if await lease.try_to_hold():
                renewed = loop.time()
            elif loop.time() - renewed > settings.renew_deadline_seconds:
                logger.error("lease %s is lost: stopping, so that only one operator acts", lease)
                return
        work.result()  # raises what ended the work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await lease.release()
