"""The interface of a group to its shard. The shard knows no kind of group; a new kind adds a class."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from broadsheet_broker.coordinators.groups.answers import JoinReply, LeaveReply, SyncReply
from broadsheet_broker.coordinators.groups.settings import Context
from broadsheet_broker.coordinators.runtime.turn import Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest

CONSUMER_PROTOCOL_TYPE: Final = "consumer"


class OffsetExpiry(NamedTuple):
    """The start of the retention time of a group's offsets (Kafka's OffsetExpirationCondition)."""

    since_ms: int
    """Wall clock, milliseconds since the Unix epoch; -1: each offset from its own commit."""


class Group(Protocol):
    """A group of one partition of `__consumer_offsets`. It writes and replies only through a `Turn`."""

    @property
    def group_id(self) -> str: ...

    @property
    def type(self) -> str:
        """`classic`, `consumer` ...: as ListGroups shows it."""
        ...

    @property
    def state(self) -> str:
        """As Kafka's tools print it: `Stable`."""
        ...

    @property
    def protocol_type(self) -> str | None:
        """`consumer`, `connect` ...; None for a group that only keeps offsets."""
        ...

    @property
    def generation(self) -> int:
        """Generation or epoch of the group; -1 when this broker does not follow it."""
        ...

    @property
    def size(self) -> int:
        """Members that this broker knows of."""
        ...

    # Membership (the classic protocol's requests; a group of another type may serve or refuse them)

    def join(self, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply) -> None:
        """JoinGroup. The session timeout has been checked."""
        ...

    def sync(self, request: SyncGroupRequest, turn: Turn, reply: SyncReply) -> None:
        """SyncGroup."""
        ...

    def heartbeat(self, request: HeartbeatRequest, now: float) -> ErrorCode:
        """Heartbeat. The one request without a turn: it is frequent, writes nothing and is answered at once."""
        ...

    def leave(self, request: LeaveGroupRequest, turn: Turn, reply: LeaveReply) -> None:
        """LeaveGroup."""
        ...

    # Offsets

    def commit_allowed(self, request: OffsetCommitRequest) -> ErrorCode:
        """Whether a commit comes from a current member, or from a client outside any group (KIP-211)."""
        ...

    def committing(self, member_id: str, now: float) -> None:
        """A commit was allowed, which shows that the member is alive."""
        ...

    def offset_deletion_allowed(self) -> ErrorCode:
        """Whether an administrator may delete offsets of topics that the group does not read."""
        ...

    def subscribes_to(self, topic: str) -> bool:
        """Whether the group reads the topic now; true where that cannot be known."""
        ...

    def offset_expiry(self) -> OffsetExpiry | None:
        """How offsets of topics that the group does not read expire; None while none of them may."""
        ...

    @property
    def keeps_own_records(self) -> bool:
        """Whether this broker may write records of the group. Not those of a type that it does not run."""
        ...

    # Administration

    def deletion_allowed(self) -> ErrorCode:
        """Whether an administrator may delete the group."""
        ...

    @property
    def is_vacant(self) -> bool:
        """Whether the group has no members and nobody is about to join; it may then be deleted with its last offset."""
        ...

    def describe(self, version: int) -> DescribedGroup:
        """DescribeGroups."""
        ...

    # Time, beginning and end

    @property
    def wake_at(self) -> float:
        """No deadline of the group is earlier; monotonic seconds. It may be too early."""
        ...

    def wake(self, turn: Turn) -> None:
        """Do what is due. Called at `wake_at` or later; sets it again."""
        ...

    def loaded(self, turn: Turn) -> None:
        """The group has been read from the log, and its members may not know this coordinator yet."""
        ...

    def abandon(self, turn: Turn, error: ErrorCode) -> None:
        """The group is deleted, or its partition has moved: answer every request that waits, then do nothing."""
        ...
