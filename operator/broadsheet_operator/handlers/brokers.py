"""The brokers of a Cluster of ours: looked at, given votes, drained, balanced, restarted one by one.

What is to be done is decided in `reconcilers`; here it is carried out, one step a round, so every round starts from
what is really there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.handlers.store import Key, Store
from broadsheet_operator.handlers.writing import Writer
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kubernetes import Kind, Kubernetes
from broadsheet_operator.reconcilers import limits, provisioning, quorum, rollout, scaling
from broadsheet_operator.reconcilers.limits import Limits, LimitStep
from broadsheet_operator.reconcilers.moves import terms_of
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure, QuorumView
from broadsheet_operator.reconcilers.pods import is_ready, pod_number
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, Existing
from broadsheet_operator.reconcilers.quorum import QuorumStep
from broadsheet_operator.reconcilers.rollout import PodView, Step
from broadsheet_operator.reconcilers.scaling import ScalingStep
from broadsheet_operator.reconcilers.spreading import Placed, internal_factor
from broadsheet_operator.reconcilers.windows import allows


@dataclass(frozen=True, slots=True)
class Seen:
    """What the brokers say of themselves and each other in one round."""

    view: ClusterView | Failure | None = None
    health: ClusterHealth | Failure | None = None
    quorum: QuorumView | Failure | None = None
    placement: tuple[Placed, ...] | Failure | None = None
    """Where everything is; None where nobody needs to know."""
    sizes: Mapping[int, int] = field(default_factory=dict)

    @property
    def broken(self) -> Failure | None:
        """What could not be found out."""
        return next((x for x in (self.view, self.health, self.quorum, self.placement) if isinstance(x, Failure)), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round decided."""

    scaling: ScalingStep = field(default_factory=ScalingStep)
    limit: LimitStep | None = None
    """How fast replicas move; None where nobody knows what moves."""
    voting: QuorumStep = field(default_factory=QuorumStep)
    rolling: Step = field(default_factory=lambda: Step(None, ""))
    evictable: int | None = None

    @property
    def settled(self) -> bool:
        """Nothing is going on and nothing waited for."""
        return not (self.scaling.words or self.voting.words or self.rolling.words)

    @property
    def scaling_words(self) -> str:
        """For the status."""
        limit = self.limit.words if self.limit else ""
        return "; ".join(filter(None, [self.scaling.words, limit, self.voting.words]))


