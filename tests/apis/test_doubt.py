"""A broker that knows that others may lead: each reason for it, and what each API answers meanwhile.

One that asked to be fenced because its disk was full, the metadata log's too, did not hear that it was deposed and told
a group offsets that the next coordinator had replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from broadsheet_broker import apis
from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.config.internal_topics import GROUP_METADATA_TOPIC
from broadsheet_broker.coordinators import GroupCoordinator, ReplicatedStorage
from broadsheet_broker.coordinators.groups.settings import GroupSettings
from broadsheet_broker.node.doubt import Doubt
from broadsheet_broker.node.lifecycle import BrokerLifecycle
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages import delete_records_request as delete_records
from broadsheet_broker.wire.messages import describe_producers_request as describe_producers
from broadsheet_broker.wire.messages import fetch_request as fetch
from broadsheet_broker.wire.messages import list_offsets_request as list_offsets
from broadsheet_broker.wire.messages import offset_commit_request as offset_commit
from broadsheet_broker.wire.messages import offset_fetch_request as offset_fetch
from broadsheet_broker.wire.messages import offset_for_leader_epoch_request as leader_epoch
from broadsheet_broker.wire.messages import produce_request as produce
from broadsheet_broker.wire.messages.broker_heartbeat_response import BrokerHeartbeatResponse
from broadsheet_broker.wire.messages.delete_groups_request import DeleteGroupsRequest
from broadsheet_broker.wire.messages.describe_groups_request import DescribeGroupsRequest
from broadsheet_broker.wire.messages.find_coordinator_request import FindCoordinatorRequest
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.init_producer_id_request import InitProducerIdRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
from broadsheet_broker.wire.messages.list_groups_request import ListGroupsRequest
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.offset_delete_request import OffsetDeleteRequest
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest
from tests.support.replica_services import Bench, batch, run

apis.load()

LED, COPIED, SINGLE = "led", "copied", "single"
"""Topics of one partition: led here with a replica elsewhere, led elsewhere with a replica here, here alone."""
FOLLOWER = 2
GROUP = "readers"

NONE = ErrorCode.NONE
MOVED = ErrorCode.NOT_LEADER_OR_FOLLOWER
GONE = ErrorCode.NOT_COORDINATOR
LOADING = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


class Question(NamedTuple):
    key: int
    version: int
    body: Callable[[], Any]
    code: Callable[[Any], int]
    """The error code in the answer."""
    normally: ErrorCode
    in_doubt: ErrorCode


def produced(topic: str, acks: int = 1) -> Any:
    data = [produce.PartitionProduceData(index=0, records=batch(b"new"))]
    return produce.ProduceRequest(
        acks=acks, timeout_ms=1000, topic_data=[produce.TopicProduceData(name=topic, partition_data=data)]
    )


def fetched(topic: str, replica: int = -1) -> Any:
    rows = [fetch.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)]
    return fetch.FetchRequest(
        replica_id=replica, max_wait_ms=0, min_bytes=1, topics=[fetch.FetchTopic(topic=topic, partitions=rows)]
    )


def listed(topic: str) -> Any:
    rows = [list_offsets.ListOffsetsPartition(partition_index=0, timestamp=-1)]
    return list_offsets.ListOffsetsRequest(
        replica_id=-1, topics=[list_offsets.ListOffsetsTopic(name=topic, partitions=rows)]
    )


def epoch_asked() -> Any:
    rows = [leader_epoch.OffsetForLeaderPartition(partition=0, current_leader_epoch=-1, leader_epoch=0)]
    topics = [leader_epoch.OffsetForLeaderTopic(topic=LED, partitions=rows)]
    return leader_epoch.OffsetForLeaderEpochRequest(replica_id=-1, topics=topics)


def deleted() -> Any:
    rows = [delete_records.DeleteRecordsPartition(partition_index=0, offset=0)]
    return delete_records.DeleteRecordsRequest(
        timeout_ms=50, topics=[delete_records.DeleteRecordsTopic(name=LED, partitions=rows)]
    )


def producers_asked() -> Any:
    topics = [describe_producers.TopicRequest(name=LED, partition_indexes=[0])]
    return describe_producers.DescribeProducersRequest(topics=topics)


def committed() -> Any:
    rows = [offset_commit.OffsetCommitRequestPartition(partition_index=0, committed_offset=1)]
    topics = [offset_commit.OffsetCommitRequestTopic(name=LED, partitions=rows)]
    return offset_commit.OffsetCommitRequest(group_id=GROUP, topics=topics)


def offsets_asked(stable: bool) -> Any:
    groups = [offset_fetch.OffsetFetchRequestGroup(group_id=GROUP, topics=None)]
    return offset_fetch.OffsetFetchRequest(groups=groups, require_stable=stable)


def joined() -> Any:
    protocols = [JoinGroupRequestProtocol(name="range", metadata=b"")]
    return JoinGroupRequest(
        group_id=GROUP, session_timeout_ms=10_000, rebalance_timeout_ms=10_000, protocol_type="consumer",
        protocols=protocols,
    )  # fmt: skip


def synced() -> Any:
    return SyncGroupRequest(group_id=GROUP, member_id="m", protocol_type="consumer", protocol_name="range")


def whole(answer: Any) -> int:
    return int(answer.error_code)


def of_produce(answer: Any) -> int:
    return int(answer.responses[0].partition_responses[0].error_code)


def of_fetch(answer: Any) -> int:
    return int(answer.responses[0].partitions[0].error_code)


def of_topic(answer: Any) -> int:
    return int(answer.topics[0].partitions[0].error_code)


QUESTIONS = {
    "Produce": Question(0, 9, lambda: produced(LED), of_produce, NONE, MOVED),
    "Produce with acks=all": Question(0, 9, lambda: produced(LED, -1), of_produce, NONE, MOVED),
    "Produce where no other replica is": Question(0, 9, lambda: produced(SINGLE), of_produce, NONE, NONE),
    "Fetch of a consumer": Question(1, 12, lambda: fetched(LED), of_fetch, NONE, MOVED),
    "Fetch of an old consumer": Question(1, 8, lambda: fetched(LED), of_fetch, NONE, MOVED),
    "Fetch of a consumer from a follower": Question(1, 12, lambda: fetched(COPIED), of_fetch, NONE, NONE),
    "Fetch where no other replica is": Question(1, 12, lambda: fetched(SINGLE), of_fetch, NONE, NONE),
    "Fetch of a follower": Question(1, 12, lambda: fetched(LED, FOLLOWER), of_fetch, NONE, NONE),
    "ListOffsets": Question(2, 7, lambda: listed(LED), of_topic, NONE, MOVED),
    "ListOffsets where no other replica is": Question(2, 7, lambda: listed(SINGLE), of_topic, NONE, NONE),
    "OffsetForLeaderEpoch": Question(23, 4, epoch_asked, of_topic, NONE, MOVED),
    "DeleteRecords": Question(21, 2, deleted, of_topic, ErrorCode.REQUEST_TIMED_OUT, MOVED),
    "DescribeProducers": Question(61, 0, producers_asked, of_topic, NONE, MOVED),
    "Metadata": Question(
        3, 12, lambda: MetadataRequest(topics=[MetadataRequestTopic(name=LED)]), of_topic, NONE, NONE
    ),
    "InitProducerId": Question(22, 4, lambda: InitProducerIdRequest(transactional_id=None), whole, NONE, NONE),
    "FindCoordinator": Question(
        10, 3, lambda: FindCoordinatorRequest(key=GROUP), whole, NONE, ErrorCode.COORDINATOR_NOT_AVAILABLE
    ),
    "JoinGroup": Question(11, 9, joined, whole, ErrorCode.MEMBER_ID_REQUIRED, GONE),
    "SyncGroup": Question(
        14, 5, synced, whole, ErrorCode.UNKNOWN_MEMBER_ID, GONE
    ),
    "Heartbeat": Question(
        12, 4, lambda: HeartbeatRequest(group_id=GROUP, member_id="m"), whole, ErrorCode.UNKNOWN_MEMBER_ID, GONE
    ),
    "LeaveGroup": Question(
        13, 2, lambda: LeaveGroupRequest(group_id=GROUP, member_id="m"), whole, ErrorCode.UNKNOWN_MEMBER_ID, GONE
    ),
    "OffsetCommit": Question(8, 8, committed, of_topic, NONE, GONE),
    "OffsetFetch": Question(9, 8, lambda: offsets_asked(False), lambda a: whole(a.groups[0]), NONE, GONE),
    "OffsetFetch of stable offsets": Question(
        9, 8, lambda: offsets_asked(True), lambda a: whole(a.groups[0]), NONE, GONE
    ),
    "OffsetDelete": Question(
        47, 0, lambda: OffsetDeleteRequest(group_id=GROUP), whole, NONE, GONE
    ),
    "DescribeGroups": Question(
        15, 5, lambda: DescribeGroupsRequest(groups=[GROUP]), lambda a: whole(a.groups[0]), NONE, GONE
    ),
    "ListGroups": Question(16, 4, ListGroupsRequest, whole, NONE, LOADING),
    "DeleteGroups": Question(
        42, 2, lambda: DeleteGroupsRequest(groups_names=[GROUP]), lambda a: whole(a.results[0]), NONE, GONE
    ),
}  # fmt: skip


def configuration() -> BrokerConfig:
    return BrokerConfig(
        {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": "1@localhost:9093,2@localhost:9094,3@localhost:9095",
            "listeners": "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": "/data",
            "broker.heartbeat.interval.ms": "10",
        }
    )


class Life:
    """A broker's life that takes part, and what brings each doubt about."""

    def __init__(self, bench: Bench) -> None:
        self.is_behind = self.is_lost = False
        self.offset = 100
        self.fenced = False
        self.late = 0.0
        self._loop = bench.environment.loop
        config = configuration()
        environment = SimpleNamespace(loop=self._loop, monotonic=lambda: self._loop.time() + self.late)
        self.cycle = BrokerLifecycle(environment, config, self, self._call)  # type: ignore[arg-type]
        self.cycle.adopt(1)

    def knows_broker(self, broker_id: int, epoch: int) -> bool:
        return True

    async def _call(self, request: Any, *_: Any) -> Any:
        return BrokerHeartbeatResponse(is_fenced=self.fenced or request.want_fence, is_caught_up=True)

    def begin(self, doubt: Doubt) -> None:
        match doubt:
            case Doubt.LEAVING:
                self.leaving = self._loop.create_task(self.cycle.leave(60))
            case Doubt.ASIDE:
                self.cycle.step_aside(True)
            case Doubt.FENCED:
                self.fenced = True
                self.cycle.report_soon()
            case Doubt.BEHIND:
                self.is_behind = True
            case Doubt.METADATA_LOST:
                self.is_lost = True
            case Doubt.PAUSED:
                self.late = 100.0
                self.cycle._call = self._never  # else a heartbeat on its way ends it at once

    async def _never(self, *_: Any) -> Any:
        await self._loop.create_future()


