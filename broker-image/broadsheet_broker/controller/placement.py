"""Which brokers get the replicas of new partitions: striped over racks, then over brokers.

The rules are those of Kafka's StripedReplicaPlacer (KIP-631): every rack gets a replica before one gets two, leaders go
round the racks and, within one, round its brokers; a fenced broker may be a follower but not the leader; and after
each broker has led once, the order is shuffled, so that the same brokers do not always follow the same leaders.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from broadsheet_broker.wire.errors import ErrorCode, KafkaError


class UsableBroker(NamedTuple):
    """A broker that may be given replicas."""

    id: int
    rack: str | None
    fenced: bool


class _Brokers:
    """Brokers of one rack and one kind, handed out in turn; each epoch starts one further on."""

    __slots__ = ("_epoch", "_ids", "_index", "_offset")

    def __init__(self, ids: list[int], random: Random) -> None:
        self._ids = sorted(ids)
        self._offset = random.randrange(len(ids)) if ids else 0
        self._index = 0
        self._epoch = 0

    def shuffle(self, random: Random) -> None:
        random.shuffle(self._ids)

    def next(self, epoch: int) -> int | None:
        if not self._ids:
            return None
        if self._epoch != epoch:
            self._epoch = epoch
            self._index = 0
            self._offset = (self._offset + 1) % len(self._ids)
        if self._index >= len(self._ids):
            return None
        chosen = self._ids[(self._index + self._offset) % len(self._ids)]
        self._index += 1
        return chosen


class _Rack:
    __slots__ = ("fenced", "unfenced")

    def __init__(self, brokers: list[UsableBroker], random: Random) -> None:
        self.unfenced = _Brokers([broker.id for broker in brokers if not broker.fenced], random)
        self.fenced = _Brokers([broker.id for broker in brokers if broker.fenced], random)

    def next(self, epoch: int) -> int | None:
        chosen = self.unfenced.next(epoch)
        return self.fenced.next(epoch) if chosen is None else chosen


class ReplicaPlacer:
    """Places the partitions of one topic."""

    def __init__(self, brokers: Iterable[UsableBroker], random: Random) -> None:
        by_rack: dict[str | None, list[UsableBroker]] = {}
        for broker in brokers:
            by_rack.setdefault(broker.rack, []).append(broker)
        names = sorted(by_rack, key=lambda name: (name is not None, name or ""))
        self._racks = [_Rack(by_rack[name], random) for name in names]
        self._total = sum(map(len, by_rack.values()))
        self._unfenced = sum(not broker.fenced for rack in by_rack.values() for broker in rack)
        self._random = random
        self._epoch = 0
        self._offset = random.randrange(len(names)) if names else 0

    def place(self, partitions: int, replication_factor: int) -> list[list[int]]:
        """Replicas for that many partitions, preferred leader first.

        Raises KafkaError(INVALID_REPLICATION_FACTOR) when there are not enough brokers.
        """
        if replication_factor <= 0:
            raise _refused(f"Invalid replication factor {replication_factor}: the replication factor must be positive.")
        if self._unfenced == 0:
            raise _refused("All brokers are currently fenced, or have all their log directories cordoned.")
        if replication_factor > self._total:
            raise _refused(
                f"The target replication factor of {replication_factor} cannot be reached because only {self._total} "
                "broker(s) are registered or some brokers have all their log directories cordoned."
            )
        return [self._place_one(replication_factor) for _ in range(partitions)]

    def _place_one(self, replication_factor: int) -> list[int]:
        if self._epoch == self._unfenced and self._unfenced > 1:
            self._shuffle()
            self._epoch = 0
        if self._offset == len(self._racks):
            self._offset = 0
        leader_rack, leader = self._leader()
        chosen = [leader]
        rack = self._offset
        skip: int | None = leader_rack
        while len(chosen) < replication_factor:
            if rack == skip:
                skip = None  # the leader's rack is passed over once: it has had its turn
            else:
                follower = self._racks[rack].next(self._epoch)
                if follower is not None:
                    chosen.append(follower)
            rack = (rack + 1) % len(self._racks)
        self._epoch += 1
        self._offset += 1
        return chosen

    def _leader(self) -> tuple[int, int]:
        rack = self._offset
        while True:
            broker = self._racks[rack].unfenced.next(self._epoch)
            if broker is not None:
                return rack, broker
            rack = (rack + 1) % len(self._racks)

    def _shuffle(self) -> None:
        self._random.shuffle(self._racks)
        for rack in self._racks:
            rack.unfenced.shuffle(self._random)
            rack.fenced.shuffle(self._random)


def _refused(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICATION_FACTOR, message)
