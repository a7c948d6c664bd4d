"""The cluster as the metadata log describes it, up to one offset: immutable, and cheap to derive the next from.

An image is never changed: `metadata/delta.py` makes the next one from it and shares whatever the new records leave
alone. Readers may therefore keep an image for as long as they like and see one consistent moment of the cluster.

Maps are plain dicts by convention: copying one of a thousand entries costs some microseconds, once per group of
committed records, and looking up stays as fast as it can be.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from broadsheet_broker.wire.messages.access_control_entry_record import AccessControlEntryRecord
    from broadsheet_broker.wire.messages.delegation_token_record import DelegationTokenRecord
    from broadsheet_broker.wire.messages.user_scram_credential_record import UserScramCredentialRecord

NO_LEADER: Final = -1
"""A partition without leader is offline."""

DIRECTORY_MIGRATING: Final = uuid.UUID(int=0)
"""A replica from before log directories had ids."""
DIRECTORY_UNASSIGNED: Final = uuid.UUID(int=1)
"""The broker has not said yet in which of its directories the replica lives."""

METADATA_VERSION: Final = "metadata.version"
"""The feature that says which records, in which versions, the metadata log may hold (KIP-778)."""


class ResourceType(IntEnum):
    """What a configuration belongs to (org.apache.kafka.common.config.ConfigResource.Type)."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class ConfigResource(NamedTuple):
    """The key of `ClusterImage.configs`. A broker resource without name is the default of every broker."""

    type: int
    name: str


class Endpoint(NamedTuple):
    """Where a listener of a broker or a controller is reached."""

    host: str
    port: int
    security_protocol: int = 0
    """0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL."""


class PartitionImage(NamedTuple):
    """One partition. Broker ids throughout."""

    replicas: tuple[int, ...]
    """In order of preference: the first is the preferred leader."""
    directories: tuple[uuid.UUID, ...]
    """The log directory of each replica (KIP-858), in the order of `replicas`."""
    isr: tuple[int, ...]
    removing_replicas: tuple[int, ...]
    adding_replicas: tuple[int, ...]
    elr: tuple[int, ...]
    """Eligible leader replicas: out of the ISR, yet known to hold every committed record (KIP-966)."""
    last_known_elr: tuple[int, ...]
    leader: int
    leader_recovery_state: int
    """1 while a leader that was elected uncleanly recovers, else 0 (KIP-704)."""
    leader_epoch: int
    """Grows with each change of leader; fences stale clients and followers."""
    partition_epoch: int
    """Grows with each change of anything."""

    @property
    def is_reassigning(self) -> bool:
        return bool(self.removing_replicas or self.adding_replicas)


class TopicImage:
    """One topic with all its partitions; partition n is `partitions[n]`."""

    __slots__ = ("described", "id", "name", "partitions")

    def __init__(self, name: str, id: uuid.UUID, partitions: tuple[PartitionImage, ...]) -> None:
        self.name = name
        self.id = id
        self.partitions = partitions
        self.described: Any = None
        """A place for what a reader derived from this topic alone; it ends with the image of the topic."""

    def __repr__(self) -> str:
        return f"TopicImage({self.name!r}, {self.id}, {len(self.partitions)} partitions)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TopicImage):
            return NotImplemented
        return self.name == other.name and self.id == other.id and self.partitions == other.partitions

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A registered broker."""

    id: int
    epoch: int
    """The offset of its registration in the metadata log: distinguishes one registration of a broker from the next."""
    incarnation_id: uuid.UUID
    endpoints: Mapping[str, Endpoint]
    """By the name of the listener."""
    features: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The range of levels that the broker supports, by feature."""
    rack: str | None = None
    fenced: bool = True
    """A fenced broker is registered but not active: it leads nothing and clients do not see it."""
    in_controlled_shutdown: bool = False
    log_dirs: tuple[uuid.UUID, ...] = ()
    """Ids of the log directories that are online."""
    cordoned_log_dirs: tuple[uuid.UUID, ...] | None = None
    """Directories that take no new partitions; None when the broker never said (metadata.version below 4.3)."""

    @property
    def is_active(self) -> bool:
        """May be a leader and a member of an ISR."""
        return not self.fenced and not self.in_controlled_shutdown

    def has_directory(self, partition: PartitionImage) -> bool:
        """Whether the broker still has the log directory of its replica, as far as both are known (KIP-858)."""
        if not self.log_dirs or self.id not in partition.replicas:
            return True
        directory = partition.directories[partition.replicas.index(self.id)]
        return directory in (DIRECTORY_UNASSIGNED, DIRECTORY_MIGRATING) or directory in self.log_dirs


@dataclass(frozen=True, slots=True)
class ControllerInfo:
    """A registered controller (KIP-919)."""

    id: int
    incarnation_id: uuid.UUID
    endpoints: Mapping[str, Endpoint]
    features: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    zk_migration_ready: bool = False


QuotaEntity = tuple[tuple[str, str | None], ...]
"""Pairs of entity type and name, sorted by type; the name None is the default of that type."""


@dataclass(frozen=True, slots=True)
class ClusterImage:
    """Everything the metadata log says, up to and including `offset`."""

    cluster_id: str = ""
    offset: int = -1
    """The last record applied; -1 before the first."""
    epoch: int = -1
    """The leader epoch of the batch that held it."""
    timestamp_ms: int = -1
    """When the leader appended that batch."""
    controller_id: int = -1
    """The leader of the metadata quorum as this node knows it; -1 while there is none."""
    features: Mapping[str, int] = field(default_factory=dict)
    """Finalized levels; a feature at level 0 is left out."""
    brokers: Mapping[int, BrokerInfo] = field(default_factory=dict)
    controllers: Mapping[int, ControllerInfo] = field(default_factory=dict)
    topics_by_name: Mapping[str, TopicImage] = field(default_factory=dict)
    topics_by_id: Mapping[uuid.UUID, TopicImage] = field(default_factory=dict)
    configs: Mapping[ConfigResource, Mapping[str, str]] = field(default_factory=dict)
    next_producer_id: int = 0
    client_quotas: Mapping[QuotaEntity, Mapping[str, float]] = field(default_factory=dict)
    acls: Mapping[uuid.UUID, AccessControlEntryRecord] = field(default_factory=dict)
    scram: Mapping[tuple[str, int], UserScramCredentialRecord] = field(default_factory=dict)
    """By user name and mechanism."""
    delegation_tokens: Mapping[str, DelegationTokenRecord] = field(default_factory=dict)
    derived: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """A place for what readers derive from this image alone; it ends with the image."""

    def config(self, type: int, name: str) -> Mapping[str, str]:
        """What was set dynamically for a resource; empty when nothing was."""
        return self.configs.get(ConfigResource(type, name), _NO_CONFIG)

    def partition(self, topic: str, index: int) -> PartitionImage | None:
        found = self.topics_by_name.get(topic)
        if found is None or not 0 <= index < len(found.partitions):
            return None
        return found.partitions[index]


_NO_CONFIG: Final[Mapping[str, str]] = {}
EMPTY_IMAGE: Final = ClusterImage()
