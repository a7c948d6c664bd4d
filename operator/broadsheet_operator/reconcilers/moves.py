"""Replicas that move because a replication factor changed: what to do next, and how far it is. Pure.

Everything is read from Kafka at each look, so an operator that was restarted goes on where the last one stopped. The
one thing that Kafka does not know is who limits the copying: `status.reassignment.throttle` remembers that we do, and
is written before anything is done. A change therefore takes four looks: write that down, limit, move, and when nothing
moves any more, take the limit away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from broadsheet_operator.api.cluster import ClusterSpec
from broadsheet_operator.api.quantities import UNLIMITED, format_rate, format_size, parse_size
from broadsheet_operator.api.topic import Reassignment, Topic
from broadsheet_operator.reconcilers.limits import Copy, limit_of
from broadsheet_operator.reconcilers.observed import ClusterView, PartitionView, TopicView
from broadsheet_operator.reconcilers.placement import plan_replicas
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.topic_actions import (
    FOLLOWER_THROTTLED,
    LEADER_THROTTLED,
    Reassign,
    Throttle,
    TopicAction,
    Unthrottle,
)
from broadsheet_operator.reconcilers.windows import allows

DEFAULT_RATE = 50 * 2**20
"""Bytes per second per broker: less than half of what a network of 1 Gbit/s carries."""

NO_LIMIT = 2**63 - 1
"""Kafka's own default of the rates."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms replicas of a cluster move."""

    hold: str = ""
    """Why nothing may begin to move now; empty when it may."""
    rate: int | None = DEFAULT_RATE
    """Replication throttle per broker, in bytes per second; None: not throttled."""
    brokers: int = 0
    """How many brokers are declared, running or not; 0: unknown."""


def terms_of(cluster: ClusterSpec | None, now: datetime) -> Terms:
    """The terms that a Cluster sets, at this time."""
    if cluster is None:
        return Terms()
    allowed, words = allows(cluster.maintenance_windows or (), now)
    rate: int | None = DEFAULT_RATE
    if cluster.reassignment is not None and cluster.reassignment.throttle is not None:
        rate = parse_size(cluster.reassignment.throttle)
    brokers = cluster.brokers.replicas if cluster.brokers else 0
    return Terms("" if allowed else words, None if rate is None or rate < 0 else rate, brokers)


@dataclass(frozen=True, slots=True)
class MovePlan:
    """What is to be done about replicas."""

    actions: tuple[TopicAction, ...] = ()
    held: str = ""
    """A sentence about what is declared and may not begin now."""
    reason: Reason = Reason.WAITING_FOR_WINDOW
    """With `held`: the reason of the condition."""
    throttled: bool = False
    """Whether the operator's limit is in force, or about to be."""
    next: str = ""
    """A sentence about what follows in the next round."""


def plan_moves(desired: Topic, observed: TopicView, cluster: ClusterView, terms: Terms) -> MovePlan:
    """The next step from the replicas that there are to those that are declared."""
    name, factor = desired.topic_name, desired.spec.replication_factor
    wanted = _wanted(observed.partitions, factor, cluster) if factor is not None else {}
    starts = {index: replicas for index, replicas in wanted.items() if replicas is not None}
    held, reason = "", Reason.WAITING_FOR_WINDOW
    if starts and terms.hold:
        held = f"{Reassign(name, starts).words()}: {terms.hold}"
    elif factor != observed.replication_factor and will_do(factor, terms):
        short = too_many_replicas(factor, cluster)
        held, reason = (f"waits for brokers: {short}" if short else ""), Reason.BROKER_DOWN
    changes = {index: replicas for index, replicas in wanted.items() if replicas is None or not terms.hold}
    limited = _limited(observed)
    remembered = _remembered(desired)
    # A limit that is lifted while replicas move goes with all the others when they are through.
    rate = NO_LIMIT if terms.rate is None and remembered else terms.rate
    throttle = _throttle(name, observed.partitions, changes, rate)
    if throttle is not None and not remembered and not any(changes.values()):
        throttle = None  # another tool moves these, without a limit
    if throttle is not None and not remembered:
        return MovePlan((), held, reason, True, Reassign(name, changes).words())
    if throttle is not None and not _in_force(throttle, limited, observed.rates):
        return MovePlan((throttle,), held, reason, True)
    actions: list[TopicAction] = [Reassign(name, changes)] if changes else []
    over = remembered and bool(limited) and throttle is None
    if over and not changes and not any(p.moving for p in observed.partitions):
        actions.append(Unthrottle(name))
    return MovePlan(tuple(actions), held, reason, throttle is not None or over)


def too_many_replicas(factor: int | None, cluster: ClusterView) -> str:
    """Why there cannot be this many replicas now; empty when there can."""
    alive = sorted(b.id for b in cluster.alive)
    if factor is None or factor <= len(alive):
        return ""
    brokers = f"only broker {alive[0]}" if len(alive) == 1 else f"{len(alive)} brokers: {', '.join(map(str, alive))}"
    return f"replicationFactor {factor} needs as many brokers; the cluster has {brokers}"


