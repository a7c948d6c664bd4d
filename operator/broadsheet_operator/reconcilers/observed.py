"""What a gateway saw in a Kafka cluster, as plain values. Planners get these and never a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from broadsheet_operator.reconcilers.reasons import Reason


@dataclass(frozen=True, slots=True)
class Failure:
    """Something did not work. An error is a value here: it becomes the reason and message of a condition."""

    reason: Reason
    message: str
    """A sentence for people, with Kafka's own words where it has some."""
    retriable: bool = True
    """False: trying again without a change is useless."""


class TopicPartition(NamedTuple):
    """One section of one newspaper."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True)
class BrokerView:
    """A broker as the cluster's metadata has it."""

    id: int
    host: str = ""
    port: int = 0
    rack: str | None = None
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster in a few words."""

    cluster_id: str
    controller: int | None
    brokers: tuple[BrokerView, ...]

    @property
    def alive(self) -> tuple[BrokerView, ...]:
        """Brokers that can take replicas."""
        return tuple(b for b in self.brokers if not b.fenced)


@dataclass(frozen=True, slots=True)
class LogDirectory:
    """The disk under a log directory of a broker (KIP-827)."""

    path: str
    capacity: int
    """Bytes."""
    available: int
    """Bytes that the broker may still use."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What a broker keeps, and where."""

    size: int
    """Bytes of all replicas."""
    directories: tuple[LogDirectory, ...] = ()
    """Those of which the broker says how large their disks are."""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A partition as the cluster's metadata has it."""

    index: int
    leader: int | None
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    moving: bool = False
    """A reassignment of this partition is going on."""
    adding: tuple[int, ...] = ()
    """Replicas that it makes."""
    removing: tuple[int, ...] = ()
    """Replicas that it takes away when those are made."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """Bytes by broker, where the brokers said so."""

    @property
    def settled(self) -> tuple[int, ...]:
        """The replicas without those that are being made: what the partition can rely on."""
        return tuple(r for r in self.replicas if r not in self.adding)


@dataclass(frozen=True, slots=True)
class ConfigView:
    """A topic property as it is in force."""

    value: str | None
    """None: a secret, or nothing."""
    overridden: bool
    """Set on this topic, not inherited from the brokers."""


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic that exists."""

    name: str
    topic_id: str
    partitions: tuple[PartitionView, ...]
    configs: Mapping[str, ConfigView]
    internal: bool = False
    size: int | None = None
    """Bytes of all replicas on disk; None when the brokers did not say."""
    rates: Mapping[int, tuple[int | None, int | None]] = field(default_factory=dict)
    """By broker, bytes a second that throttled replicas send and take there. Looked at only while some are limited."""

    @property
    def replication_factor(self) -> int:
        """Replicas of the partition that has the fewest, without those that are being made."""
        return min((len(p.settled) for p in self.partitions), default=0)


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member of a group."""

    member_id: str
    client_id: str
    host: str
    instance_id: str | None
    assigned: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group and the logs it reads. Ends were read after the committed offsets, so lag is never negative."""

    group_id: str
    exists: bool
    """False: no member and no offset, as far as the coordinator knows."""
    state: str
    members: tuple[MemberView, ...] = ()
    committed: Mapping[TopicPartition, int] = field(default_factory=dict)
    starts: Mapping[TopicPartition, int] = field(default_factory=dict)
    ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    record_times: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Unix ms of the first record at or after the committed offset, where there is one to read."""
    offsets_at_time: Mapping[TopicPartition, int] = field(default_factory=dict)
    """For a reset to a time: the first offset at or after it (the end where there is none)."""


class GroupQuery(NamedTuple):
    """What is to be found out about a group beside its state and offsets."""

    topics: tuple[str, ...] = ()
    """Look at all partitions of these, too."""
    time_ms: int | None = None
    """Find the offsets at this time (Unix ms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LagQuery:
    """Which groups of a cluster are observed for their lag."""

    most_partitions: int
    """How many partitions all groups may have together; groups beyond are left out."""
    most_fetches: int
    """How many partitions are read for the time of a record."""
    known: frozenset[str] = frozenset()
    """Groups that are observed anyway."""
    excluded: tuple[str, ...] = ()
    """Patterns with * and ? of ids that are of no interest."""
    all_topics: bool = False
    """Observe the logs of all topics, not only of those that groups read."""
    times: Mapping[TopicPartition, Mapping[int, int]] = field(default_factory=dict)
    """Times of records that were found before: partition, offset, Unix ms."""


class LogView(NamedTuple):
    """A partition and its log."""

    name: TopicPartition
    partition: PartitionView
    start: int | None
    """None: its leader did not say."""
    end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LagView:
    """All groups of a cluster but those that are observed anyway, excluded or left out."""

    groups: tuple[GroupView, ...]
    left_out: int
    """Groups beyond `LagQuery.most_partitions`."""
    failed: int
    """Groups whose coordinator did not answer for them."""
    logs: tuple[LogView, ...]
    """Of all topics, if they were asked for."""
    times: Mapping[TopicPartition, Mapping[int, int]]
    """For the next query."""


@dataclass(frozen=True, slots=True)
class LackingPartition:
    """A partition some of whose replicas are not in sync."""

    name: TopicPartition
    leader: int | None
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    min_isr: int
    """As in force: no larger than the replication factor."""


@dataclass(frozen=True, slots=True)
class ClusterHealth:
    """How all partitions of a cluster are."""

    topics: int
    """Without Kafka's internal ones."""
    under_replicated: int
    offline: int
    leaders: Mapping[int, int]
    """Broker id to the partitions it leads."""
    replicas: Mapping[int, int]
    """Broker id to the partitions it keeps a replica of."""
    lacking: tuple[LackingPartition, ...] = ()
    """Those with a replica that is not in sync; of all others no stop of one broker can be unsafe."""
    single: Mapping[int, TopicPartition] = field(default_factory=dict)
    """Broker id to a partition whose only replica it keeps, if there is one."""
    internal_factor: int | None = None
    """Replicas of the partition of Kafka's own topics that has fewest; None while there is no such topic."""

    @property
    def under_min_isr(self) -> int:
        """Partitions that take no writes with acks=all."""
        return sum(len(p.isr) < p.min_isr for p in self.lacking)


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """A replica of the metadata log, as the quorum's leader knows it."""

    id: int
    directory: str
    """Its directory id, as a UUID is written."""
    end_offset: int
    silent_seconds: float | None
    """Since it was heard of last; None: never."""


@dataclass(frozen=True, slots=True)
class QuorumView:
    """The metadata quorum, as its leader has it."""

    leader: int
    high_watermark: int
    voters: tuple[ReplicaView, ...]
    observers: tuple[ReplicaView, ...] = ()


@dataclass(frozen=True, slots=True)
class FeaturesView:
    """Features of a cluster (KIP-584)."""

    finalized: Mapping[str, int]
    """The level at which the cluster works; a feature that is not here is at 0."""
    supported: Mapping[int, Mapping[str, tuple[int, int]]]
    """By broker, the lowest and the highest level that it knows of each feature."""
