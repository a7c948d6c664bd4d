"""A simulated member of a consumer group: the classic protocol, with commits that are noted."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.find_coordinator_request import FindCoordinatorRequest
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from broadsheet_broker.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from broadsheet_broker.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from tests.simulation.clients.connection import PROBLEMS, BrokerError, ClusterView, Connection
from tests.simulation.clients.consumer import Consumer
from tests.support.history.operations import Commit, History, Outcome, Partition, ReadCommit

SESSION_TIMEOUT_MS = 6000
_PARTITION = struct.Struct(">i")
_NEVER_WRITTEN = {
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.REBALANCE_IN_PROGRESS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
}
"""A commit that is refused so has no effect. NOT_COORDINATOR leaves it open: what the old one wrote may stay."""


async def find_coordinator(view: ClusterView, group: str) -> Connection:
    """A connection to the coordinator of a group; raises what clients meet when there is none."""
    connection = await view.anybody()
    answer = await connection.call(FindCoordinatorRequest(key_type=0, coordinator_keys=[group]), 4)
    found = answer.coordinators[0]
    _check(found.error_code)
    return await view.connect((found.host, found.port), "coordinator")


async def read_commits(
    view: ClusterView, connection: Connection, history: History, group: str, partitions: list[Partition]
) -> dict[Partition, int]:
    """Where the group is, as the coordinator says; -1 where it has not committed."""
    names = sorted({name for name, _ in partitions})
    topics = [
        OffsetFetchRequestTopics(name=name, partition_indexes=[index for topic, index in partitions if topic == name])
        for name in names
    ]
    invoked = view.time()
    body = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=topics)], require_stable=True)
    answer = (await connection.call(body, 8)).groups[0]
    _check(answer.error_code)
    result: dict[Partition, int] = {}
    for topic in answer.topics:
        for row in topic.partitions:
            _check(row.error_code)
            result[topic.name, row.partition_index] = row.committed_offset
    now = view.time()
    for partition, offset in result.items():
        history.committed.append(ReadCommit(group, partition, offset, invoked, now))
    return result


def _check(code: int) -> None:
    if code:
        raise BrokerError(code)


class Member:
    """Joins, reads what it is assigned from where the group is, commits from time to time, and joins again."""

    def __init__(self, consumer: Consumer, view: ClusterView, history: History, group: str, topic: str) -> None:
        self.consumer = consumer
        self._view = view
        self._history = history
        self.group = group
        self._topic = topic
        self._member_id = ""
        self._generation = -1
        self._committing: tuple[float, dict[Partition, int]] | None = None
        """Since when a commit is under way, and what it says."""

    async def run(self, commit_interval: float) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._one_generation(commit_interval)
            except BrokerError as error:
                if error.code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
                    self._member_id = ""
                if error.code is not ErrorCode.REBALANCE_IN_PROGRESS:
                    await self._view.rest()
            except PROBLEMS:
                await self._view.rest()

    async def leave(self) -> None:
        """Tell the coordinator, if it can be reached."""
        try:
            connection = await find_coordinator(self._view, self.group)
            await connection.call(
                LeaveGroupRequest(group_id=self.group, members=[MemberIdentity(member_id=self._member_id)]), 4
            )
        except (BrokerError, *PROBLEMS):
            return

    async def _one_generation(self, commit_interval: float) -> None:
        connection = await find_coordinator(self._view, self.group)
        partitions = await self._join(connection)
        await self._view.refresh([self._topic])
        places = await read_commits(self._view, connection, self._history, self.group, partitions) if partitions else {}
        self.consumer.assign((partition, max(0, places.get(partition, 0))) for partition in partitions)
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self.consumer.run())
        try:
            while True:
                await asyncio.sleep(commit_interval)
                try:
                    await self._heartbeat(connection)
                except BrokerError:
                    await self._commit(connection)  # Java too commits when it learns of a rebalance
                    raise
                await self._commit(connection)
                if reading.done():
                    reading.result()
        finally:
            reading.cancel()

    async def _join(self, connection: Connection) -> list[Partition]:
        while True:
            body = JoinGroupRequest(
                group_id=self.group,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                rebalance_timeout_ms=5000,
                member_id=self._member_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=self._topic.encode())],
            )
            joined = await connection.call(body, 7, limit=20.0)
            if joined.error_code != ErrorCode.MEMBER_ID_REQUIRED:
                break
            self._member_id = joined.member_id
        _check(joined.error_code)
        self._member_id, self._generation = joined.member_id, joined.generation_id
        assignments = self._assign(joined) if joined.leader == joined.member_id else []
        sync = SyncGroupRequest(
            group_id=self.group,
            generation_id=self._generation,
            member_id=self._member_id,
            protocol_type="consumer",
            protocol_name="range",
            assignments=assignments,
        )
        answer = await connection.call(sync, 5, limit=20.0)
        _check(answer.error_code)
        return [(self._topic, index) for (index,) in _PARTITION.iter_unpack(answer.assignment)]

    def _assign(self, joined: Any) -> list[SyncGroupRequestAssignment]:
        """One after the other."""
        members = sorted(member.member_id for member in joined.members)
        indexes = sorted(index for name, index in self._view.leaders if name == self._topic)
        return [
            SyncGroupRequestAssignment(
                member_id=member, assignment=b"".join(map(_PARTITION.pack, indexes[place :: len(members)]))
            )
            for place, member in enumerate(members)
        ]

    async def _heartbeat(self, connection: Connection) -> None:
        body = HeartbeatRequest(group_id=self.group, generation_id=self._generation, member_id=self._member_id)
        _check((await connection.call(body, 4)).error_code)

    async def _commit(self, connection: Connection) -> None:
        places = {partition: place.offset for partition, place in sorted(self.consumer.places.items())}
        if not places:
            return
        rows = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="")
            for (_, index), offset in places.items()
        ]
        body = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self._generation,
            member_id=self._member_id,
            topics=[OffsetCommitRequestTopic(name=self._topic, partitions=rows)],
        )
        codes: dict[int, int] = {}
        self._committing = self._view.time(), places
        try:
            answer = await connection.call(body, 8)
            codes = {row.partition_index: row.error_code for row in answer.topics[0].partitions}
        finally:
            self._note(codes)
        for code in codes.values():
            _check(code)

    def end(self) -> None:
        """The run is over: what is under way may have been stored."""
        self._note({})

    def _note(self, codes: dict[int, int]) -> None:
        if self._committing is None:
            return
        now, (invoked, places) = self._view.time(), self._committing
        self._committing = None
        for partition, offset in places.items():
            outcome = _outcome(codes.get(partition[1]))
            self._history.commits.append(Commit(self.group, partition, offset, outcome, invoked, now))


def _outcome(code: int | None) -> Outcome:
    if code == ErrorCode.NONE:
        return Outcome.OK
    return Outcome.FAILED if code is not None and ErrorCode(code) in _NEVER_WRITTEN else Outcome.UNKNOWN
