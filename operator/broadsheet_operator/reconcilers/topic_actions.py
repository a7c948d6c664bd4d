"""What can be done to a topic: values that planners make and gateways carry out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from broadsheet_operator.api.quantities import format_rate

LEADER_THROTTLED = "leader.replication.throttled.replicas"
FOLLOWER_THROTTLED = "follower.replication.throttled.replicas"
"""Topic properties that say which replicas are limited. Reassignment tools set them for a while, too."""
LEADER_RATE = "leader.replication.throttled.rate"
FOLLOWER_RATE = "follower.replication.throttled.rate"
"""Properties of a broker: bytes a second that throttled replicas there send and take."""


def throttled_replicas(pairs: Iterable[tuple[int, int]]) -> str:
    """Partitions and brokers as Kafka writes them: `0:1,0:2,1:2`."""
    return ",".join(f"{partition}:{broker}" for partition, broker in sorted(pairs))


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """Make a topic. None: the cluster's default."""

    name: str
    partitions: int | None
    replication_factor: int | None
    configs: Mapping[str, str]
    lost: bool = False
    """It existed before and was deleted in Kafka."""
    assignments: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """By partition its brokers, the preferred leader first; empty: Kafka decides. With it, the two numbers are None."""

    def words(self) -> str:
        """For events and logs."""
        number = len(self.assignments) or self.partitions
        count = "the default number of" if number is None else str(number)
        words = f"create with {count} {'partition' if number == 1 else 'partitions'}"
        gone = f"the topic {self.name} was deleted in Kafka, and its records are gone: " if self.lost else ""
        return gone + words


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """Let a topic grow to `count` partitions."""

    name: str
    count: int
    before: int
    assignments: tuple[tuple[int, ...], ...] = ()
    """The brokers of each new partition; empty: Kafka decides."""

    def words(self) -> str:
        """For events and logs."""
        return f"grow from {self.before} to {self.count} partitions"


@dataclass(frozen=True, slots=True)
class AlterConfigs:
    """Set some properties of a topic, and give others back to the cluster's defaults."""

    name: str
    changes: Mapping[str, str]
    resets: tuple[str, ...]

    def words(self) -> str:
        """For events and logs."""
        parts = [f"{key}={value}" for key, value in self.changes.items()]
        parts += [f"{key} back to the default" for key in self.resets]
        return "set " + ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Reassign:
    """Move partitions to other replicas: partition to broker ids, the preferred leader first; None ends a move that is
    going on, and the partition stays where it was."""

    name: str
    replicas: Mapping[int, tuple[int, ...] | None]

    def words(self) -> str:
        """For events and logs."""
        count = len(self.replicas)
        partitions = f"{count} {'partition' if count == 1 else 'partitions'}"
        if all(replicas is None for replicas in self.replicas.values()):
            return f"leave {partitions} where they were"
        factors = sorted({len(replicas) for replicas in self.replicas.values() if replicas is not None})
        return f"give {partitions} {' or '.join(map(str, factors))} {'replica' if factors == [1] else 'replicas'} each"


@dataclass(frozen=True, slots=True)
class Throttle:
    """Limit what the replicas of a topic that are about to be copied, or are being copied, may take (KIP-73)."""

    name: str
    sources: tuple[tuple[int, int], ...]
    """Partition and broker of the replicas that are copied from."""
    targets: tuple[tuple[int, int], ...]
    """Partition and broker of the replicas that are made."""
    rate: int
    """Bytes a second, for each broker, in each direction."""

    def configs(self) -> dict[str, str]:
        """The topic's properties that say which replicas are limited."""
        return {
            LEADER_THROTTLED: throttled_replicas(self.sources),
            FOLLOWER_THROTTLED: throttled_replicas(self.targets),
        }

    @property
    def brokers(self) -> tuple[int, ...]:
        """The brokers that need the rate."""
        return tuple(sorted({broker for _, broker in (*self.sources, *self.targets)}))

    def words(self) -> str:
        """For events and logs."""
        return f"copy no more than {format_rate(self.rate)}/s per broker"


@dataclass(frozen=True, slots=True)
class Unthrottle:
    """Take the limits away that `Throttle` has set, from the brokers too if nothing else is being copied."""

    name: str

    def words(self) -> str:
        """For events and logs."""
        return "take the limit of copying away"


@dataclass(frozen=True, slots=True)
class ElectLeaders:
    """Give partitions back to their preferred leaders (KIP-460)."""

    name: str
    partitions: tuple[int, ...]

    def words(self) -> str:
        """For events and logs."""
        count = len(self.partitions)
        return f"give {count} {'partition' if count == 1 else 'partitions'} back to the preferred leader"


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    """Delete a topic with its records."""

    name: str
    topic_id: str

    def words(self) -> str:
        """For events and logs."""
        return "delete with all its records"


TopicAction = CreateTopic | AddPartitions | AlterConfigs | Throttle | Reassign | ElectLeaders | Unthrottle | DeleteTopic
