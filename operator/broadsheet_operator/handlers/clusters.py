"""Clusters: children applied, volumes grown, pods restarted one by one, configuration altered live, status written."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import ValidationError

from broadsheet_operator.api.cluster import Cluster, ClusterStatus
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.manifests import ManifestError
from broadsheet_operator.handlers.attempts import Attempts, RefusedBefore
from broadsheet_operator.handlers.brokers import BrokerRounds
from broadsheet_operator.handlers.canaries import Canaries
from broadsheet_operator.handlers.cluster_body import (
    addresses,
    bootstrap_servers,
    broker_replicas,
    deletes_volumes,
    is_marked_ready,
    not_carried_out,
    read_cluster,
    status_of,
    waits_for_the_end_of_its_pause,
)
from broadsheet_operator.handlers.counts import ClusterFigures, Counts
from broadsheet_operator.handlers.dependents import utc_now
from broadsheet_operator.handlers.ownership import Elsewhere, Ownership, owner_of
from broadsheet_operator.handlers.session import Session
from broadsheet_operator.handlers.store import KubernetesStore, contains
from broadsheet_operator.handlers.writing import FINALIZER, Writer
from broadsheet_operator.kubernetes import Kind, Kubernetes, KubernetesError
from broadsheet_operator.reconcilers import (
    engine_change,
    exchange_state,
    exchange_steps,
    properties,
    provisioning,
)
from broadsheet_operator.reconcilers.broker_round import Children, Plan, plan_round
from broadsheet_operator.reconcilers.cluster import Remarks, cluster_status, overriding_statements
from broadsheet_operator.reconcilers.conditions import (
    NO_FIGURES,
    Figures,
    stuck,
    with_statements,
)
from broadsheet_operator.reconcilers.exchange_state import Phase
from broadsheet_operator.reconcilers.lost_volumes import lost_quorum
from broadsheet_operator.reconcilers.observed import ClusterView, Failure, QuorumView, Storage
from broadsheet_operator.reconcilers.pods import Returning, not_created, state_of
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, Settings
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.seen import Seen
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

logger = logging.getLogger(__name__)

FIGURES = Figures({"topics": True, "brokers": {"__all__": {"bytes"}}}, quiet_seconds=300.0)
"""How much brokers keep changes with every record: the exact figure is in /metrics, the status has one of late."""
SessionFor = Callable[[ResourceKey, tuple[str, ...]], Awaitable[Session]]


class Clusters:
    """What is done for Cluster resources."""

    def __init__(
        self,
        api: Kubernetes,
        store: KubernetesStore,
        writer: Writer,
        defaults: Settings,
        session_for: SessionFor,
        close_session: Callable[[ResourceKey], Awaitable[None]],
        route_dependents: Callable[[ResourceKey], None],
        ownership: Ownership,
        settings: OperatorSettings = DEFAULTS,
        counts: Counts | None = None,
    ) -> None:
        self._api = api
        self._store = store
        self._writer = writer
        self._defaults = defaults
        self._settings = settings
        self._session_for = session_for
        self._close_session = close_session
        self._route_dependents = route_dependents
        self._ownership = ownership
        self._standing_by: dict[ResourceKey, str] = {}
        """What was said of Clusters that another operator looks after: an event reports it once."""
        self._counts = counts or Counts()
        self._rounds = BrokerRounds(api, store, writer, settings.cluster_sizes_seconds, self._counts)
        self._canaries = Canaries(api, store, writer, defaults.canary_image)
        self.figures: dict[ResourceKey, ClusterFigures] = {}
        """What the last round of each Cluster found, for /metrics."""
        self._returning: dict[ResourceKey, Returning] = {}
        self._refused: dict[ResourceKey, RefusedBefore] = {}
        """What the API server has refused, so that it is not asked again each second."""
        self._applied: dict[ResourceKey, dict[tuple[Kind, ResourceKey], tuple[str, int | None]]] = {}
        """Children as they were last applied, and their generation then."""
        self._pod_seen: dict[ResourceKey, dict[int, datetime]] = {}
        """When each broker last had a pod: an event from before is not why it has none now."""
        self._looked_at: set[ResourceKey] = set()
        """Clusters whose children were read, and not only waited for from the watches."""
        self._tried: set[ResourceKey] = set()
        """Clusters that had a round, whatever became of it."""
        self._unknown: dict[ResourceKey, tuple[int, str]] = {}
        """The generation whose properties were checked, and the message about those that no broker knows."""

    def storage(self) -> dict[ResourceKey, Mapping[int, Storage]]:
        """By Cluster and broker, what is kept and where: exact figures for /metrics."""
        return self._rounds.storage()

    def is_reachable(self, key: ResourceKey) -> bool:
        """Whether a Cluster answered in its last round."""
        figures = self.figures.get(key)
        return figures is not None and figures.reachable

    def was_tried(self, key: ResourceKey) -> bool:
        """Whether this operator had a round for a Cluster: before that it does not know whether it can be talked to."""
        return key in self._tried

    async def reconcile(self, batch: list[ResourceKey]) -> Mapping[ResourceKey, float | None]:
        """A round for these Clusters."""
        again: dict[ResourceKey, float | None] = {}
        for key in batch:
            began, failed = time.monotonic(), True
            try:
                delay = await self._one(key)
                failed = delay is None
            except KubernetesError as error:
                logger.warning("Cluster %s: %s", key, error)
                delay = None
            finally:
                self._counts.reconciled(Kind.CLUSTER.kind, time.monotonic() - began, failed=failed)
                self._first_round_is_over(key)
            if delay is None or delay > 0:
                again[key] = delay
        return again

    def _first_round_is_over(self, key: ResourceKey) -> None:
        if key not in self._tried and self._store.get(Kind.CLUSTER, key) is not None:
            self._tried.add(key)
            self._route_dependents(key)

    async def _one(self, key: ResourceKey) -> float | None:
        body = self._store.get(Kind.CLUSTER, key)
        if body is None:
            await self._forget(key)
            return 0.0
        was_ours, before = self._ownership.is_ours(body), owner_of(body)
        try:
            body, other = await self._ownership.claim(body)
        except KubernetesError as error:
            if error.retriable:
                raise
            await self._say_invalid(body, f"the API server refuses to have the Cluster annotated: {error.message}")
            return self._settings.held_seconds
        if other is not None:
            return await self._stand_by(key, body, other)
        if not was_ours:
            self._say_taken_over(key, body, before)
            self._store.put(Kind.CLUSTER, body)
            self._route_dependents(key)
        try:
            cluster = read_cluster(body)
        except (ManifestError, ValidationError) as error:
            await self._say_invalid(body, str(error))
            return 0.0
        await self._look_at_children(key)
        if cluster.metadata.deletion_timestamp:
            await self._delete(key, cluster, body)
            return 0.0
        attempts = Attempts(self._refused.setdefault(key, RefusedBefore(self._settings.cluster_ready_seconds)))
        hold = partial(self._writer.hold, Kind.CLUSTER, body, deletes_volumes(cluster))
        await attempts.of("the Cluster's finalizer", hold)
        children = self._rounds.children(key)
        declared = cluster
        cluster, kept = provisioning.held_back(cluster, children.existing)
        keeps_engine = ""
        if cluster.spec.brokers is not None and not cluster.spec.paused:
            keeps_engine = await self._keeps_engine(key, cluster, children)
            await self._provision(key, cluster, children, attempts, held=bool(keeps_engine))
        if not cluster.spec.paused:
            apply = partial(self._apply, key, attempts)
            await self._canaries.provision(key, cluster, bootstrap_servers(cluster), apply)
        delay = await self._report(key, body, cluster, declared, kept, keeps_engine, attempts)
        attempts.conclude()
        for problem in attempts.failed:
            logger.warning("Cluster %s: %s", key, problem)
        return None if attempts.failed else delay

    def _say_taken_over(self, key: ResourceKey, body: Mapping[str, Any], before: str) -> None:
        self._standing_by.pop(key, None)
        if before:
            now = f"the operator with the Lease {self._ownership.lease} looks after this Cluster now"
            words = f"{now}; before it was the one with the Lease {before}, which nobody holds"
            self._writer.event(body, "Normal", "TakenOver", words)

    async def _stand_by(self, key: ResourceKey, body: Mapping[str, Any], other: Elsewhere) -> float:
        """Leave a Cluster to another operator. Seconds until it is looked at again."""
        words = other.words
        await self._close_session(key)
        self._forget_figures(key)
        if self._standing_by.get(key) != words:
            severity, reason = ("Warning", "AnotherOperator") if other.held else ("Normal", "OperatorGone")
            self._writer.event(body, severity, reason, words)
        self._standing_by[key] = words
        return self._settings.held_seconds

    async def _forget(self, key: ResourceKey) -> None:
        self._writer.forget(Kind.CLUSTER, key)
        self._looked_at.discard(key)
        self._tried.discard(key)
        for known in (self._unknown, self._refused, self._applied, self._pod_seen, self._standing_by):
            known.pop(key, None)
        self._forget_figures(key)
        self._counts.forget(key)
        self._rounds.forget(key)
        self._canaries.forget(key)
        await self._close_session(key)

    def _forget_figures(self, key: ResourceKey) -> None:
        self.figures.pop(key, None)
        self._returning.pop(key, None)

    # -- what is made -------------------------------------------------------------------------------------------------

    async def _look_at_children(self, key: ResourceKey) -> None:
        """Once for each Cluster: its own watch may report it before the others report the children that it has.

        A StatefulSet that is taken for absent would be rendered from scratch, and brokers would restart.
        """
        if key in self._looked_at:
            return
        for kind in (Kind.STATEFUL_SET, Kind.CONFIG_MAP, Kind.VOLUME_CLAIM, Kind.POD, Kind.DEPLOYMENT):
            for child in await self._api.list(kind, key.namespace, f"{CLUSTER_LABEL}={key.name}"):
                self._store.put(kind, child)
        self._looked_at.add(key)

    async def _keeps_engine(self, key: ResourceKey, cluster: Cluster, children: Children) -> str:
        """Why the brokers keep the engine that they have; empty when they get the one that is declared."""
        stateful_set, features = children.existing.stateful_set, None
        if engine_change.needs_levels(cluster, stateful_set):
            session = await self._session_for(key, bootstrap_servers(cluster))
            features = await session.cluster_lane.call(lambda g: g.observe_features(range(children.running)))
        of_another = exchange_state.volumes_of_another(cluster, stateful_set, children.existing.claims)
        return of_another or engine_change.refusal(cluster, stateful_set, features)

    async def _provision(
        self, key: ResourceKey, cluster: Cluster, children: Children, attempts: Attempts, *, held: bool
    ) -> None:
        """Apply every child that is not as it should be, and grow volumes; what is refused stops nothing else."""
        assert cluster.spec.brokers is not None
        evictable = self._evictable(key, cluster, children)
        situation = exchange_state.situation_of(cluster, children.existing.stateful_set)
        as_it_runs = exchange_state.held(cluster, situation)
        rendered = provisioning.children(as_it_runs, children.existing, self._defaults, evictable, held=held)
        template = engine_change.running_engine(children.existing.stateful_set)
        keeps = str(template.type) if held and template is not None else ""
        for child in exchange_state.to_apply(rendered, situation, children.existing.kinds, keeps=keeps):
            await self._apply(key, attempts, child)
        for claim, size in provisioning.claims_to_grow(cluster.spec.brokers, children.existing.claims):
            patch = {"spec": {"resources": {"requests": {"storage": size}}}}
            grow = partial(self._api.patch, Kind.VOLUME_CLAIM, key.namespace, claim, patch)
            await attempts.of(f"PersistentVolumeClaim {claim} cannot grow to {size}", grow, size)

    async def _apply(self, key: ResourceKey, attempts: Attempts, child: dict[str, Any]) -> None:
        kind = Kind.of(child)
        name, wanted = ResourceKey.of(child), json.dumps(child, sort_keys=True)
        have = self._store.get(kind, name)
        if have is not None and (contains(have, child) or self._was_applied(kind, name, have, child, wanted)):
            return
        written = await attempts.of(f"{kind.kind} {name.name}", partial(self._api.apply, child), wanted)
        if written is not None:
            self._store.put(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **written})
            self._applied.setdefault(key, {})[kind, name] = wanted, written["metadata"].get("generation")

    def _was_applied(
        self, kind: Kind, name: ResourceKey, have: Mapping[str, Any], child: Mapping[str, Any], wanted: str
    ) -> bool:
        """Whether this very child was applied and not changed since: the API server writes quantities its own way."""
        cluster = ResourceKey(name.namespace, have["metadata"].get("labels", {}).get(CLUSTER_LABEL, ""))
        known = self._applied.get(cluster, {}).get((kind, name))
        generation = have["metadata"].get("generation")
        same = generation is not None and known == (wanted, generation)  # without one no change would be seen
        return same and contains(have["metadata"], child["metadata"])

    def _evictable(self, key: ResourceKey, cluster: Cluster, children: Children) -> int | None:
        """Brokers that may be evicted now; what the budget says already until a first round has looked."""
        known = self._rounds.evictable.get(key)
        if known is None and children.budget is not None and broker_replicas(cluster) > 1:
            return int(children.budget["spec"]["maxUnavailable"])
        return known

    # -- what is said -------------------------------------------------------------------------------------------------

    async def _report(
        self,
        key: ResourceKey,
        body: Mapping[str, Any],
        cluster: Cluster,
        declared: Cluster,
        kept: str,
        keeps_engine: str,
        attempts: Attempts,
    ) -> float:
        """Ask the brokers, do the next step, say how things are. `declared`: with as many brokers as are asked for;
        `kept`: why there are not that many; `keeps_engine`: why brokers keep what they run. Seconds until the Cluster
        is looked at again."""
        now = utc_now()
        children = self._rounds.children(key)
        situation = exchange_state.situation_of(cluster, children.existing.stateful_set)
        stops = situation.phase is Phase.STOPPING
        why_not = await self._not_created(key, children, 0 if stops else broker_replicas(cluster), now, attempts)
        states = [
            state_of(index, children.pods.get(index), cluster, now, why_not.get(index, ""), stopped=stops)
            for index in range(broker_replicas(cluster))
        ]
        seen, failure, call = Seen(), None, None
        wanted = broker_replicas(cluster) if kept or situation.phase else broker_replicas(declared)
        serving = any(state.state == "Running" for state in states) and not stops
        if cluster.spec.external is not None or serving:
            session = await self._session_for(key, bootstrap_servers(cluster))
            call = session.cluster_lane.call
            seen = await call(self._rounds.questions(key, cluster, wanted, children, now))
            if cluster.spec.brokers is not None and not cluster.spec.paused and isinstance(seen.view, ClusterView):
                if not situation.holds:  # what is declared is for the other engine
                    alter = partial(self._alter_live, key, body, cluster, children, session)
                    failure = await attempts.of("remember properties", alter)
                    await self._look_for_unknown(key, body, cluster, seen.view, session)
                await self._rounds.mark_as_formed(key, situation.runs, children, seen, attempts)
            plan = plan_round(cluster, wanted, children, seen, now, states)
            failure = await self._rounds.carry_out(key, body, plan, call, attempts) or failure
            if await self._canaries.keep_topic(key, declared, children, seen, plan, call, now):
                self._rounds.canary_topic_changed(key)
        else:
            plan = plan_round(cluster, broker_replicas(cluster), children, seen, now, states)
            await self._rounds.carry_out(key, body, plan, None, attempts)
        if plan.exchange.patch is not None:
            self._route_dependents(key)  # what is said of them depends on whether the brokers are stopped
        if cluster.spec.canary is None and not cluster.spec.paused:
            await self._canaries.remove(key, body, call, attempts)
        returning = self._returning.setdefault(key, Returning()).look(states, now)
        self.figures[key] = ClusterFigures(
            isinstance(seen.view, ClusterView),
            returning or plan.planned_absence,
            seen.view.alive if isinstance(seen.view, ClusterView) else (),
        )
        lost = "" if isinstance(seen.quorum, QuorumView) else lost_quorum(cluster, self._rounds.children(key).existing)
        refusal = keeps_engine or kept or plan.exchange.refusal or plan.scaling.refusal or plan.features.refusal
        away = exchange_steps.is_interrupted(plan.exchange, now)
        refused = [*attempts.refused, *(f"broker {index}: {words}" for index, words in sorted(why_not.items()))]
        remarks = Remarks(
            instead=overriding_statements(lost, failure, refusal, refused, attempts.troubles),
            remark=self._unknown.get(key, (0, ""))[1],
            engine=situation.runs,
            exchange=plan.exchange.words,
            interrupted=away,
            rollout=plan.rolling_words,
            scaling=plan.scaling_words,
            not_done=plan.exchange.words if declared.spec.paused and away else not_carried_out(declared, children),
            held=plan.held,
            also=await self._canaries.statements(key, cluster, now, plan.exchange.words if away else ""),
        )
        status = cluster_status(cluster, states, seen, now, remarks).model_copy(update=addresses(cluster))
        write = partial(self._writer.status, Kind.CLUSTER, body, cluster.status, status, FIGURES, now)
        await attempts.of("the Cluster's status", write)
        if is_marked_ready(status) and plan.settled and not cluster.spec.paused:
            remember = partial(self._rounds.remember_as_carried_out, key, declared)
            await attempts.of("remember what is carried out", remember)
        return self._when_again(key, cluster, status, plan)

    def _when_again(self, key: ResourceKey, cluster: Cluster, status: ClusterStatus, plan: Plan) -> float:
        ready = is_marked_ready(status)
        if ready and not (cluster.status and is_marked_ready(cluster.status)):
            self._route_dependents(key)
        settled = (ready or waits_for_the_end_of_its_pause(status)) and plan.settled
        return self._settings.cluster_ready_seconds if settled else self._settings.cluster_unready_seconds

    async def _not_created(
        self, key: ResourceKey, children: Children, replicas: int, now: datetime, attempts: Attempts
    ) -> Mapping[int, str]:
        """Why brokers have no pod, in Kubernetes' words: its StatefulSet controller reports that only in events."""
        last_seen = self._pod_seen.setdefault(key, {})
        last_seen |= dict.fromkeys(children.pods, now)
        if children.existing.stateful_set is None or len(children.pods) >= replicas:
            return {}
        name = f"{key.name}-brokers"
        fields = f"involvedObject.kind=StatefulSet,involvedObject.name={name},reason=FailedCreate"
        look = partial(self._api.list, Kind.CORE_EVENT, key.namespace, fields=fields)
        events = await attempts.of("events of the StatefulSet", look)
        found = not_created(key.name, events or [], last_seen, now)
        return {index: words for index, words in found.items() if index < replicas and index not in children.pods}

    async def _alter_live(
        self, key: ResourceKey, body: Mapping[str, Any], cluster: Cluster, children: Children, session: Session
    ) -> Failure | None:
        """Bring the properties that need no restart to what is declared. The failure, if the cluster refuses."""
        config_map = children.existing.config_map
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
            # A property that is no longer declared is forgotten, so that it is left alone if another tool sets it.
            patch = {"metadata": {"annotations": {properties.ANNOTATION: wanted}}}
            written = await self._api.patch(Kind.CONFIG_MAP, key.namespace, config_map["metadata"]["name"], patch)
            self._store.put(Kind.CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", **written})
        return None

    async def _look_for_unknown(
        self, key: ResourceKey, body: Mapping[str, Any], cluster: Cluster, view: ClusterView, session: Session
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
        before = status_of(body)
        generation = body["metadata"].get("generation", 1)
        now = utc_now()
        after = with_statements(before, ClusterStatus(), stuck(Reason.INVALID_RESOURCE, words[:4000]), generation, now)
        await self._writer.status(Kind.CLUSTER, body, before, after, NO_FIGURES, now)
        if body["metadata"].get("deletionTimestamp"):
            await self._writer.hold(Kind.CLUSTER, body, False)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _delete(self, key: ResourceKey, cluster: Cluster, body: Mapping[str, Any]) -> None:
        """Children go with their owner; volumes only when asked for, and after the pods that use them."""
        await self._close_session(key)
        self._forget_figures(key)
        if FINALIZER not in body["metadata"].get("finalizers", ()):
            return
        for claim in self._rounds.children(key).existing.claims if deletes_volumes(cluster) else ():
            metadata = claim["metadata"]
            await self._api.delete(Kind.VOLUME_CLAIM, key.namespace, metadata["name"], metadata["uid"])
        count = len(self._rounds.children(key).existing.claims)
        note = f"{count} {'volume' if count == 1 else 'volumes'} deleted (storage.deletionPolicy Delete)"
        self._writer.event(body, "Normal", "Deleted", note)
        await self._writer.hold(Kind.CLUSTER, body, False)
