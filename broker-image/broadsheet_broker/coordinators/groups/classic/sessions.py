"""Heartbeat, LeaveGroup and timeouts of the members of a classic group, and the end of the group."""

from __future__ import annotations

import logging
from functools import partial

from broadsheet_broker.coordinators.groups.answers import LeaveReply, join_error, sync_error
from broadsheet_broker.coordinators.groups.classic.group import ClassicGroup
from broadsheet_broker.coordinators.groups.classic.member import Member
from broadsheet_broker.coordinators.groups.classic.rebalance import Rebalance, warn_if_not_stored
from broadsheet_broker.coordinators.groups.classic.state import COMPLETING, DEAD, PREPARING, STABLE
from broadsheet_broker.coordinators.groups.settings import GroupSettings
from broadsheet_broker.coordinators.runtime.turn import NEVER, Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse, MemberResponse

logger = logging.getLogger(__name__)


class Sessions:
    """Which members are still there."""

    __slots__ = ("_rebalance", "_settings")

    def __init__(self, settings: GroupSettings, rebalance: Rebalance) -> None:
        self._settings = settings
        self._rebalance = rebalance

    def heartbeat(self, group: ClassicGroup, request: HeartbeatRequest, now: float) -> ErrorCode:
        """A member is alive. The answer may ask it to rejoin."""
        state = group.state
        if state is DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = group.check_member(request.member_id, request.group_instance_id)
        if error:
            return error
        if request.generation_id != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        group.extend(group.members[request.member_id], now)
        return ErrorCode.REBALANCE_IN_PROGRESS if state is PREPARING else ErrorCode.NONE

    # LeaveGroup

    def leave(self, group: ClassicGroup, request: LeaveGroupRequest, turn: Turn, reply: LeaveReply) -> None:
        """Members leave, or an administrator removes static members by their instance id."""
        if group.state is DEAD:
            turn.reply(reply, LeaveGroupResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE))
            return
        answers = []
        for identity in request.members:
            error = self._leave_one(group, identity, turn)
            answers.append(
                MemberResponse(
                    member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=error
                )
            )
        write = None
        if any(answer.error_code == 0 for answer in answers):
            if group.state is STABLE or group.state is COMPLETING:
                write = self._rebalance.begin(group, turn, "members left")
            elif group.state is PREPARING:
                write = self._rebalance.complete_if_all_joined(group, turn)
        response = LeaveGroupResponse(error_code=0, members=answers)
        if write is None:
            turn.reply(reply, response)
        else:
            write.done = partial(_left, group, response, reply)

    def _leave_one(self, group: ClassicGroup, identity: MemberIdentity, turn: Turn) -> ErrorCode:
        member_id = identity.member_id
        if not member_id:
            known = group.static_members.get(identity.group_instance_id or "")
            if known is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            member_id = known
        elif member_id in group.pending_joins:
            group.remove(member_id)
            return ErrorCode.NONE
        else:
            error = group.check_member(member_id, identity.group_instance_id)
            if error:
                return error
        logger.info("Group %s: member %s leaves; client reason: %s", group.group_id, member_id, identity.reason)
        self._rebalance.remove(group, member_id, turn)
        return ErrorCode.NONE

    # Time

    def wake(self, group: ClassicGroup, turn: Turn) -> None:
        """Do what is due. Called at `group.wake_at` or later; sets it again."""
        if group.state is not DEAD:
            now = turn.now
            if group.join_deadline <= now:
                group.join_deadline = NEVER
                if group.initial_delay is not None:
                    self._rebalance.initial_delay_passed(group, turn)
                else:
                    self._rebalance.complete_join(group, turn)
            if group.sync_deadline <= now:
                group.sync_deadline = NEVER
                self._expire_syncs(group, turn)
            for member_id in [key for key, deadline in group.pending_joins.items() if deadline <= now]:
                if group.pending_joins.get(member_id, NEVER) <= now:
                    group.remove(member_id)
                    if group.state is PREPARING and group.all_joined:
                        self._rebalance.complete_join(group, turn)
            for member in [member for member in group.members.values() if member.deadline <= now]:
                self._expire_session(group, member, turn)
        group.wake_at = NEVER if group.state is DEAD else group.next_deadline()

    def _expire_session(self, group: ClassicGroup, member: Member, turn: Turn) -> None:
        if group.members.get(member.member_id) is not member or member.deadline > turn.now:
            return  # an expiry just before this one has changed the group
        if member.waits:
            member.deadline = NEVER  # set again with the answer it waits for
            return
        logger.info("Group %s: the session of member %s has expired", group.group_id, member.member_id)
        self._rebalance.remove(group, member.member_id, turn)
        if group.state is STABLE or group.state is COMPLETING:
            self._rebalance.begin(group, turn, f"the session of member {member.member_id} has expired")
        elif group.state is PREPARING and group.all_joined:
            self._rebalance.complete_join(group, turn)

    def _expire_syncs(self, group: ClassicGroup, turn: Turn) -> None:
        if group.state is not COMPLETING and group.state is not STABLE:
            return
        late = sorted(group.pending_syncs)
        if late:
            for member_id in late:
                self._rebalance.remove(group, member_id, turn)
            self._rebalance.begin(group, turn, f"no SyncGroup from {', '.join(late)}")

    # Beginning and end of a group in this broker

    def loaded(self, group: ClassicGroup, turn: Turn) -> None:
        """Members get a full session to show up; a group that is larger than allowed begins a rebalance."""
        for member in group.members.values():
            group.extend(member, turn.now)
        if len(group.members) > self._settings.max_size:
            self._rebalance.begin(group, turn, "it is over group.max.size since it was loaded")

    def abandon(self, group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
        """The group is deleted, or its partition has moved: answer every waiting request, then do nothing."""
        for member in group.members.values():
            if member.join_reply is not None:
                turn.reply(member.join_reply, join_error(error, member.member_id))
                group.set_join_reply(member, None)
            if member.sync_reply is not None:
                turn.reply(member.sync_reply, sync_error(error))
                member.sync_reply = None
        group.transition_to(DEAD, turn.time_ms)
        group.wake_at = NEVER


def _left(group: ClassicGroup, response: LeaveGroupResponse, reply: LeaveReply, turn: Turn, error: ErrorCode) -> None:
    warn_if_not_stored(group, turn, error)
    turn.reply(reply, LeaveGroupResponse(error_code=error) if error else response)
