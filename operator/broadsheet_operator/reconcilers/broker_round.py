"""One round for the brokers of a Cluster: from what they say of themselves and what Kubernetes has, to a plan. Pure.

A plan holds one step of each kind, and what is said about it; the next round starts from what is really there then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers import (
    exchange_state,
    exchange_steps,
    features,
    limits,
    provisioning,
    quorum,
    rollout,
    scaling,
)
from broadsheet_operator.reconcilers.cluster import BrokerState, fenced_brokers
from broadsheet_operator.reconcilers.engine_change import image_of_another, image_of_before, running_engine
from broadsheet_operator.reconcilers.engines import engine_of
from broadsheet_operator.reconcilers.exchange import Stored, refusal
from broadsheet_operator.reconcilers.features import FeatureStep
from broadsheet_operator.reconcilers.limits import Limits, LimitStep
from broadsheet_operator.reconcilers.moves import terms_of
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure, FeaturesView, QuorumView
from broadsheet_operator.reconcilers.pods import is_ready
from broadsheet_operator.reconcilers.provisioning import Existing
from broadsheet_operator.reconcilers.quorum import QuorumStep
from broadsheet_operator.reconcilers.rollout import PodView, Step
from broadsheet_operator.reconcilers.scaling import ScalingStep
from broadsheet_operator.reconcilers.seen import Seen
from broadsheet_operator.reconcilers.spreading import Placed
from broadsheet_operator.reconcilers.windows import allows


@dataclass(frozen=True, slots=True)
class Children:
    """What Kubernetes has of a Cluster, looked at once a round."""

    existing: Existing
    pods: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """The brokers' pods by node id."""
    budget: Mapping[str, Any] | None = None
    """The PodDisruptionBudget."""

    @property
    def annotations(self) -> Mapping[str, str]:
        """What the StatefulSet remembers."""
        stateful_set = self.existing.stateful_set
        return (stateful_set["metadata"].get("annotations") or {}) if stateful_set else {}

    @property
    def running(self) -> int:
        """Brokers that the StatefulSet is for, be they stopped for an exchange of the engine; 0 while there is none."""
        return exchange_state.brokers_of(self.existing.stateful_set) if self.existing.stateful_set else 0

    @property
    def draining(self) -> int | None:
        """The drain that was begun: brokers from this id on leave."""
        return scaling.draining_of(self.annotations)

    @property
    def limited(self) -> Limits:
        """The topics whose replicas are limited because brokers change."""
        return limits.limits_of(self.annotations)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round decided."""

    scaling: ScalingStep = field(default_factory=ScalingStep)
    rebalance: str = ""
    """Which rebalance is to be done: the value that asked for it."""
    limit: LimitStep | None = None
    """How fast replicas move; None where it is not known what moves."""
    voting: QuorumStep = field(default_factory=QuorumStep)
    rolling: Step = field(default_factory=lambda: Step(None, ""))
    features: FeatureStep = field(default_factory=FeatureStep)
    evictable: int | None = None
    """How many brokers Kubernetes may evict at once now; None where that is not known."""
    held: bool = False
    """All that is left to be done waits for a maintenance window."""
    exchange: exchange_steps.Step = field(default_factory=exchange_steps.Step)
    """The exchange of the engine."""

    @property
    def settled(self) -> bool:
        """Nothing is going on, and nothing is waited for."""
        return not (
            self.scaling.words or self.voting.words or self.rolling.words or self.exchange.words or self.features.words
        )

    @property
    def planned_absence(self) -> bool:
        """Brokers are away, or go, because of what was planned."""
        waits = self.exchange.words and not (self.exchange.situation.interrupts or self.exchange.begins)
        return not self.settled and not (waits and replace(self, exchange=exchange_steps.Step()).settled)

    @property
    def rolling_words(self) -> str:
        """For the status."""
        return "; ".join(filter(None, [self.rolling.words, self.features.words]))

    @property
    def scaling_words(self) -> str:
        """For the status."""
        limit = self.limit.words if self.limit else ""
        return "; ".join(filter(None, [self.scaling.words, limit, self.voting.words]))


def rebalance_to_do(cluster: Cluster, children: Children) -> str:
    """The value of the rebalance that the Cluster's annotation asks for, or that was begun; empty when it is done."""
    done = children.annotations.get(scaling.REBALANCED)
    known = cluster.metadata.annotations.get(scaling.REBALANCE, ""), children.annotations.get(scaling.REBALANCING, "")
    return next((value for value in known if value and value != done), "")


