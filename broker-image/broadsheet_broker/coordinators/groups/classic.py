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

from collections.abc import Callable
from functools import partial
from uuid import UUID

from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.coordinators.groups.group import (
    REBALANCE_FROM,
    ClassicGroup,
    GroupState,
    Member,
    Protocols,
)
from broadsheet_broker.coordinators.groups.turn import NEVER, Context, GroupSettings, Turn, Write, log
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
from broadsheet_broker.wire.messages.join_group_response import JoinGroupResponse, JoinGroupResponseMember
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse, MemberResponse
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse

JoinReply = Callable[[JoinGroupResponse], None]
SyncReply = Callable[[SyncGroupResponse], None]
LeaveReply = Callable[[LeaveGroupResponse], None]

EMPTY = GroupState.EMPTY
PREPARING = GroupState.PREPARING_REBALANCE
COMPLETING = GroupState.COMPLETING_REBALANCE
STABLE = GroupState.STABLE
DEAD = GroupState.DEAD

MEMBER_ID_REQUIRED_FROM = 4
"""JoinGroup version from which a dynamic member gets its id first and joins with it (KIP-394)."""
SKIP_ASSIGNMENT_FROM = 9
"""JoinGroup version that can tell a leader to leave the assignment as it is (KIP-814)."""


def join_error(error: ErrorCode, member_id: str = "") -> JoinGroupResponse:
    """A refused JoinGroup."""
    return JoinGroupResponse(
        error_code=error, generation_id=-1, protocol_type=None, protocol_name=None, leader="", member_id=member_id
    )


def sync_error(error: ErrorCode) -> SyncGroupResponse:
    """A refused SyncGroup."""
    return SyncGroupResponse(error_code=error, protocol_type=None, protocol_name=None, assignment=b"")


def validate_member(group: ClassicGroup, member_id: str, instance_id: str | None) -> ErrorCode:
    """Whether a request comes from a member; a static member that was replaced is fenced."""
    if instance_id is not None:
        known = group.static_members.get(instance_id)
        if known is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if known != member_id:
            return ErrorCode.FENCED_INSTANCE_ID
    return ErrorCode.NONE if member_id in group.members else ErrorCode.UNKNOWN_MEMBER_ID


