"""A rebalance of a classic group, step by step: gather the members, begin a generation, take it back.

Called by the parts that handle requests and time. The package's docstring explains the protocol.
"""

from __future__ import annotations

import logging
from functools import partial

from broadsheet_broker.coordinators.groups.answers import join_error, sync_error
from broadsheet_broker.coordinators.groups.classic import records
from broadsheet_broker.coordinators.groups.classic.group import ClassicGroup
from broadsheet_broker.coordinators.groups.classic.member import Member
from broadsheet_broker.coordinators.groups.classic.state import COMPLETING, DEAD, EMPTY, PREPARING, REBALANCE_FROM
from broadsheet_broker.coordinators.groups.settings import GroupSettings
from broadsheet_broker.coordinators.runtime.turn import NEVER, Turn, Write
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.join_group_response import JoinGroupResponse, JoinGroupResponseMember

logger = logging.getLogger(__name__)


class Rebalance:
    """Moves a group from one generation to the next. Each step returns the write that it needs, if any."""

    __slots__ = ("_settings",)

    def __init__(self, settings: GroupSettings) -> None:
        self._settings = settings

    def begin_or_complete(self, group: ClassicGroup, turn: Turn, reason: str) -> Write | None:
        if group.state in REBALANCE_FROM:
            return self.begin(group, turn, reason)
        return self.complete_if_all_joined(group, turn)

    def complete_if_all_joined(self, group: ClassicGroup, turn: Turn) -> Write | None:
        # The first rebalance of an empty group lasts its whole delay.
        if group.state is PREPARING and group.all_joined and group.previous_state is not EMPTY:
            return self.complete_join(group, turn)
        return None

    def begin(self, group: ClassicGroup, turn: Turn, reason: str) -> Write | None:
        if group.state is COMPLETING:
            self.reset_assignment(group, turn, ErrorCode.REBALANCE_IN_PROGRESS)
        group.pending_syncs.clear()
        group.sync_deadline = NEVER
        first = group.state is EMPTY
        group.transition_to(PREPARING, turn.time_ms)
        logger.info("Group %s prepares to rebalance from generation %d: %s", group.group_id, group.generation, reason)
        if first:
            delay = self._settings.initial_rebalance_delay_ms
            group.new_member_added = False
            group.initial_delay = (delay, max(group.rebalance_timeout_ms - delay, 0))
            if delay == 0:
                return self.initial_delay_passed(group, turn)
            group.join_deadline = group.wake_by(turn.now + delay / 1000)
            return None
        if group.all_joined:
            return self.complete_join(group, turn)
        self._await_joins(group, turn)
        return None

    def _await_joins(self, group: ClassicGroup, turn: Turn) -> None:
        group.initial_delay = None
        group.join_deadline = group.wake_by(turn.now + group.rebalance_timeout_ms / 1000)

    def initial_delay_passed(self, group: ClassicGroup, turn: Turn) -> Write | None:
        delay, remaining = group.initial_delay or (0, 0)
        if group.new_member_added and remaining:
            group.new_member_added = False
            again = min(self._settings.initial_rebalance_delay_ms, remaining)
            group.initial_delay = (again, max(remaining - delay, 0))
            group.join_deadline = group.wake_by(turn.now + again / 1000)
            return None
        return self.complete_join(group, turn)

    def complete_join(self, group: ClassicGroup, turn: Turn) -> Write | None:
        """Every member that will join has joined: begin the next generation."""
        group.join_deadline = NEVER
        group.initial_delay = None
        late = [m.member_id for m in group.members.values() if m.join_reply is None and m.instance_id is None]
        for member_id in late:
            self.remove(group, member_id, turn)
        if late:
            logger.info("Group %s: members that did not rejoin are removed: %s", group.group_id, ", ".join(late))
        if group.state is DEAD:
            return None
        if group.members and not self._has_joined_leader(group):
            # Static members only, and none is here. Wait until one comes, or sessions end.
            logger.warning("Group %s: no member has rejoined", group.group_id)
            self._await_joins(group, turn)
            return None
        group.generation += 1
        group.pending_syncs.clear()
        if not group.members:
            return self._become_empty(group, turn)
        group.protocol_name = group.select_protocol()
        group.subscribed = records.subscribed_topics(group)
        group.transition_to(COMPLETING, turn.time_ms)
        logger.info(
            "Group %s: generation %d has %d members, protocol %s",
            group.group_id,
            group.generation,
            len(group.members),
            group.protocol_name,
        )
        for member in group.members.values():
            reply = member.join_reply
            if reply is not None:
                answer = self.join_answer(group, member, with_members=group.leader == member.member_id)
                group.set_join_reply(member, None)
                turn.reply(reply, answer)
            member.is_new = False
            group.extend(member, turn.now)
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
        logger.info("Group %s with generation %d is now empty", group.group_id, group.generation)
        return turn.write([records.group_metadata(group)], partial(warn_if_not_stored, group))

    def reset_assignment(self, group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
        """Discard the assignment, and answer waiting SyncGroups with an error."""
        for member in group.members.values():
            member.assignment = b""
            reply = member.sync_reply
            if reply is not None:
                member.sync_reply = None
                turn.reply(reply, sync_error(error))
                group.extend(member, turn.now)

    def join_answer(self, group: ClassicGroup, member: Member, *, with_members: bool) -> JoinGroupResponse:
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

    def remove(self, group: ClassicGroup, member_id: str, turn: Turn) -> None:
        """Remove a member. Its waiting requests get UNKNOWN_MEMBER_ID, so that a live client joins again."""
        member = group.remove(member_id)
        if member is None:
            return
        if member.join_reply is not None:
            turn.reply(member.join_reply, join_error(ErrorCode.UNKNOWN_MEMBER_ID))
            member.join_reply = None
        if member.sync_reply is not None:
            turn.reply(member.sync_reply, sync_error(ErrorCode.UNKNOWN_MEMBER_ID))
            member.sync_reply = None


def warn_if_not_stored(group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
    # The previous generation may come back when the log is loaded; its members then time out.
    if error:
        logger.warning("Group %s: the empty generation could not be stored (%s)", group.group_id, error.name)
