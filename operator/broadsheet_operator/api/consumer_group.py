"""ConsumerGroup: a consumer group that is watched, and whose offsets can be reset."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from broadsheet_operator.api.meta import (
    API_VERSION,
    ClusterReference,
    DeletionPolicy,
    Dependent,
    SpecModel,
    Status,
    StatusModel,
    TopicName,
    lenient_enum,
)
from broadsheet_operator.api.quantities import Duration, Time

GroupId = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Offset = Annotated[int, Field(ge=0, le=2**63 - 1)]
PartitionIndex = Annotated[int, Field(ge=0, le=2**31 - 1)]


class ResetTo(StrEnum):
    """Where a reset goes."""

    EARLIEST = "earliest"
    LATEST = "latest"
    OFFSET = "offset"
    TIME = "time"
    SHIFT = "shift"
    OFFSETS = "offsets"


class Verdict(StrEnum):
    """What the last minutes say about a group."""

    OK = "OK"
    WARNING = "Warning"
    """It reads, but it falls further behind."""
    STALLED = "Stalled"
    """It has members and records to read, and does not get on."""
    STOPPED = "Stopped"
    """Nobody reads, and records wait."""
    REWOUND = "Rewound"
    """Its committed offsets went backwards."""


class LagLimits(SpecModel):
    """When lag is worth a warning."""

    max_records: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """The condition LagWithinLimits is False while the group has more records than this before it."""
    max_time: Duration | None = None
    """The condition LagWithinLimits is False while the oldest unread record is older than this: 5m, 1h."""
    window: Duration | None = None
    """How much of the past the verdict looks at. Left out: 5m."""


class ExactOffset(SpecModel):
    """The offset to set for one partition; `status.lastReset.replaced` has this form, so a reset can be undone."""

    topic: TopicName
    """The topic's name in Kafka."""
    partition: PartitionIndex
    """The partition's number."""
    offset: Offset
    """The offset of the next record to be read."""


class Reset(SpecModel):
    """Set the group's offsets once. It is done only while the group has no members, and when it is put into a resource
    that had none or another one: a recreated resource with a reset in it does not move a group that has offsets."""

    to: Annotated[ResetTo, lenient_enum(ResetTo)]
    """Where to: earliest, latest, offset, time, shift, or offsets (each partition by itself)."""
    offset: Offset | None = None
    """With `to: offset`: the offset of the next record to be read in every partition."""
    time: Time | None = None
    """With `to: time`: the first record at or after this time, as 2026-01-31T08:00:00Z."""
    shift_by: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    """With `to: shift`: the number of records to go forward, or back if negative."""
    offsets: (
        Annotated[
            list[ExactOffset], Field(max_length=1000, json_schema_extra={"x-list-map-keys": ["topic", "partition"]})
        ]
        | None
    ) = None
    """With `to: offsets`: the partitions and their offsets."""
    topics: (
        Annotated[list[TopicName], Field(min_length=1, max_length=100, json_schema_extra={"x-set": True})] | None
    ) = None
    """Only these topics. Left out: every topic for which the group has offsets."""
    dry_run: bool = False
    """Only say in the status what would be done."""

    @model_validator(mode="after")
    def _one_target(self) -> Reset:
        needed = {"offset": "offset", "time": "time", "shift": "shiftBy", "offsets": "offsets"}
        given = {
            "offset": self.offset is not None,
            "time": self.time is not None,
            "shiftBy": self.shift_by is not None,
            "offsets": self.offsets is not None,
        }
        wanted = needed.get(self.to.value)
        if wanted and not given[wanted]:
            raise ValueError(f"to: {self.to.value} needs the field {wanted}")
        for name, present in given.items():
            if present and name != wanted:
                raise ValueError(f"the field {name} does not go with to: {self.to.value}")
        if self.topics and self.to is ResetTo.OFFSETS:
            raise ValueError("the field topics does not go with to: offsets, which names its topics itself")
        return self

    def request(self) -> str:
        """The reset as one line of text: it is done once for each text."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class ConsumerGroupSpec(SpecModel):
    """Which group, and what is asked of it."""

    cluster: ClusterReference
    """The Cluster where the group reads: its name, or namespace/name. It cannot be changed."""
    group_id: GroupId | None = None
    """The group's id in Kafka, if it is not the name of this resource. It cannot be changed."""
    lag: LagLimits | None = None
    """When lag is worth a warning."""
    reset: Reset | None = None
    """Set the offsets once, while the group has no members. In a new resource it only gives a first position to a group
    without offsets; put it into a resource that is there to move one."""
    deletion_policy: Annotated[DeletionPolicy, lenient_enum(DeletionPolicy)] = DeletionPolicy.RETAIN
    """What happens to the group and its offsets when this resource is deleted: Retain or Delete."""