class BrokerCare:
    """`look`, then `plan`, then `carry_out`."""

    def __init__(self, api: Kubernetes, store: Store, writer: Writer, sizes_seconds: float) -> None:
        self._api = api
        self._store = store
        self._writer = writer
        self._sizes_seconds = sizes_seconds
        self._sizes: dict[Key, tuple[datetime, frozenset[int], Mapping[int, int]]] = {}
        """When which brokers were asked how much they keep, and what they said."""
        self.evictable: dict[Key, int] = {}
        """How many brokers Kubernetes may evict now, as the last round had it."""
        self._told: dict[Key, str] = {}
        """What was waited for in the last round: an event tells of it once."""

    def forget(self, key: Key) -> None:
        """The Cluster is gone."""
        for known in (self._sizes, self.evictable, self._told):
            known.pop(key, None)

    def sizes(self) -> dict[Key, Mapping[int, int]]:
        """By Cluster and broker, bytes of all replicas, as they were when last asked for."""
        return {key: sizes for key, (_, _, sizes) in list(self._sizes.items())}

    # -- what is there -------------------------------------------------------------------------------------------------

    def existing(self, key: Key) -> Existing:
        """The Cluster's children that decisions depend on."""
        claims = tuple(
            claim
            for at, claim in self._store.all(Kind.VOLUME_CLAIM)
            if at.namespace == key.namespace and claim["metadata"].get("labels", {}).get(CLUSTER_LABEL) == key.name
        )
        return Existing(
            self._store.get(Kind.STATEFUL_SET, Key(key.namespace, f"{key.name}-brokers")),
            claims,
            self._store.get(Kind.CONFIG_MAP, Key(key.namespace, f"{key.name}-config")),
        )

    def pods(self, key: Key) -> dict[int, Mapping[str, Any]]:
        """The brokers' pods by node id."""
        found: dict[int, Mapping[str, Any]] = {}
        for at, pod in self._store.all(Kind.POD):
            labels = pod["metadata"].get("labels", {})
            number = pod_number(key.name, at.name)
            if at.namespace == key.namespace and labels.get(CLUSTER_LABEL) == key.name and number is not None:
                found[number] = pod
        return found

    def questions(self, key: Key, cluster: Cluster, wanted: int, now: datetime) -> Callable[[KafkaGateway], Seen]:
        """What is to be asked of the brokers this time. Only what costs little is asked each time."""
        existing = self.existing(key)
        stateful_set = existing.stateful_set
        ours = cluster.spec.brokers is not None and stateful_set is not None
        running = int(stateful_set["spec"]["replicas"]) if stateful_set else 0
        draining, limited = _draining(stateful_set), _limited(stateful_set)
        asked_for = _wants_rebalance(cluster)
        fresh = self._sizes.get(key)
        if fresh is not None and (now - fresh[0]).total_seconds() >= self._sizes_seconds:
            fresh = None

        def ask(gateway: KafkaGateway) -> Seen:
            view = gateway.observe_cluster()
            if isinstance(view, Failure):
                return Seen(view)
            health = gateway.observe_health()
            ids = frozenset(b.id for b in view.brokers)
            if fresh is not None and fresh[1] == ids:
                sizes = fresh[2]
            else:
                sizes = gateway.observe_sizes(sorted(ids))
                self._sizes[key] = now, ids, sizes
            if not ours:
                return Seen(view, health, sizes=sizes)
            voters = gateway.observe_quorum()
            moves = wanted < running or draining is not None or asked_for or any(b.id >= wanted for b in view.brokers)
            moves = moves or bool(limited.topics)
            if isinstance(health, ClusterHealth) and health.internal_factor is not None:
                moves = moves or health.internal_factor < internal_factor(wanted)
            placement = gateway.observe_placement() if moves and not isinstance(health, Failure) else None
            return Seen(view, health, voters, placement, sizes)

        return ask

    # -- what is to be done --------------------------------------------------------------------------------------------

    def plan(self, key: Key, cluster: Cluster, wanted: int, seen: Seen, now: datetime) -> Plan:
        """`wanted`: brokers that the Cluster asks for; `cluster` has as many as it may have now."""
        existing = self.existing(key)
        stateful_set = existing.stateful_set
        if stateful_set is None or cluster.spec.brokers is None:
            return Plan()
        # Whoever cannot look now must not forget that a drain was begun.
        scale = ScalingStep(draining=_draining(stateful_set))
        if cluster.spec.paused:
            return Plan(scale)
        running = int(stateful_set["spec"]["replicas"])
        fixed = bool(provisioning.static_voters(existing))
        voting = QuorumStep()
        if isinstance(seen.quorum, QuorumView) and isinstance(seen.view, ClusterView):
            if isinstance(seen.placement, tuple):
                observed = scaling.Observed(
                    running,
                    _draining(stateful_set),
                    frozenset(self.pods(key)),
                    seen.view.brokers,
                    frozenset(v.id for v in seen.quorum.voters),
                    seen.placement,
                    frozenset(o.id for o in seen.quorum.observers),
                )
                scale = scaling.next_step(wanted, observed, rebalance=_wants_rebalance(cluster))
            if not fixed:
                voters = quorum.wanted_voters(running) if scale.voters is None else scale.voters
                addresses = {id: provisioning.controller_address(cluster, id) for id in voters}
                voting = quorum.next_change(seen.quorum, voters, addresses)
        views = self._pod_views(key, stateful_set, running)
        unsafe = _unsafe(seen, running, voting)
        most = provisioning.most_unavailable(cluster)
        rolling = _rolling(views, min(wanted, running), seen, unsafe)
        allowed, words = allows(cluster.spec.maintenance_windows or (), now)
        if not allowed:
            scale = scaling.held(scale, words)
        limit = None
        if isinstance(seen.placement, tuple):
            rate = terms_of(cluster.spec, now).rate
            limit = limits.next_step(seen.placement, scale.moves, _limited(stateful_set), rate)
        return Plan(
            scale,
            limit,
            voting,
            rolling if allowed else rollout.held(rolling, words),
            rollout.evictable(views, running, unsafe, most),
        )

    def _pod_views(self, key: Key, stateful_set: Mapping[str, Any], running: int) -> list[PodView]:
        return [
            PodView(
                id=index,
                name=pod["metadata"]["name"],
                uid=pod["metadata"]["uid"],
                ready=is_ready(pod),
                outdated=provisioning.pod_is_outdated(pod, stateful_set),
                deleting="deletionTimestamp" in pod["metadata"],
            )
            for index, pod in sorted(self.pods(key).items())
            if index < running
        ]

    # -- what is done --------------------------------------------------------------------------------------------------

    async def mark_as_formed(self, key: Key, seen: Seen) -> None:
        """From the first sight of a quorum on no broker may begin another one."""
        if not isinstance(seen.quorum, QuorumView) or seen.quorum.high_watermark <= 0:
            return
        patch = {"metadata": {"annotations": {provisioning.QUORUM: provisioning.FORMED}}}
        existing = self.existing(key)
        for item in provisioning.to_mark_as_formed(existing):
            kind = Kind.CONFIG_MAP if item is existing.config_map else Kind.VOLUME_CLAIM
            await self._patch(kind, key.namespace, item["metadata"]["name"], patch)

    async def carry_out(self, key: Key, body: Mapping[str, Any], plan: Plan, call: Any) -> Failure | None:
        """Do what was planned; `call(function)` runs it on the gateway. The first thing that did not work, if any."""
        step = plan.scaling
        if not step.cancel:
            await self._annotate(key, scaling.DRAINING, None if step.draining is None else str(step.draining))
        failure = await self._move(key, step, plan.limit, call) if plan.limit is not None else None
        change = plan.voting.change
        if change is not None:
            failed = await call(lambda gateway: gateway.change_voters(change))
            if failed is None:
                self._writer.event(body, "Normal", "QuorumChanged", change.words())
            failure = failure or failed
        for broker in step.forget:
            failed = await call(lambda gateway, broker=broker: gateway.unregister_broker(broker))
            if failed is None:
                self._writer.event(body, "Normal", "BrokerLeft", f"broker {broker} has left the cluster")
            failure = failure or failed
        if step.shrink:
            await self._patch_stateful_set(key, {"spec": {"replicas": step.draining}})
            self._writer.event(body, "Normal", "ScaledDown", step.words)
        if step.rebalanced:
            patch = {"metadata": {"annotations": {scaling.REBALANCE: None}}}
            await self._patch(Kind.CLUSTER, key.namespace, key.name, patch)
            self._writer.event(body, "Normal", "Rebalanced", "partitions are spread evenly over the brokers")
        if plan.evictable is not None:
            self.evictable[key] = plan.evictable
        await self._restart(key, body, plan.rolling)
        return failure

    async def _move(self, key: Key, step: ScalingStep, limit: LimitStep, call: Any) -> Failure | None:
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

    async def _restart(self, key: Key, body: Mapping[str, Any], step: Step) -> None:
        pod = step.restart
        if pod is not None and await self._api.delete(Kind.POD, key.namespace, pod.name, pod.uid):
            self._writer.event(body, "Normal", pod.outdated or "ManualRollingUpdate", step.words)
        if step.blocked and self._told.get(key) != step.words:
            self._writer.event(body, "Normal", "RolloutWaits", step.words)
        if step.blocked or not step.words:
            self._told[key] = step.words

    async def _annotate(self, key: Key, annotation: str, value: str | None) -> None:
        """Have the StatefulSet remember something; None: forget it."""
        stateful_set = self._store.get(Kind.STATEFUL_SET, Key(key.namespace, f"{key.name}-brokers"))
        if stateful_set is not None and stateful_set["metadata"].get("annotations", {}).get(annotation) != value:
            await self._patch_stateful_set(key, {"metadata": {"annotations": {annotation: value}}})

    async def _patch_stateful_set(self, key: Key, patch: Mapping[str, Any]) -> None:
        await self._patch(Kind.STATEFUL_SET, key.namespace, f"{key.name}-brokers", patch)

    async def _patch(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        written = await self._api.patch(kind, namespace, name, patch)
        self._store.put(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **written})