@asynccontextmanager
async def at_work(bench: Bench) -> AsyncIterator[Life]:
    """A broker that leads, copies and coordinates, and takes part."""
    groups = GroupCoordinator(
        bench.environment,
        GroupSettings(),
        ReplicatedStorage(bench.replicas, bench.metadata, GROUP_METADATA_TOPIC),  # type: ignore[arg-type]
    )
    bench.replicas.on_leadership_change(groups.partitions.on_leadership_change)
    bench.services.groups = groups
    bench.services.config = configuration()
    bench.services.node = SimpleNamespace(producer_ids=SimpleNamespace(next=_seven))
    life = Life(bench)
    bench.replicas.may_be_replaced = lambda: life.cycle.doubt() is not None
    groups.partitions.may_be_replaced = lambda index: bench.replicas.is_in_doubt(GROUP_METADATA_TOPIC, index)
    bench.create(LED, replicas=[1, FOLLOWER], isr=[1])
    bench.create(GROUP_METADATA_TOPIC, replicas=[1, FOLLOWER], isr=[1], cleanup_policy="compact")
    bench.create(COPIED, leader=FOLLOWER)
    bench.create(SINGLE)
    await bench.until(lambda: [partition.index for partition in groups.partitions.active()] == [0])
    commit = await bench.call(8, 8, committed())
    assert of_topic(commit) == NONE
    life.cycle.begin()
    try:
        yield life
    finally:
        await life.cycle.stop()
        groups.partitions.close()


