"""The groups of one partition of `__consumer_offsets`: which request concerns which group, and loading from the log.

Pure: everything that happens goes through a `Turn`. `coordinator.py` is the shell around it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.coordinators.groups.classic import ClassicProtocol, LeaveReply, SyncReply
from broadsheet_broker.coordinators.groups.group import (
    CONSUMER_PROTOCOL_TYPE,
    ClassicGroup,
    ForeignGroup,
    Group,
    GroupState,
)
from broadsheet_broker.coordinators.groups.joining import JoinReply
from broadsheet_broker.coordinators.groups.offsets import CommitReply, Offsets, commit_error
from broadsheet_broker.coordinators.groups.rebalance import join_error, sync_error, validate_member
from broadsheet_broker.coordinators.groups.settings import Context, GroupSettings
from broadsheet_broker.coordinators.runtime.turn import NEVER, Step, Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup, DescribedGroupMember
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse, MemberResponse
from broadsheet_broker.wire.messages.list_groups_response import ListedGroup
from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest
from broadsheet_broker.wire.messages.offset_delete_request import OffsetDeleteRequest
from broadsheet_broker.wire.messages.offset_delete_response import OffsetDeleteResponse
from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequestTopics
from broadsheet_broker.wire.messages.offset_fetch_response import OffsetFetchResponseTopics
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest

logger = logging.getLogger(__name__)

GROUP_NOT_FOUND_FROM = 9
"""OffsetCommit version from which a missing group is called so; before, ILLEGAL_GENERATION."""
DESCRIBE_NOT_FOUND_FROM = 6
"""DescribeGroups version from which a missing group is an error; before, it was described as Dead."""


class GroupShard:
    """Groups and offsets of one partition."""

    __slots__ = ("_foreign_warned", "_predecessors", "_transactions", "groups", "offsets", "protocol", "settings")

    def __init__(self, settings: GroupSettings, protocol: ClassicProtocol) -> None:
        self.settings = settings
        self.protocol = protocol
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets(settings)
        self._predecessors: dict[str, ClassicGroup] = {}
        """Groups whose deletion failed after others had taken their place, which are not in the log yet either."""
        self._transactions: dict[int, list[records.OffsetRecord]] = {}
        """While loading: offsets of transactions without an end yet, by producer id."""
        self._foreign_warned = False

    # Loading

    def replay(self, key: bytes | None, value: bytes | None, producer_id: int | None = None) -> None:
        """A record of the log, oldest first; `producer_id` when it belongs to a transaction."""
        if key is None:
            return
        record = records.read(key, value)
        if isinstance(record, records.OffsetRecord):
            if producer_id is None:
                self._replay_offset(record)
            else:
                self._transactions.setdefault(producer_id, []).append(record)
        elif isinstance(record, records.GroupRecord):
            if record.group is None:
                self.groups.pop(record.group_id, None)
            else:
                self.groups[record.group_id] = record.group
        else:
            self._replay_foreign(record)

    def _replay_offset(self, record: records.OffsetRecord) -> None:
        self.offsets.apply(record)
        if record.value is not None and record.group_id not in self.groups:
            self.groups[record.group_id] = ClassicGroup(record.group_id, record.value.commit_ms)

    def replay_transaction_end(self, producer_id: int, committed: bool) -> None:
        """The end marker of a transaction: its offsets count from here, or not at all."""
        for record in self._transactions.pop(producer_id, ()):
            if committed:
                self._replay_offset(record)

    def _replay_foreign(self, record: records.ForeignRecord) -> None:
        if not self._foreign_warned:
            self._foreign_warned = True
            logger.warning(
                "Records of type %d in __consumer_offsets are of a kind that this broker does not know yet; "
                "they and others like them are left as they are",
                record.type,
            )
        type_ = records.FOREIGN_TYPES.get(record.type)
        if type_ is None or record.group_id is None:
            return
        if not record.tombstone:
            if not isinstance(self.groups.get(record.group_id), ForeignGroup):
                self.groups[record.group_id] = ForeignGroup(record.group_id, type_)
        elif record.type in records.FOREIGN_GROUP_KEYS and isinstance(self.groups.get(record.group_id), ForeignGroup):
            del self.groups[record.group_id]

    def loaded(self, turn: Turn) -> None:
        """The log has been read to its end: members get a full session to show up."""
        for group in list(self.groups.values()):
            if isinstance(group, ClassicGroup):
                for member_id in group.members:
                    self.protocol.extend_session(group, member_id, turn.now)
                if len(group.members) > self.settings.max_size:
                    self.protocol.prepare_rebalance(group, turn, "it is over group.max.size since it was loaded")

    def contents(self) -> str:
        return f"{len(self.groups)} groups"

    # Time

    def deadlines(self) -> Iterable[str]:
        return self.groups.keys()

    def deadline(self, key: str) -> float:
        group = self.groups.get(key)
        return group.wake_at if isinstance(group, ClassicGroup) else NEVER

    def wake(self, key: str, turn: Turn) -> None:
        group = self.groups.get(key)
        if isinstance(group, ClassicGroup):
            self.protocol.wake(group, turn)

    def unload(self, turn: Turn, error: ErrorCode) -> None:
        """The partition has moved: answer all that waits."""
        for group in self.groups.values():
            if isinstance(group, ClassicGroup):
                self.protocol.abandon(group, turn, error)
        self.groups.clear()

    # Membership

    def classic(self, group_id: str) -> ClassicGroup | None:
        group = self.groups.get(group_id)
        return group if isinstance(group, ClassicGroup) else None

    def join(self, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply) -> None:
        """JoinGroup."""
        settings = self.settings
        if not settings.min_session_timeout_ms <= request.session_timeout_ms <= settings.max_session_timeout_ms:
            turn.reply(reply, join_error(ErrorCode.INVALID_SESSION_TIMEOUT, request.member_id))
            return
        group = self.groups.get(request.group_id)
        if isinstance(group, ForeignGroup):
            turn.reply(reply, join_error(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
            return
        if group is not None:
            self.protocol.join(group, request, context, turn, reply)
            return
        if request.member_id:
            turn.reply(reply, join_error(ErrorCode.UNKNOWN_MEMBER_ID, request.member_id))
            return
        group = self._create(request.group_id, turn)
        self.protocol.join(group, request, context, turn, reply)
        if not group.members and not group.pending_joins:
            del self.groups[request.group_id]  # refused: nothing to keep
        elif not turn.writes:
            # The group must outlive a change of coordinator from now on, or a member id just given out means nothing.
            turn.write([records.new_group_metadata(group)], apply=partial(self._created, group))

    def _create(self, group_id: str, turn: Turn) -> ClassicGroup:
        group = ClassicGroup(group_id, turn.time_ms)
        self.groups[group_id] = group
        return group

    def _created(self, group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
        if error and self.groups.get(group.group_id) is group and group.generation == 0:
            logger.warning("Group %s could not be created: %s", group.group_id, error.name)
            self.protocol.abandon(group, turn, error)
            self._uncreate(group)
        self._predecessors.pop(group.group_id, None)

    def _uncreate(self, group: ClassicGroup) -> None:
        del self.groups[group.group_id]
        before = self._predecessors.get(group.group_id)
        if before is not None:
            self.groups[group.group_id] = before

    def sync(self, request: SyncGroupRequest, turn: Turn, reply: SyncReply) -> None:
        """SyncGroup."""
        group = self.classic(request.group_id)
        if group is None:
            turn.reply(reply, sync_error(ErrorCode.UNKNOWN_MEMBER_ID))
        else:
            self.protocol.sync(group, request, turn, reply)

    def heartbeat(self, request: HeartbeatRequest, now: float) -> ErrorCode:
        """Heartbeat. The one call without a turn: it is frequent, writes nothing and is answered at once."""
        group = self.groups.get(request.group_id)
        if group is None or isinstance(group, ForeignGroup):
            return ErrorCode.UNKNOWN_MEMBER_ID
        return self.protocol.heartbeat(group, request, now)

    def leave(self, request: LeaveGroupRequest, turn: Turn, reply: LeaveReply) -> None:
        """LeaveGroup."""
        group = self.classic(request.group_id)
        if group is None:
            error = ErrorCode.UNKNOWN_MEMBER_ID
            members = [
                MemberResponse(member_id=each.member_id, group_instance_id=each.group_instance_id, error_code=error)
                for each in request.members
            ]
            turn.reply(reply, LeaveGroupResponse(error_code=0, members=members))
        else:
            self.protocol.leave(group, request, turn, reply)

    # Offsets

    def commit(self, request: OffsetCommitRequest, context: Context, turn: Turn, reply: CommitReply) -> None:
        """OffsetCommit."""
        group = self.groups.get(request.group_id)
        error = self._check_commit(group, request, context.version)
        if error:
            turn.reply(reply, commit_error(request, error))
            return
        if group is None:
            group = self._create(request.group_id, turn)
            if not self.offsets.commit(request, turn, reply):
                del self.groups[request.group_id]
                return
            turn.writes[-1].apply = partial(self._first_commit, group, turn.writes[-1].apply)
            return
        if isinstance(group, ClassicGroup) and group.state is not GroupState.COMPLETING_REBALANCE:
            self.protocol.extend_session(group, request.member_id, turn.now)
        self.offsets.commit(request, turn, reply)

    def _first_commit(self, group: ClassicGroup, settle: Step | None, turn: Turn, error: ErrorCode) -> None:
        if settle is not None:
            settle(turn, error)
        if error and self.groups.get(group.group_id) is group and group.protocol_type is None:
            untouched = not group.members and not group.pending_joins and not self.offsets.has_any(group.group_id)
            if untouched:
                self._uncreate(group)
        self._predecessors.pop(group.group_id, None)

    def _check_commit(self, group: Group | None, request: OffsetCommitRequest, version: int) -> ErrorCode:
        """Whether a commit comes from a member of the generation, or from a client outside any group (KIP-211)."""
        generation = request.generation_id_or_member_epoch
        if group is None:
            if generation < 0:
                return ErrorCode.NONE
            return ErrorCode.GROUP_ID_NOT_FOUND if version >= GROUP_NOT_FOUND_FROM else ErrorCode.ILLEGAL_GENERATION
        if isinstance(group, ForeignGroup):
            return ErrorCode.NONE if generation < 0 and not request.member_id else ErrorCode.UNKNOWN_MEMBER_ID
        state = group.state
        if generation < 0 and state is GroupState.EMPTY:
            return ErrorCode.NONE
        if generation >= 0 or request.member_id or request.group_instance_id is not None:
            error = validate_member(group, request.member_id, request.group_instance_id)
            if error:
                return error
            if generation != group.generation:
                return ErrorCode.ILLEGAL_GENERATION
        elif state is not GroupState.EMPTY:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if state is GroupState.COMPLETING_REBALANCE:
            # The member knows the new generation but not its partitions yet: it commits again after the sync.
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def fetch(
        self, group_id: str, topics: Iterable[OffsetFetchRequestTopics] | None
    ) -> list[OffsetFetchResponseTopics]:
        """OffsetFetch; all topics when none are named. A group that does not exist has committed nothing."""
        return self.offsets.fetch_all(group_id) if topics is None else self.offsets.fetch(group_id, topics)

    def delete_offsets(
        self, request: OffsetDeleteRequest, turn: Turn, reply: Callable[[OffsetDeleteResponse], None]
    ) -> None:
        """OffsetDelete."""
        group = self.groups.get(request.group_id)
        error = ErrorCode.NONE
        if group is None:
            error = ErrorCode.GROUP_ID_NOT_FOUND
        elif isinstance(group, ForeignGroup):
            error = ErrorCode.UNSUPPORTED_VERSION
        elif group.state is not GroupState.EMPTY and group.protocol_type != CONSUMER_PROTOCOL_TYPE:
            error = ErrorCode.NON_EMPTY_GROUP
        else:
            self.offsets.delete(group, request, turn, reply)
            return
        turn.reply(reply, OffsetDeleteResponse(error_code=error))

    # Administration

    def delete(self, group_id: str, turn: Turn, reply: Callable[[ErrorCode], None]) -> None:
        """DeleteGroups, one group: its offsets and the group itself go together."""
        group = self.groups.get(group_id)
        if group is None:
            turn.reply(reply, ErrorCode.GROUP_ID_NOT_FOUND)
        elif isinstance(group, ForeignGroup):
            turn.reply(reply, ErrorCode.UNSUPPORTED_VERSION)
        elif group.state is not GroupState.EMPTY:
            turn.reply(reply, ErrorCode.NON_EMPTY_GROUP)
        else:
            self._delete(group, self.offsets.all_of(group_id), turn, reply)

    def _delete(
        self,
        group: ClassicGroup,
        partitions: list[tuple[str, int]],
        turn: Turn,
        reply: Callable[[ErrorCode], None] | None,
    ) -> None:
        """Take the group out at once, so that nobody joins it any more, and put it back if the log does not want it."""
        del self.groups[group.group_id]
        tombstones = [records.group_tombstone(group.group_id)]
        write = self.offsets.tombstone(group.group_id, partitions, turn, partial(_answer, reply), tombstones)
        write.apply = partial(self._deleted, group, write.apply)

    def _deleted(self, group: ClassicGroup, settle: Step | None, turn: Turn, error: ErrorCode) -> None:
        if settle is not None:
            settle(turn, error)
        if error and group.group_id in self.groups:
            self._predecessors[group.group_id] = group
        elif error:
            self.groups[group.group_id] = group
        else:
            self.protocol.abandon(group, turn, ErrorCode.UNKNOWN_MEMBER_ID)

    def cleanup(self, turn: Turn) -> int:
        """Expire offsets, and delete empty groups that have none left. Returns how many records that takes."""
        count = 0
        for group in list(self.groups.values()):
            if not isinstance(group, ClassicGroup):
                continue
            doomed, nothing_left = self.offsets.expired(group, turn.time_ms)
            if nothing_left and group.state is GroupState.EMPTY and not group.pending_joins:
                self._delete(group, doomed, turn, None)
                count += len(doomed) + 1
            elif doomed:
                self.offsets.tombstone(group.group_id, doomed, turn)
                count += len(doomed)
        return count

    def topics_deleted(self, names: Collection[str], ids: Mapping[str, UUID], turn: Turn) -> None:
        """Topics are gone: so are the offsets committed for them."""
        for group_id in list(self.offsets.group_ids()):
            if isinstance(self.groups.get(group_id), ForeignGroup):
                continue
            doomed = [each for name in names for each in self.offsets.of_topic(group_id, name, ids.get(name))]
            if doomed:
                self.offsets.tombstone(group_id, doomed, turn)

    def describe(self, group_id: str, version: int) -> DescribedGroup:
        """DescribeGroups, one group."""
        group = self.classic(group_id)
        if group is None:
            return not_found(group_id, version)
        name = group.protocol_name if group.state is GroupState.STABLE else None
        return DescribedGroup(
            error_code=0,
            group_id=group_id,
            group_state=str(group.state),
            protocol_type=group.protocol_type or "",
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
                for member in group.members.values()
            ],
        )

    def list_groups(self, states: Sequence[str], types: Sequence[str]) -> Iterator[ListedGroup]:
        """ListGroups. Filters are in lower case; an empty one lets everything pass."""
        for group in self.groups.values():
            state = str(group.state)
            if (not states or state.lower() in states) and (not types or group.type in types):
                yield ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type or "",
                    group_state=state,
                    group_type=group.type,
                )

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """The groups as plain values, for metrics."""
        for group in self.groups.values():
            yield {
                "group": group.group_id,
                "type": group.type,
                "state": str(group.state),
                "protocol_type": group.protocol_type or "",
                "generation": group.generation if isinstance(group, ClassicGroup) else -1,
                "members": len(group.members) if isinstance(group, ClassicGroup) else 0,
                "offsets": self.offsets.count(group.group_id),
            }


def _answer(reply: Callable[[ErrorCode], None] | None, turn: Turn, error: ErrorCode) -> None:
    if reply is not None:
        turn.reply(reply, error)


def not_found(group_id: str, version: int) -> DescribedGroup:
    """A group that does not exist, as DescribeGroups answers it."""
    group = DescribedGroup(error_code=0, group_id=group_id, group_state=str(GroupState.DEAD))
    if version >= DESCRIBE_NOT_FOUND_FROM:
        group.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        group.error_message = f"Group {group_id} not found."
    return group