def will_do(factor: int | None, terms: Terms) -> bool:
    """Whether the brokers that are to be there are enough, though some may be away now."""
    return factor is not None and factor <= terms.brokers


def _wanted(
    partitions: Sequence[PartitionView], factor: int, cluster: ClusterView
) -> dict[int, tuple[int, ...] | None]:
    """Partition to its new replicas, None to stay where it was. A move that leads to `factor` replicas goes on."""
    changes: dict[int, tuple[int, ...] | None] = {}
    views: list[PartitionView] = []
    for p in partitions:
        target = [r for r in p.replicas if r not in p.removing]
        if p.moving and len(target) != factor:
            if len(p.settled) == factor:
                changes[p.index] = None
            else:
                p = replace(p, replicas=p.settled, moving=False, adding=(), removing=())
        views.append(p)
    return changes | plan_replicas(views, factor, cluster.brokers)


def _throttle(
    name: str, partitions: Sequence[PartitionView], changes: Mapping[int, tuple[int, ...] | None], rate: int | None
) -> Throttle | None:
    """The limit for what will be copied once the changes are made; None when nothing is, or without a limit."""
    copied = []
    for p in partitions:
        after = changes.get(p.index, p.replicas) or p.settled
        made = frozenset(after) - frozenset(p.settled)
        if made:
            copied.append(Copy(p.index, frozenset(r for r in p.settled if r in p.isr or r == p.leader), made))
    return None if rate is None else limit_of(name, copied, rate)


def _limited(observed: TopicView) -> dict[str, frozenset[str]]:
    """The throttled replicas that the topic has now, by property."""
    found: dict[str, frozenset[str]] = {}
    for key in (LEADER_THROTTLED, FOLLOWER_THROTTLED):
        view = observed.configs.get(key)
        if view is not None and view.overridden and view.value:
            found[key] = frozenset(part.strip() for part in view.value.split(","))
    return found


def _in_force(
    throttle: Throttle, limited: Mapping[str, frozenset[str]], rates: Mapping[int, tuple[int | None, int | None]]
) -> bool:
    """Whether the limit is set, on every broker that could be asked. It may name more replicas than are left."""
    for key, value in throttle.configs().items():
        have = limited.get(key, frozenset())
        if "*" not in have and not set(value.split(",")) <= have:
            return False
    wanted = (throttle.rate, throttle.rate)
    return all(rates.get(broker, wanted) == wanted for broker in throttle.brokers)


def _remembered(desired: Topic) -> bool:
    before = desired.status.reassignment if desired.status else None
    return before is not None and before.throttle is not None


def progress(
    desired: Topic, observed: TopicView, cluster: ClusterView, plan: MovePlan, terms: Terms
) -> Reassignment | None:
    """How far the moves of a topic are; None when nothing moves and nothing is limited."""
    moving = [p for p in observed.partitions if p.moving]
    if not moving and not plan.throttled:
        return None
    left = _left(moving)
    before = desired.status.reassignment if desired.status else None
    total = max(left or 0, before.total_bytes or 0 if before else 0)
    percent = 100 * (total - left) // total if left is not None and total else None
    throttle = None if not plan.throttled else UNLIMITED if terms.rate is None else format_rate(terms.rate)
    verb = "is" if len(moving) == 1 else "are"
    some = f"{len(moving)} of {len(observed.partitions)} partitions {verb} moving"
    parts = [some if moving else "nothing moves yet"]
    if moving and percent is not None and left is not None:
        parts.append(f"{format_size(left)} of {format_size(total)} are still to be copied ({percent}% done)")
    if throttle and throttle != UNLIMITED:
        parts.append(f"at most {throttle}/s per broker")
    alive = {b.id for b in cluster.alive}
    away = sorted({r for p in moving for r in p.adding if r not in alive})
    if away:
        parts.append(f"waiting for broker {', '.join(map(str, away))}, which is away")
    return Reassignment(
        partitions=len(moving),
        percent=percent if moving else None,
        remaining=format_size(left) if moving and left is not None else None,
        total_bytes=total or None,
        throttle=throttle,
        message="; ".join(parts),
    )


def _left(moving: Sequence[PartitionView]) -> int | None:
    """Bytes still to be copied; None when the brokers did not say."""
    left = 0
    for p in moving:
        for replica in p.adding:
            if replica in p.isr:
                continue
            if p.leader is None or p.leader not in p.sizes:
                return None
            left += max(0, p.sizes[p.leader] - p.sizes.get(replica, 0))
    return left


def moving_words(observed: TopicView, told: Reassignment | None) -> str:
    """One line for a condition, coarse, so that it changes seldom; empty when nothing moves."""
    moving = sum(p.moving for p in observed.partitions)
    if not moving:
        return ""
    if told is not None and told.percent is not None:
        return f"replicas are moving, {told.percent // 10 * 10}% copied"
    return f"replicas of {moving} {'partition' if moving == 1 else 'partitions'} are moving"
