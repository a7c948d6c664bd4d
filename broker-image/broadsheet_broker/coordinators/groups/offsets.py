"""Committed offsets of the groups of one partition of `__consumer_offsets`.

Memory changes only when a record is committed in the log. So a fetch returns what a new coordinator would return, and
a failed write needs no undoing. Writes in flight are only counted, since a deletion must write tombstones for them too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from uuid import UUID

from broadsheet_broker.coordinators.groups.group import Group
from broadsheet_broker.coordinators.groups.records import (
    CommittedOffset,
    OffsetRecord,
    offset_commit,
    offset_tombstone,
)
from broadsheet_broker.coordinators.groups.settings import GroupSettings
from broadsheet_broker.coordinators.runtime.turn import Record, Turn, Write
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest
from broadsheet_broker.wire.messages.offset_commit_response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from broadsheet_broker.wire.messages.offset_delete_request import OffsetDeleteRequest
from broadsheet_broker.wire.messages.offset_delete_response import (
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequestTopics
from broadsheet_broker.wire.messages.offset_fetch_response import (
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)
from broadsheet_broker.wire.primitives import ZERO_UUID

CommitReply = Callable[[OffsetCommitResponse], None]

Key = tuple[str, str, int]
"""Group id, topic name, partition."""


class Offsets:
    """Offsets by group, topic and partition."""

    __slots__ = ("_by_group", "_on_their_way", "settings")

    def __init__(self, settings: GroupSettings) -> None:
        self.settings = settings
        self._by_group: dict[str, dict[str, dict[int, CommittedOffset]]] = {}
        self._on_their_way: dict[str, dict[tuple[str, int], int]] = {}
        """Per group, how many writes of each partition are not committed yet."""

    # Memory

    def apply(self, record: OffsetRecord) -> None:
        """Apply a committed record: one read from the log, or one written here."""
        group_id, topic, partition, value = record
        if value is not None:
            self._by_group.setdefault(group_id, {}).setdefault(topic, {})[partition] = value
            return
        topics = self._by_group.get(group_id)
        if topics is None or topic not in topics:
            return
        partitions = topics[topic]
        partitions.pop(partition, None)
        if not partitions:
            del topics[topic]
            if not topics:
                del self._by_group[group_id]

    def get(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        return self._by_group.get(group_id, {}).get(topic, {}).get(partition)

    def count(self, group_id: str) -> int:
        """Partitions for which the group has committed."""
        return sum(map(len, self._by_group.get(group_id, {}).values()))

    def has_any(self, group_id: str) -> bool:
        """Whether the group has offsets, committed or on their way."""
        return group_id in self._by_group or group_id in self._on_their_way

    def group_ids(self) -> Collection[str]:
        return self._by_group.keys()

    def _keys(self, group_id: str) -> Iterator[tuple[str, int]]:
        """Partitions with an offset, committed or on its way."""
        committed = self._by_group.get(group_id, {})
        for topic, partitions in committed.items():
            for partition in partitions:
                yield topic, partition
        for topic, partition in self._on_their_way.get(group_id, {}):
            if partition not in committed.get(topic, {}):
                yield topic, partition

    def _write(
        self,
        records: list[Record],
        changes: list[OffsetRecord],
        turn: Turn,
        done: Callable[[Turn, ErrorCode], None] | None,
    ) -> Write:
        for group_id, topic, partition, _ in changes:
            waiting = self._on_their_way.setdefault(group_id, {})
            waiting[topic, partition] = waiting.get((topic, partition), 0) + 1
        return turn.write(records, done, partial(self._settle, changes))

    def _settle(self, changes: list[OffsetRecord], turn: Turn, error: ErrorCode) -> None:
        for change in changes:
            group_id, topic, partition, _ = change
            waiting = self._on_their_way[group_id]
            left = waiting[topic, partition] - 1
            if left:
                waiting[topic, partition] = left
            else:
                del waiting[topic, partition]
                if not waiting:
                    del self._on_their_way[group_id]
            if not error:
                self.apply(change)

    # Commit

    def commit(self, request: OffsetCommitRequest, turn: Turn, reply: CommitReply) -> bool:
        """Write the offsets of a valid request. Returns whether there was anything to write."""
        group_id = request.group_id
        retention_ms = request.retention_time_ms
        expire_ms = -1 if retention_ms == -1 else turn.time_ms + retention_ms
        longest = self.settings.offset_metadata_max_bytes
        records: list[Record] = []
        changes: list[OffsetRecord] = []
        topics = []
        for topic in request.topics:
            answers = []
            name = topic.name
            for each in topic.partitions:
                metadata = each.committed_metadata or ""
                index = each.partition_index
                if len(metadata) > longest:
                    error = int(ErrorCode.OFFSET_METADATA_TOO_LARGE)
                else:
                    error = 0
                    value = CommittedOffset(
                        each.committed_offset,
                        each.committed_leader_epoch,
                        metadata,
                        turn.time_ms,
                        expire_ms,
                        topic.topic_id,
                    )
                    records.append(offset_commit(group_id, name, index, value))
                    changes.append(OffsetRecord(group_id, name, index, value))
                answers.append(OffsetCommitResponsePartition(partition_index=index, error_code=error))
            topics.append(OffsetCommitResponseTopic(name=name, topic_id=topic.topic_id, partitions=answers))
        response = OffsetCommitResponse(topics=topics)
        if not records:
            turn.reply(reply, response)
            return False
        self._write(records, changes, turn, partial(_committed, request, response, reply))
        return True

    # Fetch

    def fetch(self, group_id: str, topics: Iterable[OffsetFetchRequestTopics]) -> list[OffsetFetchResponseTopics]:
        """The committed offsets of some partitions; -1 where there is none."""
        by_topic = self._by_group.get(group_id, {})
        return [
            OffsetFetchResponseTopics(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=_answers(topic.partition_indexes, by_topic.get(topic.name, {}), topic.topic_id),
            )
            for topic in topics
        ]

    def fetch_all(self, group_id: str) -> list[OffsetFetchResponseTopics]:
        """All that the group has committed."""
        return [
            OffsetFetchResponseTopics(name=name, partitions=_answers(partitions, partitions, ZERO_UUID))
            for name, partitions in self._by_group.get(group_id, {}).items()
        ]

    # Delete

    def delete(
        self,
        group: Group,
        request: OffsetDeleteRequest,
        turn: Turn,
        reply: Callable[[OffsetDeleteResponse], None],
    ) -> None:
        """Delete offsets of partitions of topics that the group does not read now."""
        present = set(self._keys(request.group_id))
        doomed: list[tuple[str, int]] = []
        topics = []
        for topic in request.topics:
            subscribed = group.subscribes_to(topic.name)
            error = int(ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC) if subscribed else 0
            indexes = [partition.partition_index for partition in topic.partitions]
            if not subscribed:
                doomed.extend((topic.name, index) for index in indexes if (topic.name, index) in present)
            answers = [OffsetDeleteResponsePartition(partition_index=index, error_code=error) for index in indexes]
            topics.append(OffsetDeleteResponseTopic(name=topic.name, partitions=answers))
        response = OffsetDeleteResponse(error_code=0, topics=topics)
        if doomed:
            self.tombstone(request.group_id, doomed, turn, partial(_deleted, response, reply))
        else:
            turn.reply(reply, response)

    def tombstone(
        self,
        group_id: str,
        partitions: list[tuple[str, int]],
        turn: Turn,
        done: Callable[[Turn, ErrorCode], None] | None = None,
        then: Iterable[Record] = (),
    ) -> Write:
        """Write tombstones for some partitions, and other records with them."""
        changes = [OffsetRecord(group_id, topic, partition, None) for topic, partition in partitions]
        records = [offset_tombstone(group_id, topic, partition) for topic, partition in partitions]
        return self._write([*records, *then], changes, turn, done)

    def all_of(self, group_id: str) -> list[tuple[str, int]]:
        """Every partition of the group that needs a tombstone when the group goes."""
        return list(self._keys(group_id))

    def of_topic(self, group_id: str, topic: str, topic_id: UUID | None) -> list[tuple[str, int]]:
        """Partitions of a deleted topic. Offsets of a different topic with that name (by its id) are kept."""
        found = []
        for name, partition in self._keys(group_id):
            if name == topic:
                value = self.get(group_id, name, partition)
                if value is None or topic_id is None or not _other_topic(value.topic_id, topic_id):
                    found.append((name, partition))
        return found

    # Expiry

    def expired(self, group: Group, time_ms: int) -> tuple[list[tuple[str, int]], bool]:
        """Partitions whose offsets have expired, and whether nothing is left without them (see `offset_expiry`)."""
        by_topic = self._by_group.get(group.group_id)
        busy = group.group_id in self._on_their_way
        if by_topic is None:
            return [], not busy
        expiry = group.offset_expiry()
        if expiry is None:
            return [], False
        doomed = []
        left = busy
        for topic, partitions in by_topic.items():
            if group.subscribes_to(topic):
                left = True
                continue
            for partition, value in partitions.items():
                if self._is_expired(value, expiry.since_ms, time_ms):
                    doomed.append((topic, partition))
                else:
                    left = True
        return doomed, not left

    def _is_expired(self, value: CommittedOffset, since_ms: int, time_ms: int) -> bool:
        if value.expire_ms != -1:
            return time_ms >= value.expire_ms
        since = value.commit_ms if since_ms == -1 else since_ms
        return time_ms - since >= self.settings.offsets_retention_ms


def commit_error(request: OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse:
    """The same error for every partition of a commit."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=each.partition_index, error_code=error)
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _committed(
    request: OffsetCommitRequest, response: OffsetCommitResponse, reply: CommitReply, turn: Turn, error: ErrorCode
) -> None:
    turn.reply(reply, commit_error(request, error) if error else response)


def _deleted(
    response: OffsetDeleteResponse, reply: Callable[[OffsetDeleteResponse], None], turn: Turn, error: ErrorCode
) -> None:
    turn.reply(reply, OffsetDeleteResponse(error_code=error) if error else response)


def _other_topic(committed: UUID, asked: UUID) -> bool:
    """Whether an offset belongs to an earlier topic of the same name. Zero ids match everything."""
    return committed != asked and committed != ZERO_UUID and asked != ZERO_UUID


def _answers(
    indexes: Iterable[int], committed: Mapping[int, CommittedOffset], topic_id: UUID
) -> list[OffsetFetchResponsePartitions]:
    answers = []
    for index in indexes:
        value = committed.get(index)
        if value is None or _other_topic(value.topic_id, topic_id):
            answers.append(
                OffsetFetchResponsePartitions(
                    partition_index=index, committed_offset=-1, committed_leader_epoch=-1, metadata="", error_code=0
                )
            )
        else:
            answers.append(
                OffsetFetchResponsePartitions(
                    partition_index=index,
                    committed_offset=value.offset,
                    committed_leader_epoch=value.leader_epoch,
                    metadata=value.metadata,
                    error_code=0,
                )
            )
    return answers