def plan_round(
    cluster: Cluster,
    wanted: int,
    children: Children,
    seen: Seen,
    now: datetime,
    states: Sequence[BrokerState] = (),
) -> Plan:
    """The next step of each kind. `wanted`: brokers that the Cluster asks for; `cluster` has as many as it may have.
    `states`: what Kubernetes says of each of them."""
    stateful_set = children.existing.stateful_set
    if stateful_set is None or cluster.spec.brokers is None:
        return Plan()
    # A round that cannot look must not forget that a drain was begun.
    scale = ScalingStep(draining=children.draining)
    situation = exchange_state.situation_of(cluster, stateful_set)
    if cluster.spec.paused:
        return Plan(scale, exchange=exchange_steps.paused(situation))
    if situation.stopped:
        step = _exchange(situation, cluster, children, seen, states, "", now)
        return Plan(scale, evictable=0, exchange=step)
    running = children.running
    voting = QuorumStep()
    if isinstance(seen.quorum, QuorumView) and isinstance(seen.view, ClusterView):
        if isinstance(seen.placement, tuple):
            scale = _scale(cluster, wanted, children, seen.view, seen.quorum, seen.placement)
        if not provisioning.static_voters(children.existing):
            voters = quorum.wanted_voters(running) if scale.voters is None else scale.voters
            addresses = {id: provisioning.controller_address(cluster, id) for id in voters}
            voting = quorum.next_change(seen.quorum, voters, addresses)
    views = pod_views(children, running, seen.view)
    unsafe = unsafe_to_stop(seen, running, voting)
    is_rolling = bool(cluster.status and cluster.status.rollout)
    rolling = next_restart(views, min(wanted, running), seen, unsafe, rolling=is_rolling)
    allowed, words = allows(cluster.spec.maintenance_windows or (), now)
    held = False
    if not allowed:
        free, going = scale, rolling
        scale, rolling = scaling.held(scale, words), rollout.held(rolling, words)
        # Each that has something to say is held.
        held = (scale is not free or not free.words) and (rolling is not going or not going.words)
        held = held and (scale is not free or rolling is not going) and not voting.words
    limit = None
    if isinstance(seen.placement, tuple):
        limit = limits.next_step(seen.placement, scale.moves, children.limited, terms_of(cluster.spec, now).rate)
    evictable = rollout.evictable(views, running, unsafe, provisioning.most_unavailable(cluster))
    held = held and (limit is None or not limit.words)
    moving = sum(p.moving for p in seen.placement) if isinstance(seen.placement, tuple) else 0
    busy = "; ".join(filter(None, [scale.words or (moves_of(moving) if moving else ""), voting.words]))
    exchange = _exchange(situation, cluster, children, seen, states, busy, now)
    if exchange.begins:
        return Plan(ScalingStep(draining=children.draining), evictable=0, exchange=exchange)
    if exchange.words or exchange.refusal:
        others = bool(scale.words or voting.words or rolling.words or (limit and limit.words))
        held = exchange.held and (held or not others)
    levels = FeatureStep() if exchange.words else _features(cluster, children, seen, rolling)
    return Plan(scale, rebalance_to_do(cluster, children), limit, voting, rolling, levels, evictable, held, exchange)


def moves_of(count: int) -> str:
    """Partitions that move, as a phrase."""
    return "1 partition moves" if count == 1 else f"{count} partitions move"