def _draining(stateful_set: Mapping[str, Any] | None) -> int | None:
    return scaling.draining_of(stateful_set["metadata"].get("annotations")) if stateful_set else None


def _limited(stateful_set: Mapping[str, Any] | None) -> Limits:
    return limits.limits_of(stateful_set["metadata"].get("annotations")) if stateful_set else limits.NOTHING


def _first(failures: Sequence[Failure | None]) -> Failure | None:
    return next((failure for failure in failures if failure is not None), None)


def _wants_rebalance(cluster: Cluster) -> bool:
    return scaling.REBALANCE in (cluster.metadata.annotations or {})


def _unsafe(seen: Seen, running: int, voting: QuorumStep) -> dict[int, str] | None:
    """Which brokers must not stop now, and why; None when that is not known."""
    if running == 1:
        return {}  # there is no other replica to wait for
    if not isinstance(seen.health, ClusterHealth) or not isinstance(seen.quorum, QuorumView):
        return None
    if voting.words:
        return dict.fromkeys(range(running), voting.words)
    return quorum.unsafe_to_stop(seen.quorum) | rollout.unsafe_to_stop(seen.health)


def _rolling(views: list[PodView], staying: int, seen: Seen, unsafe: Mapping[int, str] | None) -> Step:
    """The next restart, of brokers that do not leave."""
    controller = seen.view.controller if isinstance(seen.view, ClusterView) else None
    leader = seen.quorum.leader if isinstance(seen.quorum, QuorumView) else controller
    lagging: Mapping[int, str] = {}
    single: Mapping[int, str] = {}
    idle: frozenset[int] = frozenset()
    if isinstance(seen.health, ClusterHealth) and isinstance(seen.quorum, QuorumView):
        busy = {id for id, count in seen.health.replicas.items() if count} | {v.id for v in seen.quorum.voters}
        idle = frozenset(range(staying)) - busy
    if isinstance(seen.health, ClusterHealth):
        lagging = rollout.behind(seen.health)
        single = {id: str(name) for id, name in seen.health.single.items()}
    return rollout.next_step([v for v in views if v.id < staying], staying, leader, unsafe, lagging, single, idle)
