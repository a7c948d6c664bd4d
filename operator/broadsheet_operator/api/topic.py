"""Topic: a Kafka topic that is declared."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from broadsheet_operator.api.meta import (
    API_VERSION,
    ClusterReference,
    ConfigKey,
    ConfigKeys,
    ConfigMap,
    DeletionPolicy,
    Dependent,
    SpecModel,
    Status,
    StatusModel,
    TopicName,
    lenient_enum,
    unmanaged_keys,
)
from broadsheet_operator.api.owned import TOPIC_PROPERTIES, first_refusal
from broadsheet_operator.api.quantities import RetentionSize, RetentionTime, parse_duration, parse_size


class Adoption(StrEnum):
    """Whether a topic that is there already may be taken over."""

    IF_IDENTICAL = "IfIdentical"
    ALWAYS = "Always"
    NEVER = "Never"


class Retention(SpecModel):
    """How long records are kept. The limit that is reached first applies."""

    time: RetentionTime | None = None
    """Records older than this are deleted: 7d, 12h, 500ms, or unlimited (Kafka's retention.ms)."""
    size_per_partition: RetentionSize | None = None
    """A partition larger than this loses its oldest records: 10Gi, 1G, or unlimited (Kafka's retention.bytes)."""


FIELD_OF_CONFIG = {
    "retention.ms": "retention.time",
    "retention.bytes": "retention.sizePerPartition",
    "cleanup.policy": "cleanupPolicy",
    "min.insync.replicas": "minInSyncReplicas",
}
"""Kafka's name of what has a field of its own. One of the two may be used, not both."""


class TopicSpec(SpecModel):
    """The desired state of the topic."""

    cluster: ClusterReference
    """The Cluster that holds the topic: its name, or namespace/name. It cannot be changed."""
    topic_name: TopicName | None = None
    """The topic's name in Kafka, if it is not the name of this resource. It cannot be changed."""
    partitions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How many partitions; it can grow, never shrink. Left out: the cluster's default, or what the topic has."""
    replication_factor: Annotated[int, Field(ge=1, le=128)] | None = None
    """The number of brokers that keep each partition. Left out: the cluster's default, or what the topic has."""
    retention: Retention | None = None
    """How long records are kept. Left out: the cluster's default."""
    cleanup_policy: Literal["delete", "compact", "compact,delete"] | None = None
    """Old records: delete, compact (the last of each key stays) or compact,delete. Left out: the cluster's default."""
    min_in_sync_replicas: Annotated[int, Field(ge=1, le=128)] | None = None
    """How many replicas must have a record before acks=all is answered. Left out: the cluster's default."""
    config: ConfigMap | None = None
    """Any other topic property under its Kafka name."""
    unmanaged_config: ConfigKeys | None = None
    """Topic properties that are left alone, because another tool sets them. null as a value in config means the same,
    but kubectl apply drops it without --server-side."""
    deletion_policy: Annotated[DeletionPolicy, lenient_enum(DeletionPolicy)] = DeletionPolicy.RETAIN
    """What happens to the topic and its records when this resource is deleted: Retain or Delete."""
    adoption: Annotated[Adoption, lenient_enum(Adoption)] = Adoption.IF_IDENTICAL
    """Whether a topic that exists already is taken over: IfIdentical, Always (it is changed to fit), Never."""

    @field_validator("topic_name")
    @classmethod
    def _not_a_dot(cls, value: str | None) -> str | None:
        if value in (".", ".."):
            raise ValueError("Kafka keeps the names . and .. for itself")
        return value

    @model_validator(mode="after")
    def _agree(self) -> TopicSpec:
        if (
            self.replication_factor
            and self.min_in_sync_replicas
            and self.min_in_sync_replicas > self.replication_factor
        ):
            raise ValueError(
                f"minInSyncReplicas is {self.min_in_sync_replicas} but replicationFactor is {self.replication_factor}: "
                "nothing could ever be written with acks=all"
            )
        refusal = first_refusal(self.config or (), TOPIC_PROPERTIES)
        if refusal:
            raise ValueError(refusal)
        given = self.field_configs()
        for place, keys in (("config", self.config or {}), ("unmanagedConfig", self.unmanaged_config or [])):
            twice = [key for key in given if key in keys]
            if twice:
                other = FIELD_OF_CONFIG[twice[0]]
                raise ValueError(f"{place} {twice[0]} and {other} are about the same thing; keep one of them")
        unmanaged_keys(self.config, self.unmanaged_config)
        return self

    def field_configs(self) -> dict[str, str]:
        """The Kafka properties that stand in fields of their own."""
        configs: dict[str, str] = {}
        if self.retention and self.retention.time is not None:
            configs["retention.ms"] = str(parse_duration(self.retention.time))
        if self.retention and self.retention.size_per_partition is not None:
            configs["retention.bytes"] = str(parse_size(self.retention.size_per_partition))
        if self.cleanup_policy is not None:
            configs["cleanup.policy"] = self.cleanup_policy
        if self.min_in_sync_replicas is not None:
            configs["min.insync.replicas"] = str(self.min_in_sync_replicas)
        return configs

    def configs(self) -> dict[str, str | None]:
        """All asked-for Kafka properties; None means hands off that key."""
        configs: dict[str, str | None] = dict(self.field_configs())
        configs |= {key: str(value) for key, value in (self.config or {}).items() if value is not None}
        return configs | dict.fromkeys(unmanaged_keys(self.config, self.unmanaged_config))


class Reassignment(StatusModel):
    """Replicas on the move."""

    partitions: Annotated[int, Field(ge=0)]
    """How many partitions are still moving."""
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """How much of what was to be copied has been copied."""
    remaining: Annotated[str, StringConstraints(max_length=24)] | None = None
    """Bytes still to be copied, in round figures."""
    total_bytes: Annotated[int, Field(ge=0)] | None = None
    """Bytes that were to be copied when it began."""
    throttle: Annotated[str, StringConstraints(max_length=24)] | None = None
    """Replication throttle per broker, in bytes per second. Absent: not throttled."""
    message: Annotated[str, StringConstraints(max_length=1024)] = ""
    """What moves."""


class TopicStatus(Status):
    """The observed state of the topic."""

    topic_name: TopicName | None = None
    """The topic's name in Kafka."""
    topic_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Kafka's id of the topic that belongs to this resource."""
    partitions: Annotated[int, Field(ge=0)] | None = None
    """How many partitions there are."""
    replication_factor: Annotated[int, Field(ge=0)] | None = None
    """How many replicas each partition has (the fewest, if they differ)."""
    configs: Annotated[
        dict[ConfigKey, Annotated[str, StringConstraints(max_length=4096)]] | None, Field(max_length=256)
    ] = None
    """The properties of the topic that differ from the cluster's defaults."""
    in_sync: Annotated[str, StringConstraints(max_length=32)] | None = None
    """Replicas in sync of all replicas: 9/9 is healthy."""
    worst_partition: Annotated[str, StringConstraints(max_length=512)] | None = None
    """The partition that is worst off, by name, when not all replicas are in sync."""
    size: Annotated[str, StringConstraints(max_length=24)] | None = None
    """Bytes on the brokers' disks, all replicas together, in round figures."""
    reassignment: Reassignment | None = None
    """Progress while replicas move."""


class Topic(Dependent):
    """A topic in a Kafka cluster: its partitions, replicas, retention and properties."""

    PLURAL: ClassVar[str] = "topics"
    NAME_FIELD: ClassVar[str] = "topicName"

    api_version: Literal["broadsheet.io/v1alpha1"] = API_VERSION
    kind: Literal["Topic"] = "Topic"
    spec: TopicSpec
    status: TopicStatus | None = None

    @property
    def topic_name(self) -> str:
        """The name in Kafka."""
        return self.spec.topic_name or self.metadata.name

    @property
    def kafka_name(self) -> str:
        """The name in Kafka."""
        return self.topic_name
