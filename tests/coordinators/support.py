"""A coordinator on a virtual clock, over a log that commits when the test says so."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from broadsheet_broker.coordinators import Context, GroupCoordinator, GroupSettings
from broadsheet_broker.coordinators.groups.classic import ClassicGroup
from broadsheet_broker.coordinators.groups.shard import GroupShard
from broadsheet_broker.coordinators.runtime import CoordinatedPartition, Record, RuntimeSettings, StoredBatch
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from broadsheet_broker.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from tests.support.virtual_time import VirtualLoop

GROUP = "orders-readers"


def virtual_environment(loop: VirtualLoop) -> Environment:
    return Environment(loop.asyncio(), clock=loop, random=random.Random(7))


class MemoryStorage:
    """Partitions in memory. Appends are committed at once, unless `hold` is set or an error is due."""

    def __init__(self, partitions: int = 1, topic: str = "__consumer_offsets") -> None:
        self.topic = topic
        self.partitions = partitions
        self.logs: dict[int, list[StoredBatch]] = {index: [] for index in range(partitions)}
        self.hold = False
        self.fail: ErrorCode | None = None
        self.held: list[tuple[int, Sequence[Record], Callable[[ErrorCode], None]]] = []
        self.appends = 0

    def partition_count(self) -> int | None:
        return self.partitions

    def append(
        self, partition: int, records: Sequence[Record], time_ms: int, callback: Callable[[ErrorCode], None]
    ) -> None:
        assert records, "an empty batch"
        self.appends += 1
        if self.fail is not None:
            callback(self.fail)
        elif self.hold:
            self.held.append((partition, records, callback))
        else:
            self.logs[partition].append(StoredBatch(list(records)))
            callback(ErrorCode.NONE)

    def release(self, error: ErrorCode = ErrorCode.NONE) -> None:
        """Commit what is held, or fail it."""
        held, self.held = self.held, []
        for partition, records, callback in held:
            if not error:
                self.logs[partition].append(StoredBatch(list(records)))
            callback(error)

    def read(self, partition: int) -> Iterator[StoredBatch]:
        yield from list(self.logs[partition])

    def latest(self, partition: int = 0) -> dict[bytes, bytes | None]:
        """The last value of each key, as compaction would keep them, tombstones included."""
        rows: dict[bytes, bytes | None] = {}
        for batch in self.logs[partition]:
            for key, value in batch.records:
                assert key is not None
                rows[key] = value
        return rows


class Replies(list[Any]):
    """Collects the answers of one request; there must be one in the end."""

    def __call__(self, message: Any) -> None:
        assert not self, f"answered twice: {self[0]} and {message}"
        self.append(message)

    @property
    def one(self) -> Any:
        assert len(self) == 1, "not answered"
        return self[0]


class Bench:
    """A coordinator that leads every partition of its log, and shorthands for requests."""

    def __init__(self, *, partitions: int = 1, storage: MemoryStorage | None = None, **settings: int) -> None:
        self.loop = VirtualLoop()
        self.storage = storage or MemoryStorage(partitions)
        given: dict[str, Any] = {"initial_rebalance_delay_ms": 0, "min_session_timeout_ms": 1} | settings
        shared = {each.name for each in dataclasses.fields(RuntimeSettings)} & set(given)
        runtime = RuntimeSettings(**{name: given.pop(name) for name in shared})
        self.coordinator = GroupCoordinator(
            virtual_environment(self.loop), GroupSettings(**given, runtime=runtime), self.storage
        )
        for index in range(self.storage.partitions):
            self.coordinator.partitions.on_leader(index, 0)
        self.loop.settle()

    @property
    def states(self) -> dict[int, str]:
        """How far each partition is, by its number."""
        return {partition.index: partition.state.value for partition in self.coordinator.partitions}

    @property
    def partition(self) -> CoordinatedPartition[GroupShard]:
        """The partition of GROUP, once it is loaded."""
        found = self.coordinator.partitions.find(GROUP)
        assert isinstance(found, CoordinatedPartition)
        return found

    @property
    def group(self) -> ClassicGroup:
        group = self.partition.shard.groups[GROUP]
        assert isinstance(group, ClassicGroup)
        return group

    def state(self, group_id: str = GROUP) -> str:
        return str(self.coordinator.describe([group_id], 5)[0].group_state)

    def join(
        self,
        member_id: str = "",
        *,
        group_id: str = GROUP,
        instance: str | None = None,
        version: int = 9,
        protocols: dict[str, bytes] | None = None,
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        client_id: str = "client",
    ) -> Replies:
        replies = Replies()
        request = JoinGroupRequest(
            group_id=group_id,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=metadata)
                for name, metadata in (protocols or {"range": subscription("orders")}).items()
            ],
        )
        self.coordinator.join_group(request, Context(client_id, "/10.0.0.1", version), replies)
        self.loop.settle()
        return replies

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        group_id: str = GROUP,
        instance: str | None = None,
        protocol_type: str | None = "consumer",
        protocol_name: str | None = "range",
    ) -> Replies:
        replies = Replies()
        request = SyncGroupRequest(
            group_id=group_id,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocol_name=protocol_name,
            assignments=[
                SyncGroupRequestAssignment(member_id=each, assignment=assignment)
                for each, assignment in (assignments or {}).items()
            ],
        )
        self.coordinator.sync_group(request, Context("client", "/10.0.0.1", 5), replies)
        self.loop.settle()
        return replies

    def heartbeat(
        self, member_id: str, generation: int, *, group_id: str = GROUP, instance: str | None = None
    ) -> ErrorCode:
        replies = Replies()
        request = HeartbeatRequest(
            group_id=group_id, generation_id=generation, member_id=member_id, group_instance_id=instance
        )
        self.coordinator.heartbeat(request, None, replies)
        return ErrorCode(replies.one.error_code)

    def leave(self, *members: tuple[str, str | None], group_id: str = GROUP) -> Replies:
        replies = Replies()
        identities = [MemberIdentity(member_id=each, group_instance_id=instance) for each, instance in members]
        self.coordinator.leave_group(
            LeaveGroupRequest(group_id=group_id, members=identities), Context("client", "/10.0.0.1", 5), replies
        )
        self.loop.settle()
        return replies

    def commit(
        self,
        offsets: dict[tuple[str, int], int],
        member_id: str = "",
        generation: int = -1,
        *,
        group_id: str = GROUP,
        instance: str | None = None,
        metadata: str | None = "",
        retention_ms: int = -1,
        version: int = 9,
    ) -> Replies:
        replies = Replies()
        request = OffsetCommitRequest(
            group_id=group_id,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
            topics=[
                OffsetCommitRequestTopic(
                    name=topic,
                    partitions=[
                        OffsetCommitRequestPartition(
                            partition_index=index, committed_offset=offset, committed_metadata=metadata
                        )
                    ],
                )
                for (topic, index), offset in offsets.items()
            ],
        )
        self.coordinator.commit_offsets(request, Context("client", "/10.0.0.1", version), replies)
        self.loop.settle()
        return replies

    def commit_error(self, *arguments: Any, **options: Any) -> ErrorCode:
        """The error of the first partition of a commit."""
        return ErrorCode(self.commit(*arguments, **options).one.topics[0].partitions[0].error_code)

    def fetch(
        self, *partitions: tuple[str, int], group_id: str = GROUP, require_stable: bool = False
    ) -> dict[tuple[str, int], int]:
        """Committed offsets; of all partitions when none are named."""
        return offsets_of(self.fetch_later(*partitions, group_id=group_id, require_stable=require_stable).one)

    def fetch_later(self, *partitions: tuple[str, int], group_id: str = GROUP, require_stable: bool = False) -> Replies:
        replies = Replies()
        topics = [OffsetFetchRequestTopics(name=topic, partition_indexes=[index]) for topic, index in partitions]
        request = OffsetFetchRequestGroup(group_id=group_id, topics=topics or None)
        self.coordinator.fetch_offsets(request, require_stable, replies)
        return replies

    # Whole stories

    def form(self, *names: str, instances: bool = False, **options: Any) -> list[str]:
        """A stable group with one member for each name, each with the assignment `name`; returns the member ids."""
        pending = []
        for name in names:
            if instances:
                pending.append(self.join(instance=name, client_id=name, **options))
            else:
                first = self.join(client_id=name, **options).one
                assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
                pending.append(self.join(first.member_id, client_id=name, **options))
        for _ in range(len(names)):
            # With every member that joined after the first, those before it have to join again.
            for position, replies in enumerate(pending):
                if replies and replies.one.generation_id != self.group.generation:
                    member_id = replies.one.member_id
                    instance = names[position] if instances else None
                    pending[position] = self.join(member_id, instance=instance, **options)
            if all(replies and replies.one.generation_id == self.group.generation for replies in pending):
                break
            for position, replies in enumerate(pending):
                if replies and self.group.state.value == "PreparingRebalance":
                    instance = names[position] if instances else None
                    pending[position] = self.join(replies.one.member_id, instance=instance, **options)
        answers = [replies.one for replies in pending]
        assert {answer.error_code for answer in answers} == {0}
        ids = [answer.member_id for answer in answers]
        plan = {each: name.encode() for each, name in zip(ids, names, strict=True)}
        leader = answers[0].leader
        generation = answers[0].generation_id
        syncs = {}
        for each, name in zip(ids, names, strict=True):
            instance = name if instances else None
            syncs[each] = self.sync(each, generation, plan if each == leader else None, instance=instance)
        assert [syncs[each].one.assignment for each in ids] == [name.encode() for name in names]
        assert self.group.state.value == "Stable"
        return ids


def subscription(*topics: str) -> bytes:
    """A consumer's subscription as version 0 has it, with more bytes after it as later versions have."""
    body = b"".join(len(topic).to_bytes(2, "big") + topic.encode() for topic in topics)
    return b"\x00\x03" + len(topics).to_bytes(4, "big") + body + b"\xff\xff\xff\xff\x00\x00\x00\x00"


def offsets_of(answer: Any) -> dict[tuple[str, int], int]:
    """The offsets of an answered fetch."""
    assert answer.error_code == 0
    return {
        (topic.name, each.partition_index): each.committed_offset
        for topic in answer.topics
        for each in topic.partitions
    }
