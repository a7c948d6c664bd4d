"""Groups in the log of a type that this broker does not run."""

from __future__ import annotations

from broadsheet_broker.coordinators.groups.answers import (
    JoinReply,
    LeaveReply,
    SyncReply,
    join_error,
    nobody_left,
    not_described,
    sync_error,
)
from broadsheet_broker.coordinators.groups.group import CONSUMER_PROTOCOL_TYPE, OffsetExpiry
from broadsheet_broker.coordinators.groups.settings import Context
from broadsheet_broker.coordinators.runtime.turn import NEVER, Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest


class ForeignGroup:
    """A group that Apache Kafka has written, for example one of KIP-848.

    Its records are left alone, its offsets can be read, and nothing of it expires.
    """

    __slots__ = ("group_id", "type")

    state = "Unknown"
    protocol_type = CONSUMER_PROTOCOL_TYPE
    generation = -1
    size = 0
    keeps_own_records = False
    is_vacant = False
    wake_at = NEVER

    def __init__(self, group_id: str, type_: str) -> None:
        self.group_id = group_id
        self.type = type_

    def join(self, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply) -> None:
        turn.reply(reply, join_error(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))

    def sync(self, request: SyncGroupRequest, turn: Turn, reply: SyncReply) -> None:
        turn.reply(reply, sync_error(ErrorCode.UNKNOWN_MEMBER_ID))

    def heartbeat(self, request: HeartbeatRequest, now: float) -> ErrorCode:
        return ErrorCode.UNKNOWN_MEMBER_ID

    def leave(self, request: LeaveGroupRequest, turn: Turn, reply: LeaveReply) -> None:
        turn.reply(reply, nobody_left(request))

    def commit_allowed(self, request: OffsetCommitRequest) -> ErrorCode:
        outside = request.generation_id_or_member_epoch < 0 and not request.member_id
        return ErrorCode.NONE if outside else ErrorCode.UNKNOWN_MEMBER_ID

    def committing(self, member_id: str, now: float) -> None:
        return

    def offset_deletion_allowed(self) -> ErrorCode:
        return ErrorCode.UNSUPPORTED_VERSION

    def subscribes_to(self, topic: str) -> bool:
        return True

    def offset_expiry(self) -> OffsetExpiry | None:
        return None

    def deletion_allowed(self) -> ErrorCode:
        return ErrorCode.UNSUPPORTED_VERSION

    def describe(self, version: int) -> DescribedGroup:
        return not_described(self.group_id, version)

    def wake(self, turn: Turn) -> None:
        return

    def loaded(self, turn: Turn) -> None:
        return

    def abandon(self, turn: Turn, error: ErrorCode) -> None:
        return
