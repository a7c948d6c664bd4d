"""Carries out the rounds for a Cluster's brokers: asks them, gives votes, drains, balances, restarts one by one.

What is to be done is decided in `reconcilers.broker_round`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import methodcaller
from typing import Any

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.attempts import Attempts
from broadsheet_operator.handlers.counts import Counts
from broadsheet_operator.handlers.store import KubernetesStore
from broadsheet_operator.handlers.writing import Writer
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kubernetes import Kind, Kubernetes
from broadsheet_operator.reconcilers import (
    canary_topic,
    carried_out,
    exchange_state,
    exchange_steps,
    limits,
    provisioning,
    scaling,
)
from broadsheet_operator.reconcilers.broker_round import Children, Plan, rebalance_to_do
from broadsheet_operator.reconcilers.exchange import Stored
from broadsheet_operator.reconcilers.limits import LimitStep
from broadsheet_operator.reconcilers.observed import ClusterHealth, Failure, QuorumView, Storage, TopicView
from broadsheet_operator.reconcilers.pods import pod_number
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, Existing
from broadsheet_operator.reconcilers.rollout import Step
from broadsheet_operator.reconcilers.scaling import ScalingStep
from broadsheet_operator.reconcilers.seen import Seen
from broadsheet_operator.reconcilers.spreading import internal_factor
from broadsheet_operator.reconcilers.windows import allows

CANARY_TOPIC_SECONDS = 5.0
"""How often the canary's topic is looked at."""
STORED_SECONDS, STORED_LATER_SECONDS = 5.0, 15.0
"""How often brokers are asked what they have stored, while another engine may be started and while it may not yet."""


