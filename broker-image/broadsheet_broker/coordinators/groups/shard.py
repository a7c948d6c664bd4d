"""The groups of one partition of `__consumer_offsets`: which request concerns which group, and loading from the log.

Pure: writes and replies go through a `Turn`. `coordinator.py` calls it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.coordinators.groups.answers import (
    JoinReply,
    LeaveReply,
    SyncReply,
    join_error,
    nobody_left,
    not_described,
    sync_error,
)
from broadsheet_broker.coordinators.groups.classic import ClassicGroup, ClassicProtocol
from broadsheet_broker.coordinators.groups.classic.records import group_of, new_group_metadata
from broadsheet_broker.coordinators.groups.foreign import ForeignGroup
from broadsheet_broker.coordinators.groups.group import Group
from broadsheet_broker.coordinators.groups.offsets import CommitReply, Offsets, commit_error
from broadsheet_broker.coordinators.groups.settings import Context, GroupSettings
from broadsheet_broker.coordinators.runtime.turn import NEVER, Step, Turn
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
from broadsheet_broker.wire.messages.list_groups_response import ListedGroup
from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest
from broadsheet_broker.wire.messages.offset_delete_request import OffsetDeleteRequest
from broadsheet_broker.wire.messages.offset_delete_response import OffsetDeleteResponse
from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequestTopics
from broadsheet_broker.wire.messages.offset_fetch_response import OffsetFetchResponseTopics
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest

logger = logging.getLogger(__name__)

GROUP_NOT_FOUND_FROM = 9
"""OffsetCommit version from which a missing group has its own error; before, ILLEGAL_GENERATION."""


class GroupShard:
    """Groups and offsets of one partition."""

    __slots__ = ("_foreign_warned", "_predecessors", "_transactions", "groups", "offsets", "protocol", "settings")

    def __init__(self, settings: GroupSettings, protocol: ClassicProtocol) -> None:
        self.settings = settings
        self.protocol = protocol
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets(settings)
        self._predecessors: dict[str, Group] = {}
        """Groups whose deletion failed after a new group of that id was created, which is not in the log yet either."""
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
            if record.value is None:
                self.groups.pop(record.group_id, None)
            else:
                self.groups[record.group_id] = group_of(record.group_id, record.value, self.protocol)
        else:
            self._replay_foreign(record)

    def _replay_offset(self, record: records.OffsetRecord) -> None:
        self.offsets.apply(record)
        if record.value is not None and record.group_id not in self.groups:
            self.groups[record.group_id] = ClassicGroup(record.group_id, record.value.commit_ms, self.protocol)

    def replay_transaction_end(self, producer_id: int, committed: bool) -> None:
        """The end marker of a transaction: its offsets count from here, or not at all."""
        for record in self._transactions.pop(producer_id, ()):
            if committed:
                self._replay_offset(record)

    def _replay_foreign(self, record: records.ForeignRecord) -> None:
        if not self._foreign_warned:
            self._foreign_warned = True
            logger.warning(
                "this broker does not support records of type %d, which are in __consumer_offsets; "
                "these and other unknown records are kept unchanged",
                record.type,
            )
        type_ = records.FOREIGN_TYPES.get(record.type)
        if type_ is None or record.group_id is None:
            return
        known = self.groups.get(record.group_id)
        is_known = known is not None and known.type == type_
        if not record.tombstone:
            if not is_known:
                self.groups[record.group_id] = ForeignGroup(record.group_id, type_)
        elif is_known and record.type in records.FOREIGN_GROUP_KEYS:
            del self.groups[record.group_id]

    def loaded(self, turn: Turn) -> None:
        for group in list(self.groups.values()):
            group.loaded(turn)

    def contents(self) -> str:
        return f"{len(self.groups)} groups"

    # Time

    def deadlines(self) -> Iterable[str]:
        return self.groups.keys()

    def deadline(self, key: str) -> float:
        group = self.groups.get(key)
        return NEVER if group is None else group.wake_at

    def wake(self, key: str, turn: Turn) -> None:
        group = self.groups.get(key)
        if group is not None:
            group.wake(turn)

    def unload(self, turn: Turn, error: ErrorCode) -> None:
        for group in self.groups.values():
            group.abandon(turn, error)
        self.groups.clear()

    # Membership

    def join(self, request: JoinGroupRequest, context: Context, turn: Turn, reply: JoinReply) -> None:
        """JoinGroup."""
        settings = self.settings
        if not settings.min_session_timeout_ms <= request.session_timeout_ms <= settings.max_session_timeout_ms:
            turn.reply(reply, join_error(ErrorCode.INVALID_SESSION_TIMEOUT, request.member_id))
            return
        group = self.groups.get(request.group_id)
        if group is not None:
            group.join(request, context, turn, reply)
            return
        if request.member_id:
            turn.reply(reply, join_error(ErrorCode.UNKNOWN_MEMBER_ID, request.member_id))
            return
        created = self._create(request.group_id, turn)
        created.join(request, context, turn, reply)
        if created.is_vacant:
            del self.groups[request.group_id]  # refused: nothing to keep
        elif not turn.writes:
            # From now on the group must survive a change of coordinator, or the member id just given out is worthless.
            turn.write([new_group_metadata(created)], apply=partial(self._created, created))

    def _create(self, group_id: str, turn: Turn) -> ClassicGroup:
        group = ClassicGroup(group_id, turn.time_ms, self.protocol)
        self.groups[group_id] = group
        return group

    def _created(self, group: ClassicGroup, turn: Turn, error: ErrorCode) -> None:
        if error and self.groups.get(group.group_id) is group and group.generation == 0:
            logger.warning("Group %s could not be created: %s", group.group_id, error.name)
            group.abandon(turn, error)
            self._uncreate(group)
        self._predecessors.pop(group.group_id, None)

    def _uncreate(self, group: ClassicGroup) -> None:
        del self.groups[group.group_id]
        before = self._predecessors.get(group.group_id)
        if before is not None:
            self.groups[group.group_id] = before

    def sync(self, request: SyncGroupRequest, turn: Turn, reply: SyncReply) -> None:
        """SyncGroup."""
        group = self.groups.get(request.group_id)
        if group is None:
            turn.reply(reply, sync_error(ErrorCode.UNKNOWN_MEMBER_ID))
        else:
            group.sync(request, turn, reply)

    def heartbeat(self, request: HeartbeatRequest, now: float) -> ErrorCode:
        """Heartbeat. The one call without a turn: it is frequent, writes nothing and is answered at once."""
        group = self.groups.get(request.group_id)
        return ErrorCode.UNKNOWN_MEMBER_ID if group is None else group.heartbeat(request, now)

    def leave(self, request: LeaveGroupRequest, turn: Turn, reply: LeaveReply) -> None:
        """LeaveGroup."""
        group = self.groups.get(request.group_id)
        if group is None:
            turn.reply(reply, nobody_left(request))
        else:
            group.leave(request, turn, reply)

    # Offsets

    def commit(self, request: OffsetCommitRequest, context: Context, turn: Turn, reply: CommitReply) -> None:
        """OffsetCommit."""
        group = self.groups.get(request.group_id)
        error = _groupless_commit(request, context.version) if group is None else group.commit_allowed(request)
        if error:
            turn.reply(reply, commit_error(request, error))
        elif group is None:
            self._commit_first(request, turn, reply)
        else:
            group.committing(request.member_id, turn.now)
            self.offsets.commit(request, turn, reply)

    def _commit_first(self, request: OffsetCommitRequest, turn: Turn, reply: CommitReply) -> None:
        group = self._create(request.group_id, turn)
        if self.offsets.commit(request, turn, reply):
            turn.writes[-1].apply = partial(self._first_commit, group, turn.writes[-1].apply)
        else:
            del self.groups[request.group_id]

    def _first_commit(self, group: ClassicGroup, settle: Step | None, turn: Turn, error: ErrorCode) -> None:
        if settle is not None:
            settle(turn, error)
        if error and self.groups.get(group.group_id) is group and group.protocol_type is None:
            untouched = group.is_vacant and not self.offsets.has_any(group.group_id)
            if untouched:
                self._uncreate(group)
        self._predecessors.pop(group.group_id, None)

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
        error = ErrorCode.GROUP_ID_NOT_FOUND if group is None else group.offset_deletion_allowed()
        if group is None or error:
            turn.reply(reply, OffsetDeleteResponse(error_code=error))
        else:
            self.offsets.delete(group, request, turn, reply)

    # Administration

    def delete(self, group_id: str, turn: Turn, reply: Callable[[ErrorCode], None]) -> None:
        """DeleteGroups, one group: its offsets and the group itself go together."""
        group = self.groups.get(group_id)
        error = ErrorCode.GROUP_ID_NOT_FOUND if group is None else group.deletion_allowed()
        if group is None or error:
            turn.reply(reply, error)
        else:
            self._delete(group, self.offsets.all_of(group_id), turn, reply)

    def _delete(
        self,
        group: Group,
        partitions: list[tuple[str, int]],
        turn: Turn,
        reply: Callable[[ErrorCode], None] | None,
    ) -> None:
        """Remove the group immediately so that nobody can join; restore it if the write fails."""
        del self.groups[group.group_id]
        tombstones = [records.group_tombstone(group.group_id)]
        write = self.offsets.tombstone(group.group_id, partitions, turn, partial(_answer, reply), tombstones)
        write.apply = partial(self._deleted, group, write.apply)

    def _deleted(self, group: Group, settle: Step | None, turn: Turn, error: ErrorCode) -> None:
        if settle is not None:
            settle(turn, error)
        if error and group.group_id in self.groups:
            self._predecessors[group.group_id] = group
        elif error:
            self.groups[group.group_id] = group
        else:
            group.abandon(turn, ErrorCode.UNKNOWN_MEMBER_ID)

    def cleanup(self, turn: Turn) -> int:
        """Expire offsets, and delete empty groups that have none left. Returns the number of tombstones."""
        count = 0
        for group in list(self.groups.values()):
            doomed, nothing_left = self.offsets.expired(group, turn.time_ms)
            if nothing_left and group.is_vacant:
                self._delete(group, doomed, turn, None)
                count += len(doomed) + 1
            elif doomed:
                self.offsets.tombstone(group.group_id, doomed, turn)
                count += len(doomed)
        return count

    def topics_deleted(self, names: Collection[str], ids: Mapping[str, UUID], turn: Turn) -> None:
        """Delete the offsets committed for deleted topics."""
        for group_id in list(self.offsets.group_ids()):
            group = self.groups.get(group_id)
            if group is not None and not group.keeps_own_records:
                continue
            doomed = [each for name in names for each in self.offsets.of_topic(group_id, name, ids.get(name))]
            if doomed:
                self.offsets.tombstone(group_id, doomed, turn)

    def describe(self, group_id: str, version: int) -> DescribedGroup:
        """DescribeGroups, one group."""
        group = self.groups.get(group_id)
        return not_described(group_id, version) if group is None else group.describe(version)

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
                "generation": group.generation,
                "members": group.size,
                "offsets": self.offsets.count(group.group_id),
            }


def _answer(reply: Callable[[ErrorCode], None] | None, turn: Turn, error: ErrorCode) -> None:
    if reply is not None:
        turn.reply(reply, error)


def _groupless_commit(request: OffsetCommitRequest, version: int) -> ErrorCode:
    """Whether a commit may create its group: only one that claims no generation (KIP-211)."""
    if request.generation_id_or_member_epoch < 0:
        return ErrorCode.NONE
    return ErrorCode.GROUP_ID_NOT_FOUND if version >= GROUP_NOT_FOUND_FROM else ErrorCode.ILLEGAL_GENERATION
