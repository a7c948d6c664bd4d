"""Canaries of Clusters: their Deployments, their topics, and what they say.

What is decided is in `reconcilers.canary` and `reconcilers.canary_topic`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.attempts import Attempts
from broadsheet_operator.handlers.store import KubernetesStore
from broadsheet_operator.handlers.writing import Writer
from broadsheet_operator.kafka.canary import delete_topic, read_health
from broadsheet_operator.kubernetes import Kind, Kubernetes
from broadsheet_operator.reconcilers import canary, canary_topic
from broadsheet_operator.reconcilers.broker_round import Children, Plan
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.conditions import Statement
from broadsheet_operator.reconcilers.observed import ClusterView, Failure
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.seen import Seen
from broadsheet_operator.reconcilers.topic_actions import ElectLeaders
from broadsheet_operator.reconcilers.windows import allows

logger = logging.getLogger(__name__)

READ_SECONDS = 5.0
"""The least time between two readings of a canary."""


@dataclass(slots=True)
class Reading:
    """What a canary said last."""

    since: datetime
    """When it was looked for first."""
    health: CanaryHealth | None = None
    at: datetime | None = None
    """When it said it; None: never."""
    asked_at: datetime | None = None
    problem: str = ""


class Canaries:
    """What is done for `spec.canary`."""

    def __init__(
        self,
        api: Kubernetes,
        store: KubernetesStore,
        writer: Writer,
        image: str,
        read: Callable[[str], CanaryHealth | str] = read_health,
    ) -> None:
        """`image`: of the canaries; empty if there is none. `read`: asks a canary at a URL, in a thread."""
        self._api = api
        self._store = store
        self._writer = writer
        self._image = image
        self._read = read
        self._readings: dict[ResourceKey, Reading] = {}
        self._refusals: dict[ResourceKey, str] = {}
        """Why the topic of a Cluster may not be used."""
        self._failures: dict[ResourceKey, Failure | None] = {}
        """What did not work for the topic of a Cluster."""

    def forget(self, key: ResourceKey) -> None:
        """The Cluster is gone."""
        for known in (self._readings, self._refusals, self._failures):
            known.pop(key, None)

    # -- what is made --------------------------------------------------------------------------------------------------

    async def provision(
        self,
        key: ResourceKey,
        cluster: Cluster,
        servers: Sequence[str],
        apply: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Have the canary run as it is declared."""
        if cluster.spec.canary is not None and self._image:
            for child in canary.children(cluster, self._image, servers):
                await apply(child)

    async def remove(
        self,
        key: ResourceKey,
        body: Mapping[str, Any],
        call: Callable[[Any], Awaitable[Any]] | None,
        attempts: Attempts,
    ) -> None:
        """Take a canary away that is not declared any more, with its topic if that was made for it."""
        name = ResourceKey(key.namespace, canary.name_of(key.name))
        deployment = self._store.get(Kind.DEPLOYMENT, name)
        if deployment is None or "deletionTimestamp" in deployment["metadata"]:
            return
        topic = (deployment["metadata"].get("annotations") or {}).get(canary.TOPIC, "")
        words = "the canary is removed"
        if topic and call is not None:
            words += await call(partial(delete_topic, name=topic))
        for kind in (Kind.NETWORK_POLICY, Kind.DEPLOYMENT):
            found = self._store.get(kind, name)
            if found is not None:
                uid = found["metadata"]["uid"]
                delete = partial(self._api.delete, kind, key.namespace, name.name, uid)
                await attempts.of(f"remove {kind.kind} {name.name}", delete)
        self._writer.event(body, "Normal", "CanaryRemoved", words)
        self.forget(key)

    async def keep_topic(
        self,
        key: ResourceKey,
        cluster: Cluster,
        children: Children,
        seen: Seen,
        plan: Plan,
        call: Callable[[Any], Awaitable[Any]],
        now: datetime,
    ) -> bool:
        """Have every broker that stays lead a partition of the topic; nothing of it moves while brokers change.

        True if something was done.
        """
        if cluster.spec.canary is None or cluster.spec.paused or not isinstance(seen.view, ClusterView):
            return False
        name = cluster.spec.canary.topic
        if isinstance(seen.canary, Failure):
            self._failures[key] = seen.canary
            return False
        running: int | None = None
        deleting: frozenset[int] = frozenset()
        may_move = True
        if cluster.spec.brokers is not None:
            running = min(cluster.spec.brokers.replicas, children.running)
            if children.draining is not None or plan.scaling.draining is not None:
                running = min(running, *(d for d in (children.draining, plan.scaling.draining) if d is not None))
            deleting = frozenset(id for id, pod in children.pods.items() if "deletionTimestamp" in pod["metadata"])
            may_move = plan.settled and allows(cluster.spec.maintenance_windows or (), now)[0]
        staying = canary.staying(seen.view.brokers, running, deleting)
        if seen.canary is None and running is not None and len(staying) < running and _is_forming(cluster):
            return False  # brokers register one after the other: the topic is made for all of them
        wanted = canary_topic.plan(name, seen.canary, staying, may_move=may_move)
        self._refusals[key] = wanted.refusal
        self._failures[key] = None
        if not wanted.actions:
            return False
        results = await call(lambda gateway: gateway.apply_topics(wanted.actions))
        for action, failure in zip(wanted.actions, results, strict=True):
            if failure is None:
                logger.info("Cluster %s: the canary's topic %s: %s", key, name, action.words())
            elif not isinstance(action, ElectLeaders):  # one that comes too soon is asked for again
                self._failures[key] = self._failures[key] or failure
        return True

    # -- what is said --------------------------------------------------------------------------------------------------

    async def statements(self, key: ResourceKey, cluster: Cluster, now: datetime, stopped: str = "") -> list[Statement]:
        """The condition of the Cluster; none without a canary. `stopped`: why no broker can answer it, which was asked
        for."""
        if cluster.spec.canary is None:
            return []
        if stopped:
            return [Statement("CanaryHealthy", "Unknown", Reason.EXCHANGING_ENGINE, stopped)]
        name = ResourceKey(key.namespace, canary.name_of(key.name))
        pod = self._pod(key)
        reading = self._readings.setdefault(key, Reading(now))
        url = canary.status_url(pod) if pod is not None else ""
        if url and (reading.asked_at is None or (now - reading.asked_at).total_seconds() >= READ_SECONDS):
            reading.asked_at = now
            said = await asyncio.to_thread(self._read, url)
            if isinstance(said, CanaryHealth):
                reading.health, reading.at, reading.problem = said, now, ""
            else:
                reading.problem = said
        around = canary.Circumstances(
            refusal=self._refusals.get(key, ""),
            failure=self._failures.get(key),
            image_is_missing=not self._image,
            deployment=self._store.get(Kind.DEPLOYMENT, name),
            pod=pod,
            problem=reading.problem,
            silent_seconds=(now - reading.at).total_seconds() if reading.at else None,
            waited_seconds=(now - reading.since).total_seconds(),
        )
        before = cluster.status.condition("CanaryHealthy") if cluster.status else None
        return [canary.statement(reading.health, around, before)]

    def _pod(self, key: ResourceKey) -> Mapping[str, Any] | None:
        """The canary's pod; of several the one that was made last."""
        pods = [
            pod
            for at, pod in self._store.list(Kind.POD)
            if at.namespace == key.namespace and canary.is_canary(pod, key.name)
        ]
        return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def _is_forming(cluster: Cluster) -> bool:
    """Whether the brokers of a new Cluster still start."""
    ready = cluster.status.condition("Ready") if cluster.status else None
    return ready is None or ready.reason in (Reason.PENDING, Reason.CREATING)
