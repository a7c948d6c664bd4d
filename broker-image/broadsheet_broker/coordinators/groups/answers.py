"""Refusals in the shape of each API: for groups that do not exist or are of another type."""

from __future__ import annotations

from collections.abc import Callable

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup
from broadsheet_broker.wire.messages.join_group_response import JoinGroupResponse
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse, MemberResponse
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse

JoinReply = Callable[[JoinGroupResponse], None]
SyncReply = Callable[[SyncGroupResponse], None]
LeaveReply = Callable[[LeaveGroupResponse], None]

DESCRIBE_NOT_FOUND_FROM = 6
"""DescribeGroups version from which a missing group is an error; before, it was described as Dead."""


def join_error(error: ErrorCode, member_id: str = "") -> JoinGroupResponse:
    """A refused JoinGroup."""
    return JoinGroupResponse(
        error_code=error, generation_id=-1, protocol_type=None, protocol_name=None, leader="", member_id=member_id
    )


def sync_error(error: ErrorCode) -> SyncGroupResponse:
    """A refused SyncGroup."""
    return SyncGroupResponse(error_code=error, protocol_type=None, protocol_name=None, assignment=b"")


def nobody_left(request: LeaveGroupRequest) -> LeaveGroupResponse:
    """A LeaveGroup of members that the group does not have."""
    error = ErrorCode.UNKNOWN_MEMBER_ID
    members = [
        MemberResponse(member_id=each.member_id, group_instance_id=each.group_instance_id, error_code=error)
        for each in request.members
    ]
    return LeaveGroupResponse(error_code=0, members=members)


def not_described(group_id: str, version: int) -> DescribedGroup:
    """A group that does not exist, or is not a classic group, as DescribeGroups answers it."""
    group = DescribedGroup(error_code=0, group_id=group_id, group_state="Dead")
    if version >= DESCRIBE_NOT_FOUND_FROM:
        group.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        group.error_message = f"Group {group_id} not found."
    return group