class GroupMember(StatusModel):
    """One reader of the club."""

    client_id: Annotated[str, StringConstraints(max_length=1024)]
    """The client's name for itself."""
    host: Annotated[str, StringConstraints(max_length=1024)] = ""
    """Where it connects from."""
    instance_id: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """group.instance.id of a static member."""
    partitions: Annotated[
        list[Annotated[str, StringConstraints(max_length=270)]],
        Field(max_length=1000, json_schema_extra={"x-atomic": True}),
    ] = Field(default_factory=list)
    """What it reads, as topic-partition (the first thousand)."""


class PartitionLag(StatusModel):
    """How far the group is in one partition."""

    topic: TopicName
    """The topic's name."""
    partition: PartitionIndex
    """The partition's number."""
    committed: Offset | None = None
    """The offset of the next record to be read. Absent: nothing was ever committed here."""
    end: Offset | None = None
    """The offset that the next new record will have."""
    lag: Offset | None = None
    """Records still to be read, without those that retention has deleted. Absent: nothing was ever committed here."""
    lag_seconds: Annotated[int, Field(ge=0)] | None = None
    """The age of the oldest record still to be read."""


class LastReset(StatusModel):
    """The last reset, and what undoes it."""

    generation: Annotated[int, Field(ge=0)]
    """The generation of the resource that asked for it."""
    request: Annotated[str, StringConstraints(max_length=262144)] | None = None
    """What was asked."""
    time: Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
    """When."""
    dry_run: bool = False
    """True: nothing was changed."""
    replaced: Annotated[list[ExactOffset], Field(max_length=1000, json_schema_extra={"x-atomic": True})] = Field(
        default_factory=list
    )
    """The offsets before. Put them under `reset: {to: offsets, offsets: ...}` to undo."""
    written: Annotated[list[ExactOffset], Field(max_length=1000, json_schema_extra={"x-atomic": True})] = Field(
        default_factory=list
    )
    """The offsets after, or with dryRun those that would be set."""


class ConsumerGroupStatus(Status):
    """How the group is doing."""

    group_id: GroupId | None = None
    """The group's id in Kafka."""
    state: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Kafka's word for its state: Stable, Empty, PreparingRebalance ..."""
    members: Annotated[int, Field(ge=0)] | None = None
    """How many members it has."""
    member_list: Annotated[list[GroupMember], Field(max_length=100, json_schema_extra={"x-atomic": True})] = Field(
        default_factory=list
    )
    """Its members (the first hundred)."""
    lag: Offset | None = None
    """Records still to be read, over all partitions with a committed offset."""
    lag_seconds: Annotated[int, Field(ge=0)] | None = None
    """The age of the oldest record still to be read."""
    uncommitted_partitions: Annotated[int, Field(ge=0)] | None = None
    """Partitions without a committed offset."""
    partitions: Annotated[list[PartitionLag], Field(max_length=1000, json_schema_extra={"x-atomic": True})] = Field(
        default_factory=list
    )
    """How far it is in each partition (the first thousand)."""
    verdict: Annotated[Verdict, lenient_enum(Verdict)] | None = None
    """OK, Warning (falls behind), Stalled (makes no progress), Stopped (has no members), Rewound (went back)."""
    verdict_message: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """The reason for the verdict."""
    last_reset: LastReset | None = None
    """The last reset, with the offsets it replaced."""
    settled_reset: Annotated[str, StringConstraints(max_length=262144)] | None = None
    """The reset that was done or passed over and is not done again; empty while the spec has none."""


class ConsumerGroup(Dependent):
    """A consumer group: its offsets, its lag, and whether it falls behind."""

    PLURAL: ClassVar[str] = "consumergroups"
    NAME_FIELD: ClassVar[str] = "groupId"

    api_version: Literal["broadsheet.io/v1alpha1"] = API_VERSION
    kind: Literal["ConsumerGroup"] = "ConsumerGroup"
    spec: ConsumerGroupSpec
    status: ConsumerGroupStatus | None = None

    @property
    def group_id(self) -> str:
        """The id in Kafka."""
        return self.spec.group_id or self.metadata.name

    @property
    def kafka_name(self) -> str:
        """The id in Kafka."""
        return self.group_id
