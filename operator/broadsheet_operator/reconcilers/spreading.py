"""Where replicas of all topics go when a Cluster's brokers change. Pure.

*Draining* moves what leaving brokers keep to the others; *balancing* evens out what brokers keep, which is done only
on request only, because it copies data; internal topics get the replication factor that the Cluster's size
allows.
Each plan names few partitions at a time; the next ones follow when these are done, so a plan that is dropped half-way
leaves nothing to be tidied up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from broadsheet_operator.reconcilers.observed import BrokerView, TopicPartition

MOVES_AT_ONCE = 20
"""Partitions on the move at a time: enough to keep the network busy, few enough to stop soon."""
Moves = dict[TopicPartition, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Placed:
    """A partition and where it is."""

    name: TopicPartition
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    """Of a reassignment that is under way."""
    internal: bool = False
    """One of Kafka's own topics, like __consumer_offsets."""

    @property
    def moving(self) -> bool:
        """A reassignment is under way."""
        return bool(self.adding or self.removing)

    @property
    def target(self) -> tuple[int, ...]:
        """The replicas when what is under way is done."""
        return tuple(r for r in self.replicas if r not in self.removing)


def internal_factor(brokers: int) -> int:
    """Replicas of Kafka's own topics in a Cluster with this number of brokers."""
    return min(3, brokers)


def refusal(partitions: Sequence[Placed], leaving: Collection[int], remaining: int) -> str:
    """Why these brokers cannot leave: topics with more replicas than brokers would remain; else empty."""
    too_many = {p.name.topic: len(p.target) for p in partitions if not p.internal and len(p.target) > remaining}
    if not too_many:
        return ""
    topic, factor = min(too_many.items())
    others = f" and {len(too_many) - 1} more topics" if len(too_many) > 1 else ""
    brokers = "1 broker" if remaining == 1 else f"{remaining} brokers"
    return (
        f"{topic} has replication factor {factor}{others}, and {brokers} would remain: "
        "lower its replication factor first, or set brokers.replicas back"
    )


def to_drain(partitions: Sequence[Placed], leaving: Collection[int]) -> int:
    """Replicas that leaving brokers still keep."""
    return sum(replica in leaving for p in partitions for replica in p.replicas)


def plan_drain(
    partitions: Sequence[Placed], leaving: Collection[int], brokers: Sequence[BrokerView], most: int = MOVES_AT_ONCE
) -> Moves:
    """New replicas for the next partitions that leaving brokers keep; internal topics shrink where they must."""
    remaining = [b for b in brokers if b.id not in leaving and not b.fenced]
    load = _load(partitions)
    moves: Moves = {}
    room = most - sum(p.moving for p in partitions)
    for p in partitions:
        if room <= len(moves):
            break
        gone = [r for r in p.target if r in leaving]
        if not gone or p.moving:
            continue
        replicas: list[int | None] = [None if r in leaving else r for r in p.target]
        for place, replica in enumerate(replicas):
            if replica is None:
                chosen = _best(remaining, [r for r in replicas if r is not None], load)
                replicas[place] = chosen
                if chosen is not None:
                    load[chosen] += 1
        found = tuple(r for r in replicas if r is not None)
        if found and (len(found) == len(p.target) or p.internal):
            moves[p.name] = found
    return moves


def plan_internal(partitions: Sequence[Placed], brokers: Sequence[BrokerView], most: int = MOVES_AT_ONCE) -> Moves:
    """More replicas for Kafka's own topics where a Cluster that has grown allows them."""
    alive = [b for b in brokers if not b.fenced]
    factor = internal_factor(len(alive))
    load = _load(partitions)
    moves: Moves = {}
    room = most - sum(p.moving for p in partitions)
    for p in partitions:
        if room <= len(moves):
            break
        if not p.internal or p.moving or len(p.target) >= factor:
            continue
        replicas = list(p.target)
        while len(replicas) < factor and (chosen := _best(alive, replicas, load)) is not None:
            replicas.append(chosen)
            load[chosen] += 1
        moves[p.name] = tuple(replicas)
    return moves


def plan_balance(partitions: Sequence[Placed], brokers: Sequence[BrokerView], most: int = MOVES_AT_ONCE) -> Moves:
    """The next moves from full brokers to empty ones; none when no two brokers differ by more than one replica.

    A move never puts two replicas of a partition into one rack that were in two.
    """
    alive = {b.id: b for b in brokers if not b.fenced}
    load = Counter(dict.fromkeys(alive, 0)) + _load(partitions)
    for broker in alive:
        load.setdefault(broker, 0)
    by_topic = Counter((p.name.topic, r) for p in partitions for r in p.target)
    held: dict[int, list[Placed]] = {}
    for p in partitions:
        for replica in p.target:
            held.setdefault(replica, []).append(p)
    moves: Moves = {}
    room = most - sum(p.moving for p in partitions)
    while len(moves) < room:
        found = _next_balancing(held, alive, load, by_topic, moves)
        if found is None:
            break
        p, source, target = found
        moves[p.name] = tuple(target if r == source else r for r in p.target)
        load[source] -= 1
        load[target] += 1
        by_topic[p.name.topic, source] -= 1
        by_topic[p.name.topic, target] += 1
    return moves


def _next_balancing(
    held: Mapping[int, Sequence[Placed]],
    alive: Mapping[int, BrokerView],
    load: Counter[int],
    by_topic: Counter[tuple[str, int]],
    moves: Moves,
) -> tuple[Placed, int, int] | None:
    for source in sorted(alive, key=lambda b: (-load[b], b)):
        for target in sorted(alive, key=lambda b: (load[b], b)):
            if load[source] - load[target] <= 1:
                break
            candidates = [
                p
                for p in held.get(source, ())
                if p.name not in moves
                and not p.moving
                and target not in p.target
                and _racks_allow(p, source, target, alive)
            ]
            if candidates:
                # Off the broker that has most of this topic, and rather a follower than the preferred leader.
                def order(p: Placed, source: int = source, target: int = target) -> tuple[int, bool, TopicPartition]:
                    gain = by_topic[p.name.topic, source] - by_topic[p.name.topic, target]
                    return -gain, p.target[0] == source, p.name

                return min(candidates, key=order), source, target
    return None


def _racks_allow(p: Placed, source: int, target: int, alive: Mapping[int, BrokerView]) -> bool:
    rack = alive[target].rack
    others = {alive[r].rack for r in p.target if r != source and r in alive}
    return rack is None or rack not in others or alive[source].rack in others


def _load(partitions: Sequence[Placed]) -> Counter[int]:
    return Counter(replica for p in partitions for replica in p.target)


def _best(brokers: Sequence[BrokerView], taken: Sequence[int], load: Mapping[int, int]) -> int | None:
    """The broker for one more replica: in a rack that has none of this partition's, then with the fewest replicas."""
    racks = Counter(b.rack for b in brokers if b.id in taken)
    free = [b for b in brokers if b.id not in taken]
    return min(free, key=lambda b: (racks[b.rack] if b.rack else 0, load.get(b.id, 0), b.id)).id if free else None