class ClassicProtocol:
    """The protocol, for all groups of a broker."""

    __slots__ = ("new_uuid", "settings")

    def __init__(self, settings: GroupSettings, new_uuid: Callable[[], UUID]) -> None:
        self.settings = settings
        self.new_uuid = new_uuid

    # JoinGroup

    def join(
        self, group: ClassicGroup, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply
    ) -> None:
        """A member wants in, or is back for the next generation. The session timeout has been checked."""
        member_id = request.member_id
        if not self._has_room(group, member_id):
            if member_id:
                self._remove(group, member_id, turn)
            turn.reply(reply, join_error(ErrorCode.GROUP_MAX_SIZE_REACHED))
        elif group.state is DEAD:
            turn.reply(reply, join_error(ErrorCode.COORDINATOR_NOT_AVAILABLE, member_id))
        elif not group.supports(request.protocol_type, {protocol.name for protocol in request.protocols}):
            turn.reply(reply, join_error(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id))
        elif not member_id:
            self._join_new(group, request, context, turn, reply)
        else:
            self._join_known(group, request, context, turn, reply)

    def _has_room(self, group: ClassicGroup, member_id: str) -> bool:
        if group.state is PREPARING:
            # Whoever waits is in. Counting those who wait, not all members, lets a group that was made smaller by
            # configuration shed the last ones to rejoin.
            member = group.members.get(member_id)
            waits = member is not None and member.join_reply is not None
            return waits or group.awaiting_joins < self.settings.max_size
        if group.state is COMPLETING or group.state is STABLE:
            return member_id in group.members or len(group.members) < self.settings.max_size
        return True

    def _join_new(
        self, group: ClassicGroup, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply
    ) -> None:
        instance_id = request.group_instance_id
        prefix = context.client_id if instance_id is None else instance_id
        member_id = f"{prefix}-{self.new_uuid()}"
        if instance_id is not None:
            known = group.static_members.get(instance_id)
            if known is not None:
                log.info(
                    "Group %s: static member %s is back, %s replaces %s", group.group_id, instance_id, member_id, known
                )
                self._join_replacing(group, group.members[known], member_id, request, context, turn, reply)
                return
        elif context.version >= MEMBER_ID_REQUIRED_FROM:
            deadline = turn.now + request.session_timeout_ms / 1000
            group.pending_joins[member_id] = group.wake_by(deadline)
            turn.reply(reply, join_error(ErrorCode.MEMBER_ID_REQUIRED, member_id))
            return
        self._add(group, member_id, request, context, turn, reply)

    def _join_known(
        self, group: ClassicGroup, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply
    ) -> None:
        member_id = request.member_id
        if member_id in group.pending_joins and request.group_instance_id is None:
            self._add(group, member_id, request, context, turn, reply)
            return
        error = validate_member(group, member_id, request.group_instance_id)
        if error:
            turn.reply(reply, join_error(error, member_id))
            return
        member = group.members[member_id]
        state = group.state
        if state is PREPARING:
            reason = "joins during the rebalance"
        elif state is COMPLETING and _protocols_of(request) == member.protocols:
            # The answer to its join got lost: the generation stands.
            turn.reply(reply, self._join_answer(group, member, with_members=group.leader == member_id))
            return
        elif state is COMPLETING:
            reason = "changes its subscription"
        elif state is STABLE and group.leader == member_id:
            # The leader may rejoin for what no subscription shows, such as new partitions of a topic.
            reason = "is the leader and rejoins"
        elif state is STABLE and _protocols_of(request) != member.protocols:
            reason = "changes its subscription"
        elif state is STABLE:
            turn.reply(reply, self._join_answer(group, member, with_members=False))
            return
        else:
            turn.reply(reply, join_error(ErrorCode.UNKNOWN_MEMBER_ID, member_id))
            return
        self._update(group, member, request, turn, reply)
        self._rebalance_or_complete(group, turn, f"member {member_id} {reason}; client reason: {request.reason}")

    def _add(
        self,
        group: ClassicGroup,
        member_id: str,
        request: JoinGroupRequest,
        context: Context,
        turn: Turn,
        reply: JoinReply,
    ) -> None:
        member = Member(
            member_id,
            request.group_instance_id,
            context.client_id,
            context.client_host,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
            request.protocol_type,
            _protocols_of(request),
        )
        member.is_new = True
        if group.state is PREPARING and group.previous_state is EMPTY:
            group.new_member_added = True
        group.add(member, reply)
        # A new member waits for its id and cannot send heartbeats, and a client that gave up cannot be told from one
        # that waits. So its join is bounded by a timeout of its own; a client that is still there joins again.
        member.deadline = group.wake_by(turn.now + self.settings.new_member_join_timeout_ms / 1000)
        self._rebalance_or_complete(group, turn, f"new member {member_id} joins; client reason: {request.reason}")

    def _update(
        self, group: ClassicGroup, member: Member, request: JoinGroupRequest, turn: Turn, reply: JoinReply
    ) -> None:
        if member.join_reply is not None:  # sent again, perhaps on a new connection: only the last one is answered well
            turn.reply(member.join_reply, join_error(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id))
        group.update(member, _protocols_of(request), request.rebalance_timeout_ms, request.session_timeout_ms)
        group.set_join_reply(member, reply)

    def _join_answer(self, group: ClassicGroup, member: Member, *, with_members: bool) -> JoinGroupResponse:
        members = []
        if with_members:
            name = group.protocol_name
            members = [
                JoinGroupResponseMember(
                    member_id=each.member_id, group_instance_id=each.instance_id, metadata=each.metadata(name)
                )
                for each in group.members.values()
            ]
        return JoinGroupResponse(
            error_code=0,
            generation_id=group.generation,
            protocol_type=group.protocol_type,
            protocol_name=group.protocol_name,
            leader=group.leader or "",
            skip_assignment=False,
            member_id=member.member_id,
            members=members,
        )

    # A static member comes back without its member id

    def _join_replacing(
        self,
        group: ClassicGroup,
        old: Member,
        member_id: str,
        request: JoinGroupRequest,
        context: Context,
        turn: Turn,
        reply: JoinReply,
    ) -> None:
        old_leader = group.leader
        member = self._replace(group, old, member_id, turn)
        before = (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms)
        self._extend(group, member, turn)
        self._update(group, member, request, turn, reply)
        if group.state is STABLE:
            if group.select_protocol() != group.protocol_name:
                self._rebalance_or_complete(group, turn, f"static member {member_id} changes the group's protocol")
                return
            # Nothing that concerns the others has changed: no rebalance, only the new member id is made to last.
            turn.write(
                [records.group_metadata(group)],
                partial(self._replaced, group, member, old.member_id, before, old_leader, context.version),
                group_id=group.group_id,
            )
        elif group.state is COMPLETING:
            # The leader may be assigning to the old member id at this moment.
            self._prepare_rebalance(group, turn, f"static member {member_id} is back during the assignment")
        else:
            self._complete_if_all_joined(group, turn)

    def _replace(self, group: ClassicGroup, old: Member, member_id: str, turn: Turn) -> Member:
        if old.join_reply is not None:
            turn.reply(old.join_reply, join_error(ErrorCode.FENCED_INSTANCE_ID, old.member_id))
            group.set_join_reply(old, None)
        if old.sync_reply is not None:
            turn.reply(old.sync_reply, sync_error(ErrorCode.FENCED_INSTANCE_ID))
            old.sync_reply = None
        return group.replace_static(old, member_id)

    def _replaced(
        self,
        group: ClassicGroup,
        member: Member,
        old_member_id: str,
        before: tuple[Protocols, int, int],
        old_leader: str | None,
        version: int,
        turn: Turn,
        error: ErrorCode,
    ) -> None:
        """The record with the new member id is committed, or has failed."""
        reply = member.join_reply
        if group.members.get(member.member_id) is not member or reply is None or group.state is not STABLE:
            return  # left, expired, replaced again or in a rebalance meanwhile: answered then
        group.set_join_reply(member, None)
        if error:
            log.warning("Group %s: member id %s is not stored (%s)", group.group_id, member.member_id, error.name)
            turn.reply(reply, join_error(error))
            group.update(member, *before)
            self._extend(group, self._replace(group, member, old_member_id, turn), turn)
            return
        is_leader = group.leader == member.member_id
        skips = version >= SKIP_ASSIGNMENT_FROM
        answer = self._join_answer(group, member, with_members=skips and is_leader)
        if skips:
            answer.skip_assignment = is_leader
        else:
            # An old client that is told that it leads would assign; one that is told otherwise takes its old part.
            answer.leader = old_leader or ""
        turn.reply(reply, answer)
        self._extend(group, member, turn)

    # Rebalance

    def _rebalance_or_complete(self, group: ClassicGroup, turn: Turn, reason: str) -> Write | None:
        if group.state in REBALANCE_FROM:
            return self._prepare_rebalance(group, turn, reason)
        return self._complete_if_all_joined(group, turn)

    def _complete_if_all_joined(self, group: ClassicGroup, turn: Turn) -> Write | None:
        # The first rebalance of an empty group waits its delay out.
        if group.state is PREPARING and group.all_joined and group.previous_state is not EMPTY:
            return self._complete_join(group, turn)
        return None

    def prepare_rebalance(self, group: ClassicGroup, turn: Turn, reason: str) -> None:
        """Have all members join again, for a reason that no request gives."""
        self._prepare_rebalance(group, turn, reason)

    def _prepare_rebalance(self, group: ClassicGroup, turn: Turn, reason: str) -> Write | None:
        if group.state is COMPLETING:
            self._reset_assignment(group, turn, ErrorCode.REBALANCE_IN_PROGRESS)
        group.pending_syncs.clear()
        group.sync_deadline = NEVER
        first = group.state is EMPTY
        group.transition_to(PREPARING, turn.time_ms)
        log.info("Group %s prepares to rebalance from generation %d: %s", group.group_id, group.generation, reason)
        if first:
            delay = self.settings.initial_rebalance_delay_ms
            group.new_member_added = False
            group.initial_delay = (delay, max(group.rebalance_timeout_ms - delay, 0))
            if delay == 0:
                return self._initial_delay_passed(group, turn)
            group.join_deadline = group.wake_by(turn.now + delay / 1000)
            return None
        if group.all_joined:
            return self._complete_join(group, turn)
        self._await_joins(group, turn)
        return None

    def _await_joins(self, group: ClassicGroup, turn: Turn) -> None:
        group.initial_delay = None
        group.join_deadline = group.wake_by(turn.now + group.rebalance_timeout_ms / 1000)

    def _initial_delay_passed(self, group: ClassicGroup, turn: Turn) -> Write | None:
        delay, remaining = group.initial_delay or (0, 0)
        if group.new_member_added and remaining:
            group.new_member_added = False
            again = min(self.settings.initial_rebalance_delay_ms, remaining)
            group.initial_delay = (again, max(remaining - delay, 0))
            group.join_deadline = group.wake_by(turn.now + again / 1000)
            return None
        return self._complete_join(group, turn)

    def _complete_join(self, group: ClassicGroup, turn: Turn) -> Write | None:
        """Every member that will join has joined: begin the next generation."""
        group.join_deadline = NEVER
        group.initial_delay = None
        late = [m.member_id for m in group.members.values() if m.join_reply is None and m.instance_id is None]
        for member_id in late:
            self._remove(group, member_id, turn)
        if late:
            log.info("Group %s: members that did not rejoin are removed: %s", group.group_id, ", ".join(late))
        if group.state is DEAD:
            return None
        if group.members and not self._has_joined_leader(group):
            # Static members only, and none is here. Wait until one comes, or sessions end.
            log.warning("Group %s: no member has rejoined", group.group_id)
            self._await_joins(group, turn)
            return None
        group.generation += 1
        group.pending_syncs.clear()
        if not group.members:
            return self._become_empty(group, turn)
        group.protocol_name = group.select_protocol()
        group.subscribed = records.subscribed_topics(group)
        group.transition_to(COMPLETING, turn.time_ms)
        log.info(
            "Group %s: generation %d has %d members, protocol %s",
            group.group_id,
            group.generation,
            len(group.members),
            group.protocol_name,
        )
        for member in group.members.values():
            reply = member.join_reply
            if reply is not None:
                answer = self._join_answer(group, member, with_members=group.leader == member.member_id)
                group.set_join_reply(member, None)
                turn.reply(reply, answer)
            member.is_new = False
            self._extend(group, member, turn)
            group.pending_syncs.add(member.member_id)
        group.sync_deadline = group.wake_by(turn.now + group.rebalance_timeout_ms / 1000)
        return None

    def _has_joined_leader(self, group: ClassicGroup) -> bool:
        leader = group.members.get(group.leader or "")
        if leader is not None and leader.join_reply is not None:
            return True
        for member in group.members.values():
            if member.join_reply is not None:
                group.leader = member.member_id
                return True
        return False

    def _become_empty(self, group: ClassicGroup, turn: Turn) -> Write:
        group.protocol_name = None
        group.subscribed = records.subscribed_topics(group)
        group.transition_to(EMPTY, turn.time_ms)
        log.info("Group %s with generation %d is now empty", group.group_id, group.generation)
        return turn.write([records.group_metadata(group)], partial(_warn_if_not_stored, group))

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
            log.info(
                "Group %s: assignment of generation %d from %s", group.group_id, group.generation, member.member_id
            )
            turn.write(
                [records.group_metadata(group, assignment)],
                partial(self._assignment_stored, group, group.generation, assignment),
                group_id=group.group_id,
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

    def _reset_assignment(self, group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
        """Take the assignment back, and answer whoever waits for it with an error."""
        for member in group.members.values():
            member.assignment = b""
            reply = member.sync_reply
            if reply is not None:
                member.sync_reply = None
                turn.reply(reply, sync_error(error))
                self._extend(group, member, turn)

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

    def _extend(self, group: ClassicGroup, member: Member, turn: Turn) -> None:
        member.deadline = group.wake_by(turn.now + member.session_timeout_ms / 1000)

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
        log.info("Group %s: member %s leaves; client reason: %s", group.group_id, member_id, identity.reason)
        self._remove(group, member_id, turn)
        return ErrorCode.NONE

    def _remove(self, group: ClassicGroup, member_id: str, turn: Turn) -> None:
        """Drop a member. What it waits for is answered UNKNOWN_MEMBER_ID, so that a client that lives joins anew."""
        member = group.remove(member_id)
        if member is None:
            return
        if member.join_reply is not None:
            turn.reply(member.join_reply, join_error(ErrorCode.UNKNOWN_MEMBER_ID))
            member.join_reply = None
        if member.sync_reply is not None:
            turn.reply(member.sync_reply, sync_error(ErrorCode.UNKNOWN_MEMBER_ID))
            member.sync_reply = None

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
        log.info("Group %s: the session of member %s has expired", group.group_id, member.member_id)
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


def _protocols_of(request: JoinGroupRequest) -> Protocols:
    """The request's protocols in order of preference; of a name given twice the first counts."""
    seen: dict[str, bytes] = {}
    for protocol in request.protocols:
        seen.setdefault(protocol.name, protocol.metadata)
    return list(seen.items())


def _differs(requested: str | None, actual: str | None) -> bool:
    return requested is not None and actual is not None and requested != actual


def _warn_if_not_stored(group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
    # The generation before may come alive again when the log is loaded; its members then time out.
    if error:
        log.warning("Group %s: the empty generation is not stored (%s)", group.group_id, error.name)


def _left(group: ClassicGroup, response: LeaveGroupResponse, reply: LeaveReply, turn: Turn, error: ErrorCode) -> None:
    _warn_if_not_stored(group, turn, error)
    turn.reply(reply, LeaveGroupResponse(error_code=error) if error else response)