def _exchange(
    situation: exchange_state.Situation,
    cluster: Cluster,
    children: Children,
    seen: Seen,
    states: Sequence[BrokerState],
    busy: str,
    now: datetime,
) -> exchange_steps.Step:
    """The next step of an exchange of the engine; one without words when none is asked for."""
    stateful_set, brokers = children.existing.stateful_set, cluster.spec.brokers
    assert stateful_set is not None and brokers is not None
    kept = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    facts = exchange_steps.Facts(
        declared=cluster.engine(),
        has_volumes=brokers.storage is not None and brokers.storage.size is not None,
        # Each volume has to say so: one that does not would be taken for empty when no broker can be asked.
        formed=provisioning.is_formed(children.existing)
        and not provisioning.to_mark(children.existing, situation.runs),
        states=states,
        pods=children.pods.keys(),
        replicas=int(stateful_set["spec"]["replicas"]),
        keeps_claims=kept.get("whenScaled", "Retain") == "Retain",
        view=seen.view,
        health=seen.health,
        unknown=_not_for(cluster, stateful_set, seen.stored),
        certain=exchange_state.takes_anything(situation),
        window=allows(cluster.spec.maintenance_windows or (), now),
        busy=busy,
        now=now,
    )
    return exchange_steps.next_step(situation, facts)


def _not_for(cluster: Cluster, stateful_set: Mapping[str, Any], stored: object) -> str | None:
    """Why the declared engine cannot take over; None where that is not known."""
    image = image_of_another(cluster) or image_of_before(cluster, stateful_set)
    return image or (refusal(engine_of(cluster), stored) if isinstance(stored, Stored) else None)


def _features(cluster: Cluster, children: Children, seen: Seen, rolling: Step) -> FeatureStep:
    """Levels are finalized when every broker runs what is declared, and nothing is rolled."""
    wanted = cluster.engine().wanted_levels
    if not wanted or not isinstance(seen.features, FeaturesView):
        return FeatureStep()
    running, declared = running_engine(children.existing.stateful_set), engine_of(cluster)
    rolled = not rolling.words and len(children.pods) >= children.running
    rolled = rolled and running is not None and running.title == declared.title
    waits_for = "" if rolled else f"waiting until every broker runs {declared.title}"
    return features.next_step(wanted, seen.features, range(children.running), waits_for)


def _scale(
    cluster: Cluster,
    wanted: int,
    children: Children,
    view: ClusterView,
    voters: QuorumView,
    placement: tuple[Placed, ...],
) -> ScalingStep:
    observed = scaling.Observed(
        children.running,
        children.draining,
        frozenset(children.pods),
        view.brokers,
        frozenset(v.id for v in voters.voters),
        placement,
        frozenset(o.id for o in voters.observers),
    )
    return scaling.next_step(wanted, observed, rebalance=bool(rebalance_to_do(cluster, children)))


def pod_views(children: Children, running: int, view: ClusterView | Failure | None) -> list[PodView]:
    """The brokers' pods as restarts are planned by them."""
    stateful_set = children.existing.stateful_set
    assert stateful_set is not None
    fenced = fenced_brokers(children.pods, view)
    return [
        PodView(
            id=index,
            name=pod["metadata"]["name"],
            uid=pod["metadata"]["uid"],
            ready=is_ready(pod),
            outdated=provisioning.pod_is_outdated(pod, stateful_set),
            deleting="deletionTimestamp" in pod["metadata"],
            why=provisioning.why_outdated(pod, stateful_set),
            fenced=index in fenced,
        )
        for index, pod in sorted(children.pods.items())
        if index < running
    ]


def unsafe_to_stop(seen: Seen, running: int, voting: QuorumStep) -> dict[int, str] | None:
    """Which brokers must not stop now, and why; None when that is not known."""
    if running == 1:
        return {}  # there is no other replica to wait for
    if not isinstance(seen.health, ClusterHealth) or not isinstance(seen.quorum, QuorumView):
        return None
    if voting.words:
        return dict.fromkeys(range(running), voting.words)
    return quorum.unsafe_to_stop(seen.quorum) | rollout.unsafe_to_stop(seen.health)


def next_restart(
    views: list[PodView], staying: int, seen: Seen, unsafe: Mapping[int, str] | None, *, rolling: bool
) -> Step:
    """The next restart, of brokers that do not leave. `rolling`: the last round was in a rolling change."""
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
    staying_views = [v for v in views if v.id < staying]
    return rollout.next_step(staying_views, staying, leader, unsafe, lagging, single, idle, rolling=rolling)
