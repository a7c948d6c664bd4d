"""Where the canary's topic is: one partition for each broker, led by it. Pure.

One party plans it: the operator for a Cluster, because it knows which brokers leave and what else moves; the canary
itself where there is no operator. The topic never stands in the way of a change of brokers: a drain moves its replicas
and gives up those that have no place, as with Kafka's own topics; nothing is moved here while brokers change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from broadsheet_operator.reconcilers.observed import BrokerView, PartitionView, TopicView
from broadsheet_operator.reconcilers.spreading import Placed
from broadsheet_operator.reconcilers.topic_actions import (
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    ElectLeaders,
    Reassign,
    TopicAction,
)

MOST_REPLICAS = 3
MIN_ISR = "min.insync.replicas"
CONFIGS: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "retention.ms": "600000",
    "segment.bytes": "1048576",
    "segment.ms": "600000",
}
"""By these settings of its own the topic is recognised: another topic of the name is never written to or deleted."""


@dataclass(frozen=True, slots=True)
class CanaryTopicPlan:
    """What is to be done for the topic now."""

    actions: tuple[TopicAction, ...] = ()
    refusal: str = ""
    """Why the topic may not be used; empty when it may."""


def configs(factor: int) -> dict[str, str]:
    """The topic's settings: a stop of one broker takes no write from it, so it blocks no restart."""
    return {**CONFIGS, MIN_ISR: str(max(1, factor - 1))}


def is_ours(topic: TopicView) -> bool:
    """Whether a topic was made for a canary."""
    own = {key: config.value for key, config in topic.configs.items() if config.overridden}
    return not topic.internal and all(own.get(key) == value for key, value in CONFIGS.items())


def refusal(name: str, topic: TopicView) -> str:
    """Why a topic that exists may not be used."""
    if is_ours(topic):
        return ""
    return (
        f"the topic {name} exists and was not made for a canary; "
        "set spec.canary.topicName to another name, or delete the topic if nobody needs it"
    )


def as_internal(name: str, placement: Sequence[Placed]) -> tuple[Placed, ...]:
    """The placement with the canary's topic as one of Kafka's own: a drain may give its replicas up."""
    return tuple(replace(p, internal=True) if p.name.topic == name else p for p in placement)


def plan(
    name: str, topic: TopicView | None, brokers: Sequence[BrokerView], *, may_move: bool = True
) -> CanaryTopicPlan:
    """The next actions. `brokers`: those that stay; `may_move`: no other move is under way or begins."""
    alive = sorted((b for b in brokers if not b.fenced), key=lambda b: b.id)
    if not alive:
        return CanaryTopicPlan()
    factor = min(MOST_REPLICAS, len(alive))
    if topic is None:
        assignments = {index: _replicas(broker, alive, factor) for index, broker in enumerate(alive)}
        return CanaryTopicPlan((CreateTopic(name, None, None, configs(factor), assignments=assignments),))
    words = refusal(name, topic)
    if words:
        return CanaryTopicPlan(refusal=words)
    moves: dict[int, tuple[int, ...]] = {}
    added: list[tuple[int, ...]] = []
    if not any(p.moving for p in topic.partitions):
        if may_move:
            moves = _more_replicas(topic.partitions, alive, factor)
        _lead_everywhere(topic.partitions, alive, factor, moves if may_move else None, added)
    actions: list[TopicAction] = []
    if added:
        before = len(topic.partitions)
        actions.append(AddPartitions(name, before + len(added), before, tuple(added)))
    if moves:
        actions.append(Reassign(name, dict(moves)))
    now = topic.replication_factor
    in_force = topic.configs.get(MIN_ISR)
    if now and not moves and in_force is not None and in_force.value != configs(now)[MIN_ISR]:
        actions.append(AlterConfigs(name, {MIN_ISR: configs(now)[MIN_ISR]}, ()))
    elections = _elections(topic.partitions, alive, moves)
    if elections:
        actions.append(ElectLeaders(name, elections))
    return CanaryTopicPlan(tuple(actions))


def _more_replicas(
    partitions: Sequence[PartitionView], alive: Sequence[BrokerView], factor: int
) -> dict[int, tuple[int, ...]]:
    """Replicas for partitions that were made, or left by a drain, with fewer than there may be now."""
    ids = {b.id for b in alive}
    moves = {}
    for p in partitions:
        if len(p.replicas) < factor and set(p.replicas) <= ids:
            moves[p.index] = _filled(p.replicas, alive, factor)
    return moves


def _lead_everywhere(
    partitions: Sequence[PartitionView],
    alive: Sequence[BrokerView],
    factor: int,
    moves: dict[int, tuple[int, ...]] | None,
    added: list[tuple[int, ...]],
) -> None:
    """Have each broker be the first replica of a partition. `moves` None: none may begin."""
    replicas = {p.index: moves.get(p.index, p.replicas) if moves else p.replicas for p in partitions}
    leads = Counter(r[0] for r in replicas.values() if r)
    for broker in alive:
        if leads[broker.id]:
            continue
        spare = [index for index, r in replicas.items() if r and leads[r[0]] > 1]
        if not spare:
            added.append(_replicas(broker, alive, factor))
        elif moves is not None:
            # Rather where it is a replica already: then nothing is copied.
            index = min(spare, key=lambda i: (broker.id not in replicas[i], i))
            old = replicas[index]
            others = tuple(r for r in old if r != broker.id)
            leads[old[0]] -= 1
            moves[index] = replicas[index] = (broker.id, *others)[: max(1, len(old))]
        else:
            continue
        leads[broker.id] += 1


def _elections(
    partitions: Sequence[PartitionView], alive: Sequence[BrokerView], moves: Mapping[int, object]
) -> tuple[int, ...]:
    """Partitions whose first replica could lead and does not."""
    ids = {b.id for b in alive}
    return tuple(
        p.index
        for p in partitions
        if p.replicas
        and p.leader != p.replicas[0]
        and p.replicas[0] in ids
        and p.replicas[0] in p.isr
        and not p.moving
        and p.index not in moves
    )


def _replicas(leader: BrokerView, alive: Sequence[BrokerView], factor: int) -> tuple[int, ...]:
    return _filled((leader.id,), alive, factor)


def _filled(replicas: tuple[int, ...], alive: Sequence[BrokerView], factor: int) -> tuple[int, ...]:
    """Replicas with others behind them: in racks that have none yet, then the next brokers of the ring."""
    racks = {b.id: b.rack for b in alive}
    ids = [b.id for b in alive]
    chosen = list(replicas)
    start = ids.index(chosen[0]) if chosen and chosen[0] in ids else 0
    while len(chosen) < factor:
        held = Counter(racks.get(r) for r in chosen if racks.get(r) is not None)
        ring = [id for id in ids[start + 1 :] + ids[: start + 1] if id not in chosen]
        chosen.append(min(ring, key=lambda id: held[racks[id]]))
    return tuple(chosen)
