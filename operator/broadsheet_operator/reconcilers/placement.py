"""Where replicas go when a replication factor changes: few moves, racks spread, brokers evenly loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from broadsheet_operator.reconcilers.observed import BrokerView, PartitionView


def plan_replicas(
    partitions: Sequence[PartitionView], factor: int, brokers: Sequence[BrokerView]
) -> dict[int, tuple[int, ...]]:
    """Partition to its new replicas, for partitions that do not have `factor` of them and are not moving already.

    Replicas that stay keep their order, so the preferred leader does not change. A replica is added on the broker
    whose rack the partition has least, then on the one with the fewest replicas of the topic. A replica is taken away
    first where it is dead or out of sync, then where its rack is doubled, then on the fullest broker; the leader stays.
    """
    alive = {b.id: b for b in brokers if not b.fenced}
    if factor > len(alive):
        return {}
    racks = {b.id: b.rack for b in brokers}
    load = Counter(r for p in partitions for r in p.replicas)
    moves: dict[int, tuple[int, ...]] = {}
    for partition in partitions:
        if partition.moving or len(partition.replicas) == factor:
            continue
        replicas = list(partition.replicas)
        while len(replicas) > factor:
            gone = max(replicas, key=lambda r: _expendable(r, partition, replicas, alive, racks, load))
            replicas.remove(gone)
            load[gone] -= 1
        while len(replicas) < factor:
            held = Counter(racks.get(r) for r in replicas)
            free = [b for b in alive if b not in replicas]
            chosen = min(free, key=lambda b: (held[racks[b]] if racks[b] else 0, load[b], b))
            replicas.append(chosen)
            load[chosen] += 1
        moves[partition.index] = tuple(replicas)
    return moves


def _expendable(
    replica: int,
    partition: PartitionView,
    replicas: Sequence[int],
    alive: dict[int, BrokerView],
    racks: dict[int, str | None],
    load: Counter[int],
) -> tuple[bool, bool, bool, int, int, int]:
    rack = racks.get(replica)
    doubled = sum(racks.get(r) == rack for r in replicas) if rack else 0
    return (
        replica != partition.leader,
        replica not in alive,
        replica not in partition.isr,
        doubled,
        load[replica],
        list(replicas).index(replica),
    )
