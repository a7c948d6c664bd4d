"""SyncGroup: the leader of a classic group sends the assignment, which is stored before members get their parts."""

from __future__ import annotations

import logging
from functools import partial

from broadsheet_broker.coordinators.groups.answers import SyncReply, sync_error
from broadsheet_broker.coordinators.groups.classic import records
from broadsheet_broker.coordinators.groups.classic.group import ClassicGroup
from broadsheet_broker.coordinators.groups.classic.member import Member
from broadsheet_broker.coordinators.groups.classic.rebalance import Rebalance
from broadsheet_broker.coordinators.groups.classic.state import COMPLETING, DEAD, EMPTY, PREPARING, STABLE
from broadsheet_broker.coordinators.runtime.turn import NEVER, Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse

logger = logging.getLogger(__name__)


class Syncing:
    """SyncGroup."""

    __slots__ = ("_rebalance",)

    def __init__(self, rebalance: Rebalance) -> None:
        self._rebalance = rebalance

    def sync(self, group: ClassicGroup, request: SyncGroupRequest, turn: Turn, reply: SyncReply) -> None:
        """A member asks for its part of the assignment; the leader sends all parts."""
        error = self._check_sync(group, request)
        if error:
            turn.reply(reply, sync_error(error))
            return
        member = group.members[request.member_id]
        group.pending_syncs.discard(member.member_id)
        if not group.pending_syncs:
            group.sync_deadline = NEVER
        if group.state is STABLE:
            turn.reply(reply, self._sync_answer(group, member))
            return
        if member.sync_reply is not None:
            turn.reply(member.sync_reply, sync_error(ErrorCode.REBALANCE_IN_PROGRESS))
        member.sync_reply = reply
        if group.leader == member.member_id and group.assigning != group.generation:
            group.assigning = group.generation
            assignment = {each.member_id: each.assignment for each in request.assignments}
            logger.info(
                "Group %s: assignment of generation %d from %s", group.group_id, group.generation, member.member_id
            )
            turn.write(
                [records.group_metadata(group, assignment)],
                partial(self._assignment_stored, group, group.generation, assignment),
                key=group.group_id,
            )

    def _check_sync(self, group: ClassicGroup, request: SyncGroupRequest) -> ErrorCode:
        if group.state is DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if group.state is EMPTY:
            return ErrorCode.UNKNOWN_MEMBER_ID
        error = group.check_member(request.member_id, request.group_instance_id)
        if error:
            return error
        if request.generation_id != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        if _differs(request.protocol_type, group.protocol_type) or _differs(request.protocol_name, group.protocol_name):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if group.state is PREPARING:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def _assignment_stored(
        self, group: ClassicGroup, generation: int, assignment: dict[str, bytes], turn: Turn, error: ErrorCode
    ) -> None:
        """The record of a generation is committed, or has failed. The group may have moved on meanwhile."""
        if group.state is not COMPLETING or group.generation != generation:
            return
        group.assigning = -1
        if error:
            self._rebalance.reset_assignment(group, turn, error)
            self._rebalance.begin_or_complete(group, turn, f"the assignment could not be stored: {error.name}")
            return
        for member in group.members.values():
            member.assignment = assignment.get(member.member_id, b"")
            member.stored_id = member.member_id
        group.transition_to(STABLE, turn.time_ms)
        for member in group.members.values():
            reply = member.sync_reply
            if reply is not None:
                member.sync_reply = None
                turn.reply(reply, self._sync_answer(group, member))
                group.extend(member, turn.now)

    def _sync_answer(self, group: ClassicGroup, member: Member) -> SyncGroupResponse:
        return SyncGroupResponse(
            error_code=0,
            protocol_type=group.protocol_type,
            protocol_name=group.protocol_name,
            assignment=member.assignment,
        )


def _differs(requested: str | None, actual: str | None) -> bool:
    return requested is not None and actual is not None and requested != actual
