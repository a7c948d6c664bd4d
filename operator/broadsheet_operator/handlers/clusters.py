"""Clusters: children applied, volumes grown, pods restarted one by one, configuration altered live, status written."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from broadsheet_operator.api.cluster import Cluster, ClusterStatus, ListenerType
from broadsheet_operator.api.manifests import ManifestError, parse
from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.handlers.brokers import BrokerCare, Plan, Seen
from broadsheet_operator.handlers.dependents import known_fields, utc_now
from broadsheet_operator.handlers.session import Session
from broadsheet_operator.handlers.store import Key, Store
from broadsheet_operator.handlers.writing import FINALIZER, Writer
from broadsheet_operator.kubernetes import Kind, Kubernetes, KubernetesError
from broadsheet_operator.reconcilers import properties, provisioning
from broadsheet_operator.reconcilers.cluster import cluster_status
from broadsheet_operator.reconcilers.conditions import (
    NO_FIGURES,
    Figures,
    Reason,
    Statement,
    stuck,
    waiting,
    with_statements,
)
from broadsheet_operator.reconcilers.lost_volumes import lost_quorum
from broadsheet_operator.reconcilers.observed import ClusterView, Failure, QuorumView
from broadsheet_operator.reconcilers.pods import state_of
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, Settings
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

logger = logging.getLogger(__name__)

FIGURES = Figures({"topics": True, "brokers": {"__all__": {"bytes"}}}, quiet_seconds=300.0)
"""How much brokers keep changes with every record: the exact figure is in /metrics, the status has one of late."""
SessionFor = Callable[[Key, tuple[str, ...]], Awaitable[Session]]


class Clusters:
    """What is done for Cluster resources."""

    def __init__(
        self,
        api: Kubernetes,
        store: Store,
        writer: Writer,
        defaults: Settings,
        session_for: SessionFor,
        close_session: Callable[[Key], Awaitable[None]],
        became_ready: Callable[[Key], None],
        settings: OperatorSettings = DEFAULTS,
    ) -> None:
        self._api = api
        self._store = store
        self._writer = writer
        self._defaults = defaults
        self._settings = settings
        self._session_for = session_for
        self._close_session = close_session
        self._became_ready = became_ready
        self._care = BrokerCare(api, store, writer, settings.cluster_sizes_seconds)
        self._looked_at: set[Key] = set()
        """Clusters whose children were read, and not only waited for from the watches."""
        self._unknown: dict[Key, tuple[int, str]] = {}
        """For which generation it was asked what its brokers do not know, and what that is, in words."""

    def sizes(self) -> dict[Key, Mapping[int, int]]:
        """By Cluster and broker, bytes of all replicas: exact figures for /metrics."""
        return self._care.sizes()

    async def reconcile(self, batch: list[Key]) -> Mapping[Key, float | None]:
        """A round for these Clusters."""
        again: dict[Key, float | None] = {}
        for key in batch:
            try:
                delay = await self._one(key)
            except KubernetesError as error:
                logger.warning("Cluster %s: %s", key, error)
                delay = None
            if delay is None or delay > 0:
                again[key] = delay
        return again

    async def _one(self, key: Key) -> float | None:
        body = self._store.get(Kind.CLUSTER, key)
        if body is None:
            self._writer.forget(Kind.CLUSTER, key)
            self._looked_at.discard(key)
            self._unknown.pop(key, None)
            self._care.forget(key)
            await self._close_session(key)
            return 0.0
        try:
            cluster = read_cluster(body)
        except (ManifestError, ValidationError) as error:
            await self._say_invalid(body, str(error))
            return 0.0
        await self._look_at_children(key)
        if cluster.metadata.deletion_timestamp:
            await self._delete(key, cluster, body)
            return 0.0
        await self._writer.hold(Kind.CLUSTER, body, _deletes_volumes(cluster))
        declared = cluster
        cluster, kept = provisioning.held_back(cluster, self._care.existing(key))
        if cluster.spec.brokers is not None and not cluster.spec.paused:
            await self._provision(key, cluster)
        return await self._report(key, body, cluster, declared, kept)

    # -- what is made -------------------------------------------------------------------------------------------------

    async def _look_at_children(self, key: Key) -> None:
        """Once for each Cluster: its own watch may tell of it before the others tell of what it has already.

        To take a StatefulSet for absent would render its pods anew, and so restart brokers.
        """
        if key in self._looked_at:
            return
        for kind in (Kind.STATEFUL_SET, Kind.CONFIG_MAP, Kind.VOLUME_CLAIM, Kind.POD):
            for child in await self._api.list(kind, key.namespace, f"{CLUSTER_LABEL}={key.name}"):
                self._store.put(kind, child)
        self._looked_at.add(key)

    async def _provision(self, key: Key, cluster: Cluster) -> None:
        existing = self._care.existing(key)
        assert cluster.spec.brokers is not None
        for child in provisioning.children(cluster, existing, self._defaults, self._evictable(key, cluster)):
            kind = Kind.of(child)
            have = self._store.get(kind, Key.of(child))
            if have is None or not _contains(have, child):
                written = await self._api.apply(child)
                self._store.put(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **written})
        for name, size in provisioning.claims_to_grow(cluster.spec.brokers, existing.claims):
            patch = {"spec": {"resources": {"requests": {"storage": size}}}}
            await self._api.patch(Kind.VOLUME_CLAIM, key.namespace, name, patch)

    def _evictable(self, key: Key, cluster: Cluster) -> int | None:
        """Brokers that may be evicted now; what the budget says already until a first round has looked."""
        known = self._care.evictable.get(key)
        budget = self._store.get(Kind.DISRUPTION_BUDGET, Key(key.namespace, f"{key.name}-brokers"))
        if known is None and budget is not None and _replicas(cluster) > 1:
            return int(budget["spec"]["maxUnavailable"])
        return known

    def _config_map(self, key: Key) -> Mapping[str, Any] | None:
        return self._care.existing(key).config_map

    # -- what is said -------------------------------------------------------------------------------------------------

    async def _report(
        self, key: Key, body: Mapping[str, Any], cluster: Cluster, declared: Cluster, kept: str
    ) -> float | None:
        """Ask the brokers, do the next step, say how things are. `declared`: with as many brokers as are asked for;
        `kept`: why they are not had, in words."""
        now = utc_now()
        pods = self._care.pods(key)
        states = [state_of(index, pods.get(index), cluster, now) for index in range(_replicas(cluster))]
        seen, plan = Seen(), Plan()
        failure: Failure | None = None
        if cluster.spec.external is not None or any(state.state == "Running" for state in states):
            session = await self._session_for(key, bootstrap_servers(cluster))
            wanted = _replicas(cluster) if kept else _replicas(declared)
            seen = await session.cluster_lane.call(self._care.questions(key, cluster, wanted, now))
            if cluster.spec.brokers is not None and not cluster.spec.paused and isinstance(seen.view, ClusterView):
                failure = await self._alter_live(key, body, cluster, session)
                await self._look_for_unknown(key, body, cluster, seen.view, session)
                await self._care.mark_as_formed(key, seen)
            plan = self._care.plan(key, cluster, wanted, seen, now)
            failure = await self._care.carry_out(key, body, plan, session.cluster_lane.call) or failure
        else:
            plan = self._care.plan(key, cluster, _replicas(cluster), seen, now)
            await self._care.carry_out(key, body, plan, None)
        lost = "" if isinstance(seen.quorum, QuorumView) else lost_quorum(cluster, self._care.existing(key))
        status = cluster_status(
            cluster,
            states,
            seen.view,
            seen.health,
            now,
            refusal=_not_built(cluster),
            remark=self._unknown.get(key, (0, ""))[1],
            instead=_instead(lost, failure, kept or plan.scaling.refusal),
            quorum=seen.quorum if isinstance(seen.quorum, QuorumView) else None,
            sizes=seen.sizes,
            rollout=plan.rolling.words,
            scaling=plan.scaling_words,
        )
        status = status.model_copy(update=_addresses(cluster))
        await self._writer.status(Kind.CLUSTER, body, cluster.status, status, FIGURES, now)
        ready = is_marked_ready(status)
        if ready and not (cluster.status and is_marked_ready(cluster.status)):
            self._became_ready(key)
        settled = ready and plan.settled
        return self._settings.cluster_ready_seconds if settled else self._settings.cluster_unready_seconds

    async def _alter_live(
        self, key: Key, body: Mapping[str, Any], cluster: Cluster, session: Session
    ) -> Failure | None:
        """Bring the properties that need no restart to what is declared. The failure, if the cluster refuses."""
        config_map = self._config_map(key)
        keys = properties.remembered(cluster, config_map)
        if not keys:
            return None
        observed = await session.cluster_lane.call(lambda gateway: gateway.observe_properties())
        if isinstance(observed, Failure):
            return observed
        change = properties.plan_live_change(cluster, config_map, observed)
        if change:
            failure = await session.cluster_lane.call(
                lambda gateway: gateway.alter_properties(change.changes, change.resets)
            )
            if failure is not None:
                return failure
            self._writer.event(body, "Normal", "ConfigAltered", change.words())
        wanted = ",".join(sorted(properties.declared(cluster)))
        if config_map is not None and ",".join(keys) != wanted:
            # What was taken back is forgotten, so that it is left alone if somebody else sets it.
            patch = {"metadata": {"annotations": {properties.ANNOTATION: wanted}}}
            written = await self._api.patch(Kind.CONFIG_MAP, key.namespace, config_map["metadata"]["name"], patch)
            self._store.put(Kind.CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", **written})
        return None

    async def _look_for_unknown(
        self, key: Key, body: Mapping[str, Any], cluster: Cluster, view: ClusterView, session: Session
    ) -> None:
        """Ask once for each generation whether brokers know what is declared: an unknown property is ignored."""
        generation = cluster.metadata.generation
        if self._unknown.get(key, (0, ""))[0] == generation or not view.alive:
            return
        words = ""
        if cluster.spec.config:
            broker = view.alive[0].id
            known = await session.cluster_lane.call(lambda gateway: gateway.observe_known_properties(broker))
            if isinstance(known, Failure):
                return
            words = properties.unknown(cluster, known)
        if words and words != self._unknown.get(key, (0, ""))[1]:
            self._writer.event(body, "Warning", "UnknownProperty", words)
        self._unknown[key] = generation, words

    async def _say_invalid(self, body: Mapping[str, Any], words: str) -> None:
        before = _status_of(body)
        generation = body["metadata"].get("generation", 1)
        now = utc_now()
        after = with_statements(before, ClusterStatus(), stuck("InvalidResource", words[:4000]), generation, now)
        await self._writer.status(Kind.CLUSTER, body, before, after, NO_FIGURES, now)
        if body["metadata"].get("deletionTimestamp"):
            await self._writer.hold(Kind.CLUSTER, body, False)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _delete(self, key: Key, cluster: Cluster, body: Mapping[str, Any]) -> None:
        """Children go with their owner; volumes only when asked for, and after the pods that use them."""
        await self._close_session(key)
        if FINALIZER not in body["metadata"].get("finalizers", ()):
            return
        for claim in self._care.existing(key).claims if _deletes_volumes(cluster) else ():
            metadata = claim["metadata"]
            await self._api.delete(Kind.VOLUME_CLAIM, key.namespace, metadata["name"], metadata["uid"])
        count = len(self._care.existing(key).claims)
        note = f"{count} {'volume' if count == 1 else 'volumes'} deleted (storage.deletionPolicy Delete)"
        self._writer.event(body, "Normal", "Deleted", note)
        await self._writer.hold(Kind.CLUSTER, body, False)


def read_cluster(body: Mapping[str, Any]) -> Cluster:
    """The model of a Cluster as the API server holds it."""
    resource = parse(known_fields(body), f"Cluster {Key.of(body)}")
    assert isinstance(resource, Cluster)
    return resource


def bootstrap_servers(cluster: Cluster) -> tuple[str, ...]:
    """host:port by which the operator and clients inside Kubernetes reach the cluster."""
    if cluster.spec.external is not None:
        return tuple(cluster.spec.external.bootstrap_servers)
    listener = cluster.listeners()[0]
    return (f"{cluster.metadata.name}-bootstrap.{cluster.metadata.namespace}.svc:{listener.port}",)


def is_marked_ready(status: ClusterStatus) -> bool:
    """Whether a status says Ready."""
    condition = status.condition("Ready")
    return condition is not None and condition.status == "True"


def _not_built(cluster: Cluster) -> str:
    """What the Cluster asks for and nobody has built yet; empty when there is nothing."""
    doors = [f"{door.name} ({door.type})" for door in cluster.listeners() if door.type is not ListenerType.INTERNAL]
    return f"listeners that are reached from outside are not built yet: {', '.join(doors)}" if doors else ""


def _instead(lost: str, failure: Failure | None, refusal: str) -> list[Statement]:
    """What is said although brokers may take requests; nothing when there is nothing of the kind."""
    if lost:
        return stuck(Reason.QUORUM_LOST, lost)
    if failure is not None:
        return waiting(failure.reason, failure.message) if failure.retriable else _refused(failure)
    return stuck(Reason.NOT_SUPPORTED, refusal) if refusal else []


def _refused(failure: Failure) -> list[Statement]:
    return stuck("InvalidConfig" if failure.reason == "InvalidRequest" else failure.reason, failure.message)


def _replicas(cluster: Cluster) -> int:
    return cluster.spec.brokers.replicas if cluster.spec.brokers else 0


def _deletes_volumes(cluster: Cluster) -> bool:
    brokers = cluster.spec.brokers
    return bool(brokers and brokers.storage and brokers.storage.deletion_policy is DeletionPolicy.DELETE)


def _addresses(cluster: Cluster) -> dict[str, Any]:
    if cluster.spec.brokers is None:
        return {}
    selector = f"app.kubernetes.io/name=broadsheet,{CLUSTER_LABEL}={cluster.metadata.name}"
    return {"bootstrap_servers": ",".join(bootstrap_servers(cluster)), "selector": selector}


def _status_of(body: Mapping[str, Any]) -> ClusterStatus | None:
    try:
        return ClusterStatus.model_validate(body["status"]) if body.get("status") else None
    except ValidationError:
        return None


def _contains(have: Any, wanted: Any) -> bool:
    """Whether everything we would apply is there already. Lists must agree item by item."""
    if isinstance(wanted, Mapping):
        return isinstance(have, Mapping) and all(key in have and _contains(have[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        same = isinstance(have, list) and len(have) == len(wanted)
        return same and all(_contains(a, b) for a, b in zip(have, wanted, strict=True))
    return bool(have == wanted)
