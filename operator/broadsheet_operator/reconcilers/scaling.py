"""How a Cluster gets from the brokers that it has to those that it should have. Pure.

*Growing*: the StatefulSet grows at once; when the new brokers have joined, they get their votes, and Kafka's own topics
the replicas that the new size allows. Other partitions stay where they are until a rebalance is requested.

*Shrinking*: the brokers with the highest ids leave. First everything they keep is moved to the others, then they lose
their votes, then their pods go, and at last the cluster forgets them. Setting the number back stops that: moves under
way are taken back, and what has been moved already stays where it is.

Every step follows from what is there, so an operator that restarts goes on where it was. Two things only must be
remembered, and stand in annotations of the StatefulSet: that a drain was begun, so that it can be taken back, and that
a rebalance was begun, so that it is finished when its request is gone (Flux removes what `kubectl annotate` has added).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from broadsheet_operator.reconcilers import spreading
from broadsheet_operator.reconcilers.observed import BrokerView, TopicPartition
from broadsheet_operator.reconcilers.quorum import wanted_voters
from broadsheet_operator.reconcilers.spreading import Moves, Placed

DRAINING = "broadsheet.io/draining"
"""Annotation of the StatefulSet: the lowest id of the brokers that are being drained."""
REBALANCE = "broadsheet.io/rebalance"
"""Annotation of the Cluster that requests a rebalance of its partitions, once for each value. It stays: were it removed
when that is done, Argo CD would put back what Git has, and ask for another one, for ever."""
REBALANCED = "broadsheet.io/rebalanced"
"""Annotation of the StatefulSet: the last value of REBALANCE that was done."""
REBALANCING = "broadsheet.io/rebalancing"
"""Annotation of the StatefulSet: the value of REBALANCE whose moves were begun; absent when they are done."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What scaling looks at."""

    running: int
    """Brokers that the StatefulSet has."""
    draining: int | None
    """Lowest id of the brokers whose drain was begun."""
    pods: frozenset[int]
    """Ids of the brokers that have a pod."""
    brokers: tuple[BrokerView, ...]
    """Brokers that are registered and active."""
    voters: frozenset[int]
    partitions: tuple[Placed, ...]
    followers: frozenset[int] = frozenset()
    """Brokers whose fetches the quorum's leader remembers: those that have stopped are no longer in the metadata."""


@dataclass(frozen=True, slots=True)
class ScalingStep:
    """What is to be done now."""

    words: str = ""
    """What is going on, or waited for; empty when the brokers are as they should be."""
    refusal: str = ""
    """Why the number that is asked for cannot be had."""
    moves: Moves = field(default_factory=dict)
    cancel: tuple[TopicPartition, ...] = ()
    """Moves to be taken back."""
    draining: int | None = None
    """What the annotation is to say."""
    shrink: bool = False
    """The pods may go."""
    voters: tuple[int, ...] | None = None
    """Who should vote from now on; None: as many as the brokers that there are allow."""
    forget: tuple[int, ...] = ()
    """Brokers that the cluster is to forget."""
    rebalancing: bool = False
    """Moves of the rebalance that was asked for are begun with this."""
    rebalanced: bool = False
    """The rebalance that was asked for is done."""


def leaving_ids(wanted: int, seen: Observed) -> frozenset[int]:
    """Brokers that are there and should not be."""
    known = {b.id for b in seen.brokers} | set(range(seen.running)) | {r for p in seen.partitions for r in p.replicas}
    if seen.draining is not None:
        known |= seen.followers
    return frozenset(id for id in known if id >= wanted)


def next_step(wanted: int, seen: Observed, *, rebalance: bool) -> ScalingStep:
    """The next step towards `wanted` brokers; `rebalance`: it was requested."""
    leaving = leaving_ids(wanted, seen)
    if leaving:
        return _shrink(wanted, leaving, seen)
    if seen.draining is not None:
        taken_back = tuple(p.name for p in seen.partitions if any(r >= seen.draining for r in p.removing))
        if taken_back:
            return ScalingStep(
                _replicas(len(taken_back), "taking back the moves of"), cancel=taken_back, draining=seen.draining
            )
        return ScalingStep("no broker leaves any more")  # the annotation goes with this
    alive = [b for b in seen.brokers if not b.fenced]
    if len(alive) < wanted:
        return ScalingStep()  # the brokers' own states say why
    moves = spreading.plan_internal(seen.partitions, seen.brokers)
    moving = [p for p in seen.partitions if p.internal and p.moving]
    if moves or moving:
        factor = spreading.internal_factor(len(alive))
        waiting = len(moves) + len(moving)
        return ScalingStep(f"{waiting} partitions of Kafka's own topics get {factor} replicas", moves=moves)
    return _rebalance(seen) if rebalance else ScalingStep()


def held(step: ScalingStep, words: str) -> ScalingStep:
    """The step outside of the maintenance windows: no move begins; what is under way goes on, or is taken back."""
    if not step.moves:
        return step
    return replace(step, moves={}, rebalancing=False, words=f"{step.words}; {words}")


def _shrink(wanted: int, leaving: Collection[int], seen: Observed) -> ScalingStep:
    names = ", ".join(map(str, sorted(leaving)))
    who = f"broker {names}" if len(leaving) == 1 else f"brokers {names}"
    if seen.running > wanted:
        refused = spreading.refusal(seen.partitions, leaving, wanted)
        if refused:
            return ScalingStep(refusal=refused, draining=seen.draining)
    left = spreading.to_drain(seen.partitions, leaving)
    if left:
        moves = spreading.plan_drain(seen.partitions, leaving, seen.brokers)
        return ScalingStep(f"draining {who}: {_replicas(left)} left to move", moves=moves, draining=wanted)
    if seen.running <= wanted:
        if seen.pods & set(leaving):
            return ScalingStep(f"waiting until the pods of {who} are gone", draining=wanted)
        return ScalingStep(f"{who} left", forget=tuple(sorted(leaving)))
    voters = wanted_voters(wanted)
    if seen.voters - set(voters):
        return ScalingStep(f"{who}: drained, and still in the metadata quorum", draining=wanted, voters=voters)
    return ScalingStep(f"{who}: drained", shrink=True, draining=wanted, voters=voters)


def _rebalance(seen: Observed) -> ScalingStep:
    moves = spreading.plan_balance(seen.partitions, seen.brokers)
    moving = sum(p.moving for p in seen.partitions)
    if moves or moving:
        every = spreading.plan_balance(seen.partitions, seen.brokers, most=len(seen.partitions) + moving)
        words = f"rebalancing: {_replicas(max(len(every), len(moves)) + moving)} left to move"
        return ScalingStep(words, moves=moves, rebalancing=bool(moves))
    return ScalingStep(rebalanced=True)


def _replicas(count: int, before: str = "") -> str:
    text = "1 replica" if count == 1 else f"{count} replicas"
    return f"{before} {text}".strip()


def running_for(wanted: int, running: int) -> int:
    """Brokers that the StatefulSet is to have now: a Cluster grows at once, and shrinks when it is drained."""
    return max(wanted, running)


def draining_of(annotations: Mapping[str, str] | None) -> int | None:
    """What DRAINING says."""
    value = (annotations or {}).get(DRAINING, "")
    return int(value) if value.isdigit() else None
