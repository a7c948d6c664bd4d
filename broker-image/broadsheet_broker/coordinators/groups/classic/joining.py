"""JoinGroup: who may join a classic group, and what happens then.

A dynamic member is given an id first and joins with it (KIP-394). A static member (KIP-345) that comes back under its
instance id replaces its earlier self, usually without a rebalance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from uuid import UUID

from broadsheet_broker.coordinators.groups.answers import JoinReply, join_error, sync_error
from broadsheet_broker.coordinators.groups.classic import records
from broadsheet_broker.coordinators.groups.classic.group import ClassicGroup
from broadsheet_broker.coordinators.groups.classic.member import Member, Protocols
from broadsheet_broker.coordinators.groups.classic.rebalance import Rebalance
from broadsheet_broker.coordinators.groups.classic.state import COMPLETING, DEAD, EMPTY, PREPARING, STABLE
from broadsheet_broker.coordinators.groups.settings import Context, GroupSettings
from broadsheet_broker.coordinators.runtime.turn import Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest

logger = logging.getLogger(__name__)

MEMBER_ID_REQUIRED_FROM = 4
"""JoinGroup version from which a dynamic member gets its id first and joins with it (KIP-394)."""
MOST_PENDING_JOINS = 10_000
"""Most member ids of a group that are given out and not used yet. A further one replaces the oldest; a client that
still uses that gets UNKNOWN_MEMBER_ID and asks for another."""
SKIP_ASSIGNMENT_FROM = 9
"""JoinGroup version in which a leader can be asked to keep the assignment (KIP-814)."""


class _Replacement:
    """A static member whose new member id is being stored."""

    __slots__ = ("before", "generation", "group", "member", "old_leader", "version")

    def __init__(self, group: ClassicGroup, old: Member, version: int) -> None:
        self.group = group
        self.member = old
        """The member under its new id, once it is there."""
        self.generation = group.generation
        self.old_leader = group.leader
        self.before: tuple[Protocols, int, int] = (old.protocols, old.rebalance_timeout_ms, old.session_timeout_ms)
        self.version = version
        """Of the JoinGroup."""

    @property
    def stands(self) -> bool:
        """Whether the replacement is still current: same member, same generation, no rebalance."""
        group = self.group
        is_member = group.members.get(self.member.member_id) is self.member
        return is_member and group.state is STABLE and group.generation == self.generation


class Joining:
    """JoinGroup."""

    __slots__ = ("_new_uuid", "_rebalance", "_settings")

    def __init__(self, settings: GroupSettings, new_uuid: Callable[[], UUID], rebalance: Rebalance) -> None:
        self._settings = settings
        self._new_uuid = new_uuid
        self._rebalance = rebalance

    def join(
        self, group: ClassicGroup, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply
    ) -> None:
        """A member joins, or rejoins for the next generation. The session timeout has been checked."""
        member_id = request.member_id
        if not self._has_room(group, member_id):
            if member_id:
                self._rebalance.remove(group, member_id, turn)
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
            # Waiting members have a place. Counting only these, and not all members, lets a group that is too large for
            # a new group.max.size drop the last ones to rejoin.
            member = group.members.get(member_id)
            waits = member is not None and member.join_reply is not None
            return waits or group.awaiting_joins < self._settings.max_size
        if group.state is COMPLETING or group.state is STABLE:
            return member_id in group.members or len(group.members) < self._settings.max_size
        return True

    def _join_new(
        self, group: ClassicGroup, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply
    ) -> None:
        instance_id = request.group_instance_id
        prefix = context.client_id if instance_id is None else instance_id
        member_id = f"{prefix}-{self._new_uuid()}"
        if instance_id is not None:
            known = group.static_members.get(instance_id)
            if known is not None:
                logger.info(
                    "Group %s: static member %s is back, %s replaces %s", group.group_id, instance_id, member_id, known
                )
                self._join_replacing(group, group.members[known], member_id, request, context, turn, reply)
                return
        elif context.version >= MEMBER_ID_REQUIRED_FROM:
            if len(group.pending_joins) >= MOST_PENDING_JOINS:
                group.remove(next(iter(group.pending_joins)))
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
        error = group.check_member(member_id, request.group_instance_id)
        if error:
            turn.reply(reply, join_error(error, member_id))
            return
        member = group.members[member_id]
        state = group.state
        if state is PREPARING:
            reason = "joins during the rebalance"
        elif state is COMPLETING and _protocols_of(request) == member.protocols:
            # The answer to its join got lost: the generation stands.
            turn.reply(reply, self._rebalance.join_answer(group, member, with_members=group.leader == member_id))
            return
        elif state is COMPLETING:
            reason = "changes its subscription"
        elif state is STABLE and group.leader == member_id:
            # A leader may rejoin for reasons that no subscription shows, such as new partitions of a topic.
            reason = "is the leader and rejoins"
        elif state is STABLE and _protocols_of(request) != member.protocols:
            reason = "changes its subscription"
        elif state is STABLE:
            turn.reply(reply, self._rebalance.join_answer(group, member, with_members=False))
            return
        else:
            turn.reply(reply, join_error(ErrorCode.UNKNOWN_MEMBER_ID, member_id))
            return
        self._update(group, member, request, turn, reply)
        self._rebalance.begin_or_complete(group, turn, f"member {member_id} {reason}; client reason: {request.reason}")

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
        # A new member waits for its id and cannot send heartbeats, so a client that gave up looks like one that waits.
        # Its join therefore has a timeout of its own; a client that is still there joins again.
        member.deadline = group.wake_by(turn.now + self._settings.new_member_join_timeout_ms / 1000)
        self._rebalance.begin_or_complete(group, turn, f"new member {member_id} joins; client reason: {request.reason}")

    def _update(
        self, group: ClassicGroup, member: Member, request: JoinGroupRequest, turn: Turn, reply: JoinReply
    ) -> None:
        if member.join_reply is not None:  # sent again, perhaps on a new connection: the earlier one is refused
            turn.reply(member.join_reply, join_error(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id))
        group.update(member, _protocols_of(request), request.rebalance_timeout_ms, request.session_timeout_ms)
        group.set_join_reply(member, reply)

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
        replacement = _Replacement(group, old, context.version)
        member = replacement.member = self._replace(group, old, member_id, turn)
        group.extend(member, turn.now)
        self._update(group, member, request, turn, reply)
        if group.state is STABLE:
            if group.select_protocol() != group.protocol_name:
                self._rebalance.begin_or_complete(
                    group, turn, f"static member {member_id} changes the group's protocol"
                )
                return
            # Nothing has changed for the other members: no rebalance, only the new member id is stored.
            turn.write(
                [records.group_metadata(group)],
                partial(self._replaced, replacement),
                partial(self._settle_replacement, replacement),
                key=group.group_id,
            )
        elif group.state is COMPLETING:
            # The leader may be assigning to the old member id at this moment.
            self._rebalance.begin(group, turn, f"static member {member_id} is back during the assignment")
        else:
            self._rebalance.complete_if_all_joined(group, turn)

    def _replace(self, group: ClassicGroup, old: Member, member_id: str, turn: Turn) -> Member:
        if old.join_reply is not None:
            turn.reply(old.join_reply, join_error(ErrorCode.FENCED_INSTANCE_ID, old.member_id))
            group.set_join_reply(old, None)
        if old.sync_reply is not None:
            turn.reply(old.sync_reply, sync_error(ErrorCode.FENCED_INSTANCE_ID))
            old.sync_reply = None
        return group.replace_static(old, member_id)

    def _settle_replacement(self, replacement: _Replacement, turn: Turn, error: ErrorCode) -> None:
        """The new member id is stored; or the write failed, and the stored one counts again."""
        group, member = replacement.group, replacement.member
        if not error:
            current = group.members.get(group.static_members.get(member.instance_id or "", ""))
            if current is not None and group.generation == replacement.generation:
                current.stored_id = member.member_id
            return
        if not replacement.stands:
            return
        logger.warning("Group %s: member id %s is not stored (%s)", group.group_id, member.member_id, error.name)
        reply = member.join_reply
        if reply is not None:
            group.set_join_reply(member, None)
            turn.reply(reply, join_error(error))
        group.update(member, *replacement.before)
        group.extend(self._replace(group, member, member.stored_id, turn), turn.now)

    def _replaced(self, replacement: _Replacement, turn: Turn, error: ErrorCode) -> None:
        """The new member id is in the log, or it takes too long."""
        group, member = replacement.group, replacement.member
        reply = member.join_reply
        if reply is None or not replacement.stands:
            return  # left, expired, replaced again or in a rebalance meanwhile: answered then
        group.set_join_reply(member, None)
        group.extend(member, turn.now)
        if error:
            turn.reply(reply, join_error(error))
            return
        is_leader = group.leader == member.member_id
        skips = replacement.version >= SKIP_ASSIGNMENT_FROM
        answer = self._rebalance.join_answer(group, member, with_members=skips and is_leader)
        if skips:
            answer.skip_assignment = is_leader
        else:
            # An old client would assign if it were named the leader; otherwise it takes its old part.
            answer.leader = replacement.old_leader or ""
        turn.reply(reply, answer)


def _protocols_of(request: JoinGroupRequest) -> Protocols:
    """The request's protocols in order of preference; of a name given twice the first counts."""
    seen: dict[str, bytes] = {}
    for protocol in request.protocols:
        seen.setdefault(protocol.name, protocol.metadata)
    return list(seen.items())
