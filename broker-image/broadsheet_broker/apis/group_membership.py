"""JoinGroup, Heartbeat, LeaveGroup and SyncGroup (keys 11 to 14): membership of classic groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.coordinators import Context
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.leave_group_request import MemberIdentity
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
    from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
    from broadsheet_broker.wire.messages.join_group_response import JoinGroupResponse
    from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
    from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest

NULLABLE_PROTOCOL_FROM = 7
"""JoinGroup version from which a refusal has no protocol name; before, it is empty."""
MANY_MEMBERS_FROM = 3
"""LeaveGroup version from which several members leave at once (KIP-345)."""
PROTOCOL_REQUIRED_FROM = 5
"""SyncGroup version from which the client must repeat type and name of the protocol (KIP-559)."""


def context_of(request: Request[Any]) -> Context:
    """The client, as the coordinator records it. The address begins with a slash, as Java prints it."""
    return Context(request.client_id, f"/{request.connection.host}", request.version)


@serves(11, "JoinGroup", (0, 9))
def join_group(services: Services, request: Request[JoinGroupRequest]) -> None:
    body = request.body
    if request.version == 0:
        body.rebalance_timeout_ms = body.session_timeout_ms  # version 0 has one timeout for both

    def answer(response: JoinGroupResponse) -> None:
        if response.protocol_name is None and request.version < NULLABLE_PROTOCOL_FROM:
            response.protocol_name = ""
        request.answer(response)

    services.groups.join_group(body, context_of(request), answer)


@serves(12, "Heartbeat", (0, 4))
def heartbeat(services: Services, request: Request[HeartbeatRequest]) -> None:
    services.groups.heartbeat(request.body, None, request.answer)


@serves(13, "LeaveGroup", (0, 5))
def leave_group(services: Services, request: Request[LeaveGroupRequest]) -> None:
    body = request.body
    if request.version >= MANY_MEMBERS_FROM:
        services.groups.leave_group(body, context_of(request), request.answer)
        return
    body.members = [MemberIdentity(member_id=body.member_id)]

    def answer(response: LeaveGroupResponse) -> None:
        error = response.error_code or next((member.error_code for member in response.members), 0)
        request.answer(LeaveGroupResponse(error_code=error))

    services.groups.leave_group(body, context_of(request), answer)


@serves(14, "SyncGroup", (0, 5))
def sync_group(services: Services, request: Request[SyncGroupRequest]) -> None:
    body = request.body
    if request.version >= PROTOCOL_REQUIRED_FROM and (body.protocol_type is None or body.protocol_name is None):
        request.answer(SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
        return
    services.groups.sync_group(body, context_of(request), request.answer)
