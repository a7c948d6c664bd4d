"""Places the replicas of new partitions: spread over racks, leaders and replicas evenly over brokers.

Kafka's StripedReplicaPlacer lets leaders go round the racks, so the only broker of a small rack leads as much as a
whole large rack does, and it begins at a random place, so that topics of one partition pile up by chance. Here:

* Every rack gets a replica before one gets two.
* Each broker leads as many partitions of a topic as the others, whatever its rack; a fenced broker leads none.
* Followers go to the broker with the fewest replicas, then to the one that follows this leader least, so that the
  leaderships of a lost broker spread over all the others.
* Topics begin one broker further each time, so single partitions spread as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from broadsheet_broker.wire.errors import ErrorCode, KafkaError


class UsableBroker(NamedTuple):
    """A broker that may be given replicas."""

    id: int
    rack: str | None
    fenced: bool


class ReplicaPlacer:
    """Places the partitions of one topic."""

    def __init__(self, brokers: Iterable[UsableBroker], rotation: int = 0) -> None:
        """`rotation`: how many brokers further than the first to begin."""
        ordered = _round_the_racks(sorted(brokers, key=lambda broker: broker.id))
        start = rotation % len(ordered) if ordered else 0
        self._brokers = [*ordered[start:], *ordered[:start]]
        self._unfenced = [broker for broker in self._brokers if not broker.fenced]
        self._leads: Counter[int] = Counter()
        self._has: Counter[int] = Counter()
        self._follows: Counter[tuple[int, int]] = Counter()
        """By leader and follower."""
        self._heirs: Counter[tuple[int, int]] = Counter()
        """By leader and first follower."""

    def place(self, partitions: int, replication_factor: int) -> list[list[int]]:
        """Replicas for that many partitions, preferred leader first.

        Raises KafkaError(INVALID_REPLICATION_FACTOR) when there are not enough brokers.
        """
        if replication_factor <= 0:
            raise _refused(f"Invalid replication factor {replication_factor}: the replication factor must be positive.")
        if not self._unfenced:
            raise _refused("All brokers are currently fenced, or have all their log directories cordoned.")
        if replication_factor > len(self._brokers):
            raise _refused(
                f"The target replication factor of {replication_factor} cannot be reached because only "
                f"{len(self._brokers)} broker(s) are registered or some brokers have all their log directories "
                "cordoned."
            )
        return [self._place_one(replication_factor) for _ in range(partitions)]

    def _place_one(self, replication_factor: int) -> list[int]:
        # min() takes the first of equals, so the order of the list breaks ties.
        leader = min(self._unfenced, key=lambda broker: (self._leads[broker.id], self._has[broker.id]))
        chosen = [leader]
        racks = Counter((leader.rack,))
        while len(chosen) < replication_factor:
            follower = min(
                (broker for broker in self._brokers if broker not in chosen),
                key=lambda broker: (
                    racks[broker.rack],
                    broker.fenced,
                    self._has[broker.id],
                    self._follows[leader.id, broker.id],
                ),
            )
            chosen.append(follower)
            racks[follower.rack] += 1
            self._follows[leader.id, follower.id] += 1
        self._leads[leader.id] += 1
        self._has.update(broker.id for broker in chosen)
        followers = sorted((broker.id for broker in chosen[1:]), key=lambda id: self._heirs[leader.id, id])
        if followers:
            self._heirs[leader.id, followers[0]] += 1
        return [leader.id, *followers]


def _round_the_racks(brokers: list[UsableBroker]) -> list[UsableBroker]:
    """One broker of each rack, then the second of each, and so on."""
    seen: Counter[str | None] = Counter()
    turns = []
    for broker in brokers:
        turns.append((seen[broker.rack], broker.rack or "", broker.id))
        seen[broker.rack] += 1
    by_id = {broker.id: broker for broker in brokers}
    return [by_id[id] for _, _, id in sorted(turns)]


def _refused(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICATION_FACTOR, message)
