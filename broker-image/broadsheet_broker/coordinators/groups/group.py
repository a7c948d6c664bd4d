"""A classic group: its members, generation, protocol and deadlines. State only; `classic.py` holds the protocol."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from broadsheet_broker.coordinators.runtime.turn import NEVER

Protocols = list[tuple[str, bytes]]
"""Names of assignors in the member's order of preference, each with the member's subscription as opaque bytes."""

CONSUMER_PROTOCOL_TYPE = "consumer"


class GroupState(StrEnum):
    """The states of a classic group, as Kafka's tools print them."""

    EMPTY = "Empty"
    """No members. Offsets may be there; they expire from the moment the group became empty."""
    PREPARING_REBALANCE = "PreparingRebalance"
    """Members are asked to join again, and joins wait."""
    COMPLETING_REBALANCE = "CompletingRebalance"
    """The generation is set; the leader's assignment is awaited."""
    STABLE = "Stable"
    DEAD = "Dead"
    """Deleted or unloaded. Only somebody who held on to the object still sees it."""


REBALANCE_FROM = frozenset((GroupState.STABLE, GroupState.COMPLETING_REBALANCE, GroupState.EMPTY))
"""The states from which a rebalance can begin."""


class Member:
    """One member of a classic group."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "deadline",
        "instance_id",
        "is_new",
        "join_reply",
        "member_id",
        "protocol_type",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "stored_id",
        "sync_reply",
    )

    def __init__(
        self,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocol_type: str,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        """Set for static members (KIP-345)."""
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocol_type = protocol_type
        self.protocols = protocols
        self.assignment = assignment
        self.join_reply: Callable[[Any], None] | None = None
        """The answer of a JoinGroup that waits for the rebalance."""
        self.sync_reply: Callable[[Any], None] | None = None
        """The answer of a SyncGroup that waits for the leader's assignment."""
        self.is_new = False
        """Waits in its first join: it does not know its id yet and cannot send heartbeats."""
        self.deadline = NEVER
        """Monotonic seconds after which the member is removed."""
        self.stored_id = member_id
        """The id under which the log knows a static member of this generation; another one while its new id is not
        committed yet."""

    @property
    def waits(self) -> bool:
        """A member that waits for the coordinator needs no heartbeat, unless it is new (its client may be gone)."""
        return not self.is_new and (self.join_reply is not None or self.sync_reply is not None)

    def metadata(self, protocol: str | None) -> bytes:
        """The member's subscription for an assignor."""
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        return b""

    def vote(self, candidates: set[str]) -> str | None:
        """The first of the member's protocols that every member supports."""
        for name, _ in self.protocols:
            if name in candidates:
                return name
        return None


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

    def __init__(self, group_id: str, state_changed_ms: int) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.DEAD
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
        """Members that have been told the generation and have not asked for their assignment."""
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
        """The generation whose assignment is being written; a leader that sends it twice is not heard twice."""
        self.join_deadline = NEVER
        self.sync_deadline = NEVER
        self.wake_at = NEVER
        """No deadline of this group is earlier. It may be too early: then waking up finds nothing to do."""

    # Members

    def add(self, member: Member, join_reply: Callable[[Any], None] | None = None) -> None:
        """Take in a member that is not there yet; the first one becomes the leader."""
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
        """Forget a member or a pending member. The caller has seen to the answers it waits for."""
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
        """Put a static member that came back under a new member id in the place of the old one."""
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
        """What a member says of itself when it joins again."""
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

    # Questions

    @property
    def all_joined(self) -> bool:
        return len(self.members) == self.awaiting_joins and not self.pending_joins

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest of the members'."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def supports(self, protocol_type: str, names: set[str]) -> bool:
        """Whether a member with these protocols can be in the group: at least one is common to all."""
        if self.state is GroupState.EMPTY:
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

    def subscribes_to(self, topic: str) -> bool:
        """Whether the group reads the topic now. When that cannot be known, a consumer group is taken to read it."""
        if self.subscribed is None:
            return self.protocol_type == CONSUMER_PROTOCOL_TYPE
        return topic in self.subscribed

    # Changes

    def transition_to(self, state: GroupState, time_ms: int) -> None:
        self.previous_state = self.state
        self.state = state
        self.state_changed_ms = time_ms

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


class ForeignGroup:
    """A group of a type that this broker does not run yet, met in the log (written by Apache Kafka).

    Its records are left alone, its offsets can be read, and nothing of it expires.
    """

    __slots__ = ("group_id", "type")

    state = "Unknown"
    protocol_type = CONSUMER_PROTOCOL_TYPE

    def __init__(self, group_id: str, type_: str) -> None:
        self.group_id = group_id
        self.type = type_


Group = ClassicGroup | ForeignGroup
