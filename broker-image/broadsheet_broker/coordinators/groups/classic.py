"""The membership protocol of classic groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and what time does to them.

A rebalance in two phases. Joins wait (PreparingRebalance) until every known member has joined or the rebalance timeout
has passed; whoever did not come is dropped, the generation is bumped and everybody is answered, the leader with all
subscriptions. Then (CompletingRebalance) syncs wait until the leader brings the assignment; it is written to the log,
and when that is committed each member gets its part (Stable).

Follows Kafka 4.3's GroupMetadataManager, with KIP-62 (rebalance timeout apart from session timeout), KIP-134 (delay of
the first rebalance), KIP-345 (static members), KIP-394 (MEMBER_ID_REQUIRED), KIP-559 (protocol in Sync), KIP-800
(reasons) and KIP-814 (a static leader that comes back skips the assignment). Eager and cooperative rebalancing are the
same here: the difference lies in the members' subscriptions, which the broker does not interpret.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.coordinators.groups.group import ClassicGroup, Member
from broadsheet_broker.coordinators.groups.joining import Joining
from broadsheet_broker.coordinators.groups.rebalance import (
    COMPLETING,
    DEAD,
    EMPTY,
    PREPARING,
    STABLE,
    join_error,
    sync_error,
    validate_member,
    warn_if_not_stored,
)
from broadsheet_broker.coordinators.runtime.turn import NEVER, Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse, MemberResponse
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse

logger = logging.getLogger(__name__)

SyncReply = Callable[[SyncGroupResponse], None]
LeaveReply = Callable[[LeaveGroupResponse], None]


class ClassicProtocol(Joining):
    """The protocol, for all groups of a broker."""

    __slots__ = ()

    # SyncGroup

    def sync(self, group: ClassicGroup, request: SyncGroupRequest, turn: Turn, reply: SyncReply) -> None:
        """A member asks for its part of the assignment; the leader brings all parts."""
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
        error = validate_member(group, request.member_id, request.group_instance_id)
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
            self._reset_assignment(group, turn, error)
            self._rebalance_or_complete(group, turn, f"the assignment could not be stored: {error.name}")
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
                self._extend(group, member, turn)

    def _sync_answer(self, group: ClassicGroup, member: Member) -> SyncGroupResponse:
        return SyncGroupResponse(
            error_code=0,
            protocol_type=group.protocol_type,
            protocol_name=group.protocol_name,
            assignment=member.assignment,
        )

    # Heartbeat

    def heartbeat(self, group: ClassicGroup, request: HeartbeatRequest, now: float) -> ErrorCode:
        """A member is alive; it learns here that it has to rejoin."""
        state = group.state
        if state is DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = validate_member(group, request.member_id, request.group_instance_id)
        if error:
            return error
        if request.generation_id != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        self.extend_session(group, request.member_id, now)
        return ErrorCode.REBALANCE_IN_PROGRESS if state is PREPARING else ErrorCode.NONE

    def extend_session(self, group: ClassicGroup, member_id: str, now: float) -> None:
        """A sign of life of a member, if it is one."""
        member = group.members.get(member_id)
        if member is not None:
            member.deadline = group.wake_by(now + member.session_timeout_ms / 1000)

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
                write = self._prepare_rebalance(group, turn, "members left")
            elif group.state is PREPARING:
                write = self._complete_if_all_joined(group, turn)
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
            error = validate_member(group, member_id, identity.group_instance_id)
            if error:
                return error
        logger.info("Group %s: member %s leaves; client reason: %s", group.group_id, member_id, identity.reason)
        self._remove(group, member_id, turn)
        return ErrorCode.NONE

    # Time

    def wake(self, group: ClassicGroup, turn: Turn) -> None:
        """Do what is due. Called at `group.wake_at` or later; sets it anew."""
        if group.state is not DEAD:
            now = turn.now
            if group.join_deadline <= now:
                group.join_deadline = NEVER
                if group.initial_delay is not None:
                    self._initial_delay_passed(group, turn)
                else:
                    self._complete_join(group, turn)
            if group.sync_deadline <= now:
                group.sync_deadline = NEVER
                self._expire_syncs(group, turn)
            for member_id in [key for key, deadline in group.pending_joins.items() if deadline <= now]:
                if group.pending_joins.get(member_id, NEVER) <= now:
                    group.remove(member_id)
                    if group.state is PREPARING and group.all_joined:
                        self._complete_join(group, turn)
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
        self._remove(group, member.member_id, turn)
        if group.state is STABLE or group.state is COMPLETING:
            self._prepare_rebalance(group, turn, f"the session of member {member.member_id} has expired")
        elif group.state is PREPARING and group.all_joined:
            self._complete_join(group, turn)

    def _expire_syncs(self, group: ClassicGroup, turn: Turn) -> None:
        if group.state is not COMPLETING and group.state is not STABLE:
            return
        late = sorted(group.pending_syncs)
        if late:
            for member_id in late:
                self._remove(group, member_id, turn)
            self._prepare_rebalance(group, turn, f"no SyncGroup from {', '.join(late)}")

    # The end of a group in this broker

    def abandon(self, group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
        """The group is deleted, or its partition has moved: answer whoever waits, and do nothing any more."""
        for member in group.members.values():
            if member.join_reply is not None:
                turn.reply(member.join_reply, join_error(error, member.member_id))
                group.set_join_reply(member, None)
            if member.sync_reply is not None:
                turn.reply(member.sync_reply, sync_error(error))
                member.sync_reply = None
        group.transition_to(DEAD, turn.time_ms)
        group.wake_at = NEVER


def _differs(requested: str | None, actual: str | None) -> bool:
    return requested is not None and actual is not None and requested != actual


def _left(group: ClassicGroup, response: LeaveGroupResponse, reply: LeaveReply, turn: Turn, error: ErrorCode) -> None:
    warn_if_not_stored(group, turn, error)
    turn.reply(reply, LeaveGroupResponse(error_code=error) if error else response)
