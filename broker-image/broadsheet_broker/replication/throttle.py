"""Replication throttles (KIP-73): how fast replicas that catch up may be fed, so that others are not starved.

A rate is a broker's (`leader.replication.throttled.rate`, `follower.replication.throttled.rate`, bytes per second); the
replicas it applies to are the topics' (`leader.replication.throttled.replicas` and its sister: `*`, or pairs
partition:broker). A replica in the ISR is never held back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from broadsheet_broker.config import whole_number

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition

LEADER_REPLICAS = "leader.replication.throttled.replicas"
FOLLOWER_REPLICAS = "follower.replication.throttled.replicas"
UNLIMITED = 2**63 - 1
_BURST_SECONDS = 1.0
"""How much of the rate may be used at once after a quiet time (Kafka measures over windows of a second)."""


class Throttle:
    """A budget of bytes that fills at a steady rate and may be overdrawn by what has been sent already."""

    __slots__ = ("_balance", "_filled", "rate")

    def __init__(self) -> None:
        self.rate = UNLIMITED
        """Bytes per second."""
        self._balance = 0.0
        self._filled = 0.0

    def set_rate(self, rate: int, now: float) -> None:
        if rate != self.rate:
            self.rate = rate
            self._balance = rate * _BURST_SECONDS
            self._filled = now

    def record(self, size: int, now: float) -> None:
        if self.rate != UNLIMITED:
            self._fill(now)
            self._balance -= size

    def delay(self, now: float) -> float:
        """Seconds until something may be sent again; 0 when it may be now."""
        if self.rate == UNLIMITED:
            return 0.0
        self._fill(now)
        return -self._balance / max(self.rate, 1) if self._balance < 0 else 0.0

    def _fill(self, now: float) -> None:
        self._balance = min(self._balance + (now - self._filled) * self.rate, self.rate * _BURST_SECONDS)
        self._filled = now


class ThrottledReplicas:
    """Which partitions of a topic are throttled on one broker, from the topic's property."""

    __slots__ = ("_all", "_partitions")

    def __init__(self, text: str, broker_id: int) -> None:
        items = [item.strip() for item in text.split(",") if item.strip()]
        self._all = "*" in items
        own = str(broker_id)
        pairs = [item.split(":") for item in items if ":" in item]
        numbers = (whole_number(pair[0]) for pair in pairs if pair[1] == own)
        self._partitions = frozenset(number for number in numbers if number is not None)

    def __bool__(self) -> bool:
        return self._all or bool(self._partitions)

    def __contains__(self, partition: int) -> bool:
        return self._all or partition in self._partitions


class ThrottledTopics:
    """The throttled replicas of every topic that has a replica here. False when there are none."""

    __slots__ = ("_broker_id", "_found")

    def __init__(self, broker_id: int) -> None:
        self._broker_id = broker_id
        self._found: dict[tuple[str, str], ThrottledReplicas] = {}
        """By topic and property; only what is not empty."""

    def __bool__(self) -> bool:
        return bool(self._found)

    def read(self, topic: str, values: Mapping[str, str]) -> None:
        """Take up the properties of a topic."""
        for key in (LEADER_REPLICAS, FOLLOWER_REPLICAS):
            text = values.get(key)
            found = ThrottledReplicas(text, self._broker_id) if text else None
            if found:
                self._found[topic, key] = found
            else:
                self._found.pop((topic, key), None)

    def forget(self, topic: str) -> None:
        """The topic was deleted."""
        for key in (LEADER_REPLICAS, FOLLOWER_REPLICAS):
            self._found.pop((topic, key), None)

    def follower_is_held_back(self, partition: Partition) -> bool:
        """Whether copying to this broker counts against its throttle; not while its replica is in the ISR."""
        return self._applies(partition, FOLLOWER_REPLICAS) and self._broker_id not in partition.isr

    def leader_counts(self, partition: Partition, replica: int) -> bool:
        """Whether what a follower is sent of a partition led here counts against the throttle."""
        return self._applies(partition, LEADER_REPLICAS) and replica not in partition.isr

    def _applies(self, partition: Partition, key: str) -> bool:
        found = self._found.get((partition.topic, key)) if self._found else None
        return found is not None and partition.index in found