async def _seven() -> int:
    return 7


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("doubt", [None, *Doubt], ids=lambda doubt: doubt.name.lower() if doubt else "takes_part")
def test_what_a_broker_answers_while_others_may_lead(doubt: Doubt | None, name: str, tmp_path: Path) -> None:
    question = QUESTIONS[name]

    async def scenario(bench: Bench) -> None:
        async with at_work(bench) as life:
            if doubt is not None:
                life.begin(doubt)
                await bench.until(lambda: life.cycle.doubt() is doubt)
            answer = await bench.call(question.key, question.version, question.body())
            expected = question.normally if doubt is None else question.in_doubt
            assert ErrorCode(question.code(answer)) is expected

    run(tmp_path, scenario)


def test_a_refusal_names_no_leader_that_the_broker_is_not_sure_of(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        async with at_work(bench) as life:
            life.begin(Doubt.BEHIND)
            answer = await bench.call(0, 10, produced(LED))
            assert answer.node_endpoints == []
            assert answer.responses[0].partition_responses[0].current_leader.leader_id == -1

    run(tmp_path, scenario)


def test_who_asked_to_be_fenced_is_in_doubt_until_a_later_heartbeat_says_that_it_takes_part(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        async with at_work(bench) as life:
            life.cycle.step_aside(True)
            await bench.until(lambda: life.cycle.is_fenced)
            life.fenced = True  # it does not know yet that it was fenced, so the controller keeps it out
            life.cycle.step_aside(False)
            assert life.cycle.doubt() is Doubt.ASIDE
            await asyncio.sleep(0)
            life.fenced = False
            life.cycle.report_soon()
            await bench.until(lambda: life.cycle.doubt() is None)

    run(tmp_path, scenario)


def test_who_asked_to_be_fenced_in_vain_asks_first_whether_it_was(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        async with at_work(bench) as life:
            answering, life.cycle._call = life.cycle._call, life._never
            life.cycle.step_aside(True)
            await bench.until(lambda: life.cycle.doubt() is Doubt.ASIDE)
            life.cycle.step_aside(False)
            assert life.cycle.doubt() is Doubt.ASIDE and not life.cycle.is_fenced
            life.cycle._call = answering

    run(tmp_path, scenario)