class BrokerRounds:
    """Looks, asks, and carries out what `reconcilers.broker_round` has planned."""

    def __init__(
        self, api: Kubernetes, store: KubernetesStore, writer: Writer, sizes_seconds: float, counts: Counts
    ) -> None:
        self._api = api
        self._store = store
        self._writer = writer
        self._sizes_seconds = sizes_seconds
        self._counts = counts
        self._storage: dict[ResourceKey, tuple[datetime, frozenset[int], Mapping[int, Storage]]] = {}
        """When which brokers were asked how much they keep, and what they said."""
        self._canary_topics: dict[ResourceKey, tuple[datetime, str, TopicView | Failure | None]] = {}
        self.evictable: dict[ResourceKey, int] = {}
        """How many brokers Kubernetes may evict now, as the last round had it."""
        self._exchanges: dict[ResourceKey, str] = {}
        """What an exchange of the engine waited for in the last round: an event reports it once."""
        self._stored: dict[ResourceKey, tuple[datetime, int, Stored | Failure]] = {}
        """What brokers have stored, for an exchange of the engine; when, and for which generation, they were asked."""
        self._told: dict[ResourceKey, str] = {}
        """What was waited for in the last round: an event reports it once."""

    def forget(self, key: ResourceKey) -> None:
        """The Cluster is gone."""
        for known in (self._storage, self._canary_topics, self.evictable, self._told, self._exchanges, self._stored):
            known.pop(key, None)

    def storage(self) -> dict[ResourceKey, Mapping[int, Storage]]:
        """By Cluster and broker, what is kept and where, as it was when last asked for."""
        return {key: storage for key, (_, _, storage) in list(self._storage.items())}

    # -- what is there -------------------------------------------------------------------------------------------------

    def children(self, key: ResourceKey) -> Children:
        """What Kubernetes has of a Cluster now, as the watches have reported it."""
        claims = tuple(
            claim
            for at, claim in self._store.list(Kind.VOLUME_CLAIM)
            if at.namespace == key.namespace and claim["metadata"].get("labels", {}).get(CLUSTER_LABEL) == key.name
        )
        pods: dict[int, Mapping[str, Any]] = {}
        for at, pod in self._store.list(Kind.POD):
            labels = pod["metadata"].get("labels", {})
            number = pod_number(key.name, at.name)
            if at.namespace == key.namespace and labels.get(CLUSTER_LABEL) == key.name and number is not None:
                pods[number] = pod
        brokers = ResourceKey(key.namespace, f"{key.name}-brokers")
        existing = Existing(
            self._store.get(Kind.STATEFUL_SET, brokers),
            claims,
            self._store.get(Kind.CONFIG_MAP, ResourceKey(key.namespace, f"{key.name}-config")),
        )
        return Children(existing, pods, self._store.get(Kind.DISRUPTION_BUDGET, brokers))

    def questions(
        self, key: ResourceKey, cluster: Cluster, wanted: int, children: Children, now: datetime
    ) -> Callable[[KafkaGateway], Seen]:
        """What is to be asked of the brokers this time. Only what costs little is asked each time."""
        ours = cluster.spec.brokers is not None and children.existing.stateful_set is not None
        running, draining, limited = children.running, children.draining, children.limited
        asked_for = bool(rebalance_to_do(cluster, children))
        exchanged = exchange_state.situation_of(cluster, children.existing.stateful_set).differs
        soon = exchanged and allows(cluster.spec.maintenance_windows or (), now)[0]
        fresh = self._storage.get(key)
        if fresh is not None and (now - fresh[0]).total_seconds() >= self._sizes_seconds:
            fresh = None

        def ask(gateway: KafkaGateway) -> Seen:
            view = gateway.observe_cluster()
            if isinstance(view, Failure):
                return Seen(view)
            canary = self._canary_topic(key, cluster, gateway, now)
            health = gateway.observe_health()
            ids = frozenset(b.id for b in view.brokers)
            if fresh is not None and fresh[1] == ids:
                storage = fresh[2]
            else:
                storage = gateway.observe_storage(sorted(ids))
                self._storage[key] = now, ids, storage
            sizes = {id: kept.size for id, kept in storage.items()}
            if not ours:
                return Seen(view, health, sizes=sizes, canary=canary)
            voters = gateway.observe_quorum()
            features = gateway.observe_features(sorted(ids)) if cluster.spec.engine is not None else None
            moves = wanted < running or draining is not None or asked_for or any(b.id >= wanted for b in view.brokers)
            moves = moves or bool(limited.topics) or soon
            if isinstance(health, ClusterHealth) and health.internal_factor is not None:
                moves = moves or health.internal_factor < internal_factor(wanted)
            placement = gateway.observe_placement() if moves and not isinstance(health, Failure) else None
            if cluster.spec.canary is not None and isinstance(placement, tuple):
                placement = canary_topic.as_internal(cluster.spec.canary.topic, placement)
            stored = self._what_is_stored(key, cluster, gateway, now, soon=soon) if exchanged else None
            return Seen(view, health, voters, features, placement, sizes=sizes, canary=canary, stored=stored)

        return ask

    def _what_is_stored(
        self, key: ResourceKey, cluster: Cluster, gateway: KafkaGateway, now: datetime, *, soon: bool
    ) -> Stored | Failure:
        """What another engine would have to take over, not older than a few seconds if it may start now."""
        generation, oldest = cluster.metadata.generation, STORED_SECONDS if soon else STORED_LATER_SECONDS
        known = self._stored.get(key)
        if known is None or known[1] != generation or (now - known[0]).total_seconds() >= oldest:
            known = self._stored[key] = now, generation, gateway.observe_stored()
        return known[2]

    def canary_topic_changed(self, key: ResourceKey) -> None:
        """What was seen of it is old."""
        self._canary_topics.pop(key, None)

    def _canary_topic(
        self, key: ResourceKey, cluster: Cluster, gateway: KafkaGateway, now: datetime
    ) -> TopicView | Failure | None:
        """The canary's topic, not older than a few seconds."""
        if cluster.spec.canary is None:
            return None
        name = cluster.spec.canary.topic
        known = self._canary_topics.get(key)
        if known is None or known[1] != name or (now - known[0]).total_seconds() >= CANARY_TOPIC_SECONDS:
            known = self._canary_topics[key] = now, name, gateway.observe_topics([name])[name]
        return known[2]

    # -- what is done --------------------------------------------------------------------------------------------------

    async def mark_as_formed(
        self, key: ResourceKey, engine: str, children: Children, seen: Seen, attempts: Attempts
    ) -> None:
        """From the first sight of a quorum on no broker may begin another one, and volumes say whose they are."""
        if not isinstance(seen.quorum, QuorumView) or seen.quorum.high_watermark <= 0:
            return
        for item, marks in provisioning.to_mark(children.existing, engine):
            kind = Kind.CONFIG_MAP if item is children.existing.config_map else Kind.VOLUME_CLAIM
            name, patch = item["metadata"]["name"], {"metadata": {"annotations": marks}}
            await attempts.of(f"mark {kind.kind} {name}", partial(self._patch, kind, key.namespace, name, patch))

    async def remember_as_carried_out(self, key: ResourceKey, declared: Cluster) -> None:
        """The brokers are as declared: a pause that follows leaves the Cluster Ready."""
        await self._annotate(key, carried_out.ANNOTATION, carried_out.text(declared.spec))

    async def carry_out(
        self, key: ResourceKey, body: Mapping[str, Any], plan: Plan, call: Any, attempts: Attempts
    ) -> Failure | None:
        """Do what was planned; `call(function)` runs it on the gateway. The first thing that did not work in Kafka."""
        failures: list[Failure] = []
        await attempts.of("exchange the engine", partial(self._exchange, key, body, plan.exchange))
        step = plan.scaling
        if not step.cancel:
            draining = None if step.draining is None else str(step.draining)
            await attempts.of("remember the drain", partial(self._annotate, key, scaling.DRAINING, draining))
        if step.rebalancing:
            begin = partial(self._annotate, key, scaling.REBALANCING, plan.rebalance)
            await attempts.of("remember the rebalance", begin)
        if plan.limit is not None:
            move = partial(self._move, key, step, plan.limit, call)
            failures += filter(None, [await attempts.of("remember what moves", move)])
        failures += await self._change_members(body, plan, call)
        if step.shrink:
            patch = {"spec": {"replicas": step.draining}}
            await attempts.of("shrink", partial(self._shrink, key, body, patch, step.words))
        if step.rebalanced:
            await attempts.of("end the rebalance", partial(self._rebalanced, key, body, plan.rebalance))
        if plan.evictable is not None:
            self.evictable[key] = plan.evictable
        await attempts.of("restart", partial(self._restart, key, body, plan.rolling))
        return failures[0] if failures else None

    async def _change_members(self, body: Mapping[str, Any], plan: Plan, call: Any) -> list[Failure]:
        """The next change of voters and of features, and brokers that have left."""
        deeds: list[tuple[Callable[[KafkaGateway], Failure | None], str, str]] = []  # what, its event, its words
        voters, levels = plan.voting.change, plan.features.change
        if voters is not None:
            deeds.append((lambda gateway: gateway.change_voters(voters), "QuorumChanged", voters.words()))
        if levels is not None:
            deeds.append((lambda gateway: gateway.update_features(levels), "FeaturesFinalized", levels.words()))
        for broker in plan.scaling.forget:
            words = f"broker {broker} has left the cluster"
            deeds.append((methodcaller("unregister_broker", broker), "BrokerLeft", words))
        failures: list[Failure] = []
        for deed, reason, words in deeds:
            failed = await call(deed)
            if failed is None:
                self._writer.event(body, "Normal", reason, words)
            else:
                failures.append(failed)
        return failures

    async def _shrink(self, key: ResourceKey, body: Mapping[str, Any], patch: Mapping[str, Any], words: str) -> None:
        await self._patch_stateful_set(key, patch)
        self._writer.event(body, "Normal", "ScaledDown", words)

    async def _exchange(self, key: ResourceKey, body: Mapping[str, Any], step: exchange_steps.Step) -> None:
        """Carry an exchange of the engine one step on."""
        asked = step.situation.phase is exchange_state.Phase.ASKED  # afterwards each pod that goes or comes is a change
        waits = step.words if step.patch is None and asked else ""
        if waits and self._exchanges.get(key) != waits:
            self._writer.event(body, "Normal", "ExchangeWaits", waits)
        self._exchanges[key] = waits
        if step.patch is None or (step.when_empty and await self._has_pods(key)):
            return
        await self._patch_stateful_set(key, step.patch)
        if step.event is not None:
            self._writer.event(body, "Normal", *step.event)

    async def _has_pods(self, key: ResourceKey) -> bool:
        """Whether any broker has a pod. Asked of the API server: what no watch has reported yet counts."""
        pods = await self._api.list(Kind.POD, key.namespace, f"{CLUSTER_LABEL}={key.name}")
        return any(pod_number(key.name, pod["metadata"]["name"]) is not None for pod in pods)

    async def _rebalanced(self, key: ResourceKey, body: Mapping[str, Any], value: str) -> None:
        patch = {"metadata": {"annotations": {scaling.REBALANCED: value, scaling.REBALANCING: None}}}
        await self._patch_stateful_set(key, patch)
        self._writer.event(body, "Normal", "Rebalanced", "partitions are spread evenly over the brokers")

    async def _move(self, key: ResourceKey, step: ScalingStep, limit: LimitStep, call: Any) -> Failure | None:
        """Begin moves under their limit, and lift it from what has moved. It is remembered as long as it may be set."""
        failure: Failure | None = None
        await self._annotate(key, limits.LIMITED, limit.before.text())
        if limit.throttle:
            failure = _first(await call(lambda gateway: gateway.apply_topics(limit.throttle)))
        if (step.moves and failure is None) or step.cancel:
            moves = step.moves if failure is None else {}
            failure = await call(lambda gateway: gateway.move_replicas(moves, step.cancel)) or failure
        if limit.release:
            failure = _first(await call(lambda gateway: gateway.apply_topics(limit.release))) or failure
        if failure is None:
            await self._annotate(key, limits.LIMITED, limit.after.text())
        return failure

    async def _restart(self, key: ResourceKey, body: Mapping[str, Any], step: Step) -> None:
        pod = step.restart
        if pod is not None and await self._api.delete(Kind.POD, key.namespace, pod.name, pod.uid):
            reason = pod.outdated or "ManualRollingUpdate"
            self._counts.restarts[key, reason] += 1
            self._writer.event(body, "Normal", reason, step.words)
        if step.blocked and self._told.get(key) != step.words:
            self._writer.event(body, "Normal", "RolloutWaits", step.words)
        if step.blocked or not step.words:
            self._told[key] = step.words

    async def _annotate(self, key: ResourceKey, annotation: str, value: str | None) -> None:
        """Have the StatefulSet remember something; None: forget it."""
        stateful_set = self._store.get(Kind.STATEFUL_SET, ResourceKey(key.namespace, f"{key.name}-brokers"))
        if stateful_set is not None and stateful_set["metadata"].get("annotations", {}).get(annotation) != value:
            await self._patch_stateful_set(key, {"metadata": {"annotations": {annotation: value}}})

    async def _patch_stateful_set(self, key: ResourceKey, patch: Mapping[str, Any]) -> None:
        await self._patch(Kind.STATEFUL_SET, key.namespace, f"{key.name}-brokers", patch)

    async def _patch(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        written = await self._api.patch(kind, namespace, name, patch)
        self._store.put(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **written})


def _first(failures: Sequence[Failure | None]) -> Failure | None:
    return next((failure for failure in failures if failure is not None), None)
