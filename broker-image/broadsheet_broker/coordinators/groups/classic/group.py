"""A classic group: its members, generation, protocol and deadlines, and what it answers for itself from these.

The parts of `ClassicProtocol` change it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from broadsheet_broker.coordinators.groups.answers import JoinReply, LeaveReply, SyncReply
from broadsheet_broker.coordinators.groups.classic.member import Member, Protocols
from broadsheet_broker.coordinators.groups.classic.state import COMPLETING, DEAD, EMPTY, STABLE, TRANSITIONS, GroupState
from broadsheet_broker.coordinators.groups.group import CONSUMER_PROTOCOL_TYPE, OffsetExpiry
from broadsheet_broker.coordinators.groups.settings import Context
from broadsheet_broker.coordinators.runtime.turn import NEVER, Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup, DescribedGroupMember
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest

if TYPE_CHECKING:
    from broadsheet_broker.coordinators.groups.classic.protocol import ClassicProtocol


class ClassicGroup:
    """A group whose leader, one of the members, makes the assignment (the protocol before KIP-848)."""

    __slots__ = (
        "assigning",
        "awaiting_joins",
        "generation",
        "group_id",
        "initial_delay",
        "join_deadline",
        "leader",
        "members",
        "new_member_added",
        "pending_joins",
        "pending_syncs",
        "previous_state",
        "protocol",
        "protocol_counts",
        "protocol_name",
        "protocol_type",
        "state",
        "state_changed_ms",
        "static_members",
        "subscribed",
        "sync_deadline",
        "wake_at",
    )

    type = "classic"
    keeps_own_records = True

    def __init__(self, group_id: str, state_changed_ms: int, protocol: ClassicProtocol) -> None:
        self.group_id = group_id
        self.protocol = protocol
        self.state: GroupState = EMPTY
        self.previous_state: GroupState = DEAD
        self.state_changed_ms = state_changed_ms
        """Wall clock of the last change of state, -1 when unknown (written by a very old broker)."""
        self.protocol_type: str | None = None
        """`consumer`, `connect` ...; None for a group that only keeps offsets."""
        self.protocol_name: str | None = None
        self.generation = 0
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        """Member ids by group instance id."""
        self.pending_joins: dict[str, float] = {}
        """Ids given out with MEMBER_ID_REQUIRED and not used yet, with the deadline of each."""
        self.pending_syncs: set[str] = set()
        """Members that know the generation and have not asked for their assignment."""
        self.awaiting_joins = 0
        """Members whose join waits; kept in step with `Member.join_reply`."""
        self.protocol_counts: dict[str, int] = {}
        """How many members support each protocol."""
        self.subscribed: frozenset[str] | None = None
        """Topics of all members; None when they are not known."""
        self.new_member_added = False
        """A member came while the first rebalance of an empty group waited for more."""
        self.initial_delay: tuple[int, int] | None = None
        """While that first rebalance waits: (delay, what is left of the rebalance timeout), milliseconds."""
        self.assigning = -1
        """The generation whose assignment is being written; a second copy from the leader is ignored."""
        self.join_deadline = NEVER
        self.sync_deadline = NEVER
        self.wake_at = NEVER
        """No deadline of this group is earlier. It may be too early: then waking up finds nothing to do."""

    # Members

    def add(self, member: Member, join_reply: Callable[[Any], None] | None = None) -> None:
        """Add a new member; the first one becomes the leader."""
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        if not self.members:
            self.protocol_type = member.protocol_type
        if self.leader is None:
            self.leader = member.member_id
        self.members[member.member_id] = member
        self._count_protocols(member, 1)
        self.set_join_reply(member, join_reply)
        self.pending_joins.pop(member.member_id, None)

    def remove(self, member_id: str) -> Member | None:
        """Remove a member or a pending member. The caller answers what it waits for."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count_protocols(member, -1)
            if member.join_reply is not None:
                self.awaiting_joins -= 1
            if member.instance_id is not None:
                self.static_members.pop(member.instance_id, None)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self.pending_joins.pop(member_id, None)
        self.pending_syncs.discard(member_id)
        return member

    def replace_static(self, member: Member, new_member_id: str) -> Member:
        """Replace a static member by itself under a new member id."""
        replacement = Member(
            new_member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            member.rebalance_timeout_ms,
            member.session_timeout_ms,
            member.protocol_type,
            member.protocols,
            member.assignment,
        )
        replacement.stored_id = member.stored_id
        was_leader = self.leader == member.member_id
        self.remove(member.member_id)
        if was_leader:
            self.leader = new_member_id
        self.add(replacement)
        return replacement

    def update(self, member: Member, protocols: Protocols, rebalance_timeout_ms: int, session_timeout_ms: int) -> None:
        """Take over protocols and timeouts of a member that joins again."""
        self._count_protocols(member, -1)
        member.protocols = protocols
        self._count_protocols(member, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def set_join_reply(self, member: Member, reply: Callable[[Any], None] | None) -> None:
        """Let a member's join wait, or end its waiting."""
        if (member.join_reply is None) != (reply is None):
            self.awaiting_joins += 1 if reply is not None else -1
        member.join_reply = reply

    def _count_protocols(self, member: Member, change: int) -> None:
        counts = self.protocol_counts
        for name, _ in member.protocols:
            count = counts.get(name, 0) + change
            if count:
                counts[name] = count
            else:
                del counts[name]

    # What the protocol asks

    def check_member(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Whether a request comes from a member; a static member that was replaced is fenced."""
        if instance_id is not None:
            known = self.static_members.get(instance_id)
            if known is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if known != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    @property
    def all_joined(self) -> bool:
        return len(self.members) == self.awaiting_joins and not self.pending_joins

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest of the members'."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def supports(self, protocol_type: str, names: set[str]) -> bool:
        """Whether a member with these protocols can be in the group: at least one is common to all."""
        if self.state is EMPTY:
            return bool(protocol_type) and bool(names)
        if protocol_type != self.protocol_type:
            return False
        size = len(self.members)
        counts = self.protocol_counts
        return any(counts.get(name, 0) == size for name in names)

    def select_protocol(self) -> str:
        """The protocol with the most votes among those that every member supports."""
        size = len(self.members)
        candidates = {name for name, count in self.protocol_counts.items() if count == size}
        votes: dict[str, int] = {}
        for member in self.members.values():
            choice = member.vote(candidates)
            if choice is not None:
                votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=votes.__getitem__)

    # Changes

    def transition_to(self, state: GroupState, time_ms: int) -> None:
        assert state in TRANSITIONS[self.state], f"group {self.group_id}: from {self.state} to {state}"
        self.previous_state = self.state
        self.state = state
        self.state_changed_ms = time_ms

    def extend(self, member: Member, now: float) -> None:
        """Restart the session of a member."""
        member.deadline = self.wake_by(now + member.session_timeout_ms / 1000)

    def wake_by(self, deadline: float) -> float:
        """Note a deadline; returns it."""
        if deadline < self.wake_at:
            self.wake_at = deadline
        return deadline

    def next_deadline(self) -> float:
        """The earliest deadline, exactly."""
        return min(
            self.join_deadline,
            self.sync_deadline,
            min(self.pending_joins.values(), default=NEVER),
            min((member.deadline for member in self.members.values()), default=NEVER),
        )

    # What requests ask (see `Group`)

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def is_vacant(self) -> bool:
        return self.state is EMPTY and not self.pending_joins

    def join(self, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply) -> None:
        self.protocol.joining.join(self, request, context, turn, reply)

    def sync(self, request: SyncGroupRequest, turn: Turn, reply: SyncReply) -> None:
        self.protocol.syncing.sync(self, request, turn, reply)

    def heartbeat(self, request: HeartbeatRequest, now: float) -> ErrorCode:
        return self.protocol.sessions.heartbeat(self, request, now)

    def leave(self, request: LeaveGroupRequest, turn: Turn, reply: LeaveReply) -> None:
        self.protocol.sessions.leave(self, request, turn, reply)

    def wake(self, turn: Turn) -> None:
        self.protocol.sessions.wake(self, turn)

    def loaded(self, turn: Turn) -> None:
        self.protocol.sessions.loaded(self, turn)

    def abandon(self, turn: Turn, error: ErrorCode) -> None:
        self.protocol.sessions.abandon(self, turn, error)

    def commit_allowed(self, request: OffsetCommitRequest) -> ErrorCode:
        generation = request.generation_id_or_member_epoch
        if generation < 0 and self.state is EMPTY:
            return ErrorCode.NONE
        if generation >= 0 or request.member_id or request.group_instance_id is not None:
            error = self.check_member(request.member_id, request.group_instance_id)
            if error:
                return error
            if generation != self.generation:
                return ErrorCode.ILLEGAL_GENERATION
        elif self.state is not EMPTY:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if self.state is COMPLETING:
            # The member knows the new generation but not its partitions yet: it commits again after the sync.
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def committing(self, member_id: str, now: float) -> None:
        member = self.members.get(member_id)
        if member is not None and self.state is not COMPLETING:
            self.extend(member, now)

    def offset_deletion_allowed(self) -> ErrorCode:
        if self.state is EMPTY or self.protocol_type == CONSUMER_PROTOCOL_TYPE:
            return ErrorCode.NONE
        return ErrorCode.NON_EMPTY_GROUP

    def subscribes_to(self, topic: str) -> bool:
        if self.subscribed is None:
            return self.protocol_type == CONSUMER_PROTOCOL_TYPE
        return topic in self.subscribed

    def offset_expiry(self) -> OffsetExpiry | None:
        """An empty group keeps its offsets for the retention time from the moment it became empty; a group of live
        consumers loses offsets of topics it no longer reads, counted from the commit, and so does a group that never
        had members (KIP-211)."""
        if self.protocol_type is None:
            return OffsetExpiry(-1)
        if self.state is EMPTY:
            return OffsetExpiry(self.state_changed_ms)
        return OffsetExpiry(-1) if self.state is STABLE and self.subscribed is not None else None

    def deletion_allowed(self) -> ErrorCode:
        return ErrorCode.NONE if self.state is EMPTY else ErrorCode.NON_EMPTY_GROUP

    def describe(self, version: int) -> DescribedGroup:
        name = self.protocol_name if self.state is STABLE else None
        return DescribedGroup(
            error_code=0,
            group_id=self.group_id,
            group_state=str(self.state),
            protocol_type=self.protocol_type or "",
            protocol_data=name or "",
            members=[
                DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=b"" if name is None else member.metadata(name),
                    member_assignment=member.assignment,
                )
                for member in self.members.values()
            ],
        )
