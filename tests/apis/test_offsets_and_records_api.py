"""ListOffsets, DeleteRecords, OffsetForLeaderEpoch, DescribeLogDirs, DescribeProducers over real logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import broadsheet_broker.apis.delete_records
import broadsheet_broker.apis.leader_epoch
import broadsheet_broker.apis.list_offsets
import broadsheet_broker.apis.log_dirs
import broadsheet_broker.apis.produce
import broadsheet_broker.apis.producers  # noqa: F401 - all register their handlers
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from broadsheet_broker.wire.messages.describe_log_dirs_request import DescribableLogDirTopic, DescribeLogDirsRequest
from broadsheet_broker.wire.messages.describe_producers_request import DescribeProducersRequest, TopicRequest
from broadsheet_broker.wire.messages.list_offsets_request import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from broadsheet_broker.wire.messages.offset_for_leader_epoch_request import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.replica_services import NOW_MS, Bench, batch, run


async def produce(bench: Bench, records: bytes, topic: str = "orders") -> None:
    data = PartitionProduceData(index=0, records=records)
    body = ProduceRequest(acks=1, timeout_ms=1000, topic_data=[TopicProduceData(name=topic, partition_data=[data])])
    response = await bench.call(0, 9, body)
    assert response.responses[0].partition_responses[0].error_code == 0


async def offset_at(bench: Bench, timestamp: int, *, version: int = 11, **options: Any) -> tuple[int, int, int, int]:
    partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp, current_leader_epoch=-1)
    for name in ("current_leader_epoch", "partition_index"):
        if name in options:
            setattr(partition, name, options.pop(name))
    body = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsTopic(name="orders", partitions=[partition])], **options
    )
    response = await bench.call(2, version, body)
    row = response.topics[0].partitions[0]
    return row.error_code, row.timestamp, row.offset, row.leader_epoch


def test_list_offsets_finds_times_and_places(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        assert await offset_at(bench, -1) == (0, -1, 0, 0)
        assert await offset_at(bench, -3) == (0, -1, -1, -1)
        for step in (0, 30, 20):
            await produce(bench, batch(b"x", b"y", timestamp=NOW_MS - 100 + step))
        assert await offset_at(bench, -1) == (0, -1, 6, 0)
        assert await offset_at(bench, -2) == (0, -1, 0, 0)
        assert await offset_at(bench, -3) == (0, NOW_MS - 70, 2, 0)
        assert await offset_at(bench, -4) == (0, -1, 0, 0)
        assert await offset_at(bench, -5) == (0, -1, -1, -1)
        assert await offset_at(bench, -6) == (0, -1, -1, -1)
        assert await offset_at(bench, 0) == (0, NOW_MS - 100, 0, 0)
        assert await offset_at(bench, NOW_MS - 99) == (0, NOW_MS - 70, 2, 0)
        assert await offset_at(bench, NOW_MS) == (0, -1, -1, -1)
        assert await offset_at(bench, -1, version=1) == (0, -1, 6, -1)

    run(tmp_path, scenario)


def test_the_latest_record_below_the_high_watermark_is_told(tmp_path: Path) -> None:
    """While a follower is behind, the newest record is not readable yet: the best of the others is."""

    async def scenario(bench: Bench) -> None:
        bench.move_leader(bench.create(leader=2), 1)
        for step in (0, 30, 20, 60):
            await produce(bench, batch(b"x", timestamp=NOW_MS - 100 + step))
        for end, expected in ((2, NOW_MS - 70), (3, NOW_MS - 70), (4, NOW_MS - 40)):
            bench.replicas.partition("orders", 0).update_follower(2, end, 0, NOW_MS)
            assert (await offset_at(bench, -3))[:2] == (0, expected)

    run(tmp_path, scenario)


def test_list_offsets_refusals(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        for timestamp, version in ((-3, 6), (-4, 7), (-5, 8), (-6, 10), (-7, 11)):
            assert (await offset_at(bench, timestamp, version=version))[0] == ErrorCode.UNSUPPORTED_VERSION
        assert (await offset_at(bench, -1, partition_index=4))[0] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (await offset_at(bench, -1, current_leader_epoch=3))[0] == ErrorCode.UNKNOWN_LEADER_EPOCH
        twice = ListOffsetsPartition(partition_index=0, timestamp=-1, current_leader_epoch=-1)
        body = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name="orders", partitions=[twice, twice])])
        response = await bench.call(2, 11, body)
        assert [row.error_code for row in response.topics[0].partitions] == [ErrorCode.INVALID_REQUEST] * 2

    run(tmp_path, scenario)


def test_times_above_the_high_watermark_are_not_found(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(leader=2)
        bench.move_leader(topic_id, 1)
        await produce(bench, batch(b"x"))
        assert await offset_at(bench, -1) == (0, -1, 0, 1)
        assert await offset_at(bench, 0) == (0, -1, -1, -1)
        bench.replicas.partition("orders", 0).update_follower(2, 1, 0, NOW_MS)
        assert await offset_at(bench, 0) == (0, NOW_MS, 0, 1)

    run(tmp_path, scenario)


def test_a_new_leader_tells_consumers_no_offset_before_its_high_watermark_is_where_it_began(tmp_path: Path) -> None:
    """The last leader may have told them more (KIP-207)."""

    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(leader=2)
        partition = bench.replicas.partition("orders", 0)
        partition.append_fetched(memoryview(batch(b"x", b"y", timestamp=NOW_MS - 5, leader_epoch=0)))
        bench.move_leader(topic_id, 1)
        assert (partition.high_watermark, partition.epoch_start_offset) == (0, 2)
        for place in (-1, -3, 0):
            assert (await offset_at(bench, place))[0] == ErrorCode.OFFSET_NOT_AVAILABLE
        assert (await offset_at(bench, -1, version=4))[0] == ErrorCode.LEADER_NOT_AVAILABLE
        assert await offset_at(bench, -2) == (0, -1, 0, 0)
        partition.update_follower(2, 1, 0, NOW_MS)
        assert (await offset_at(bench, -1))[0] == ErrorCode.OFFSET_NOT_AVAILABLE
        assert await offset_at(bench, 0) == (0, NOW_MS - 5, 0, 0)
        partition.update_follower(2, 2, 0, NOW_MS)
        assert await offset_at(bench, -1) == (0, -1, 2, 1)

    run(tmp_path, scenario)


def test_a_transaction_from_before_a_new_leader_hides_no_offset(tmp_path: Path) -> None:
    """Where committed transactions end is known as soon as the high watermark is."""

    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(leader=2)
        partition = bench.replicas.partition("orders", 0)
        partition.append_fetched(memoryview(batch(b"x", leader_epoch=0)))
        open_one = batch(b"y", producer_id=7, producer_epoch=0, base_sequence=0, transactional=True, base_offset=1)
        partition.append_fetched(memoryview(open_one))
        bench.move_leader(topic_id, 1)
        partition.update_follower(2, 2, 0, NOW_MS)
        assert (partition.high_watermark, partition.last_stable_offset) == (2, 1)
        assert await offset_at(bench, -1, isolation_level=1) == (0, -1, 1, 1)

    run(tmp_path, scenario)


async def delete(bench: Bench, offset: int, topic: str = "orders") -> tuple[int, int]:
    partition = DeleteRecordsPartition(partition_index=0, offset=offset)
    body = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[partition])], timeout_ms=1000)
    row = (await bench.call(21, 2, body)).topics[0].partitions[0]
    return row.error_code, row.low_watermark


def test_delete_records(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        bench.create("compacted", cleanup_policy="compact")
        bench.create("__consumer_offsets")
        for _ in range(3):
            await produce(bench, batch(b"x", b"y"))
        assert await delete(bench, 4) == (0, 4)
        assert (await offset_at(bench, -2))[2] == 4
        assert await delete(bench, 7) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
        assert await delete(bench, -5) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
        assert await delete(bench, -1) == (0, 6)
        assert await delete(bench, 0, "nobody") == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
        assert await delete(bench, 0, "compacted") == (ErrorCode.POLICY_VIOLATION, -1)
        assert await delete(bench, 0, "__consumer_offsets") == (ErrorCode.INVALID_TOPIC_EXCEPTION, -1)

    run(tmp_path, scenario)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_ends_of_leader_epochs(tmp_path: Path, version: int) -> None:
    async def end(bench: Bench, epoch: int, current: int = -1) -> tuple[int, int, int]:
        partition = OffsetForLeaderPartition(partition=0, leader_epoch=epoch, current_leader_epoch=current)
        body = OffsetForLeaderEpochRequest(
            replica_id=-1, topics=[OffsetForLeaderTopic(topic="orders", partitions=[partition])]
        )
        row = (await bench.call(23, version, body)).topics[0].partitions[0]
        return row.error_code, row.leader_epoch, row.end_offset

    async def scenario(bench: Bench) -> None:
        topic_id = bench.create()
        await produce(bench, batch(b"x", b"y"))
        bench.move_leader(topic_id, 2)
        bench.move_leader(topic_id, 1)
        await produce(bench, batch(b"z"))
        assert await end(bench, 0) == (0, 0, 2)
        assert await end(bench, 1) == (0, 0, 2)
        assert await end(bench, 2) == (0, 2, 3)
        assert await end(bench, 3) == (0, -1, -1)
        assert await end(bench, 0, current=1) == (ErrorCode.FENCED_LEADER_EPOCH, -1, -1)

    run(tmp_path, scenario)


@pytest.mark.parametrize("version", range(1, 6))
def test_log_directories(tmp_path: Path, version: int) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=2)
        bench.create("other")
        await produce(bench, batch(b"x" * 1000))
        (result,) = (await bench.call(35, version, DescribeLogDirsRequest(topics=None))).results
        assert result.log_dir == str(tmp_path)
        sizes = {
            (topic.name, row.partition_index): row.partition_size for topic in result.topics for row in topic.partitions
        }
        assert sizes.keys() == {("orders", 0), ("orders", 1), ("other", 0)}
        assert sizes["orders", 0] > 1000
        assert sizes["orders", 1] == 0
        if version >= 4:
            assert result.total_bytes >= result.usable_bytes > 0
        wanted = DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic="orders", partitions=[1])])
        (result,) = (await bench.call(35, version, wanted)).results
        assert [(topic.name, len(topic.partitions)) for topic in result.topics] == [("orders", 1)]

    run(tmp_path, scenario)


def test_producers_of_a_partition(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        await produce(bench, batch(b"x", b"y", producer_id=9, producer_epoch=2, base_sequence=0))
        body = DescribeProducersRequest(topics=[TopicRequest(name="orders", partition_indexes=[0, 5])])
        found, missing = (await bench.call(61, 0, body)).topics[0].partitions
        (producer,) = found.active_producers
        assert (producer.producer_id, producer.producer_epoch, producer.last_sequence) == (9, 2, 1)
        assert producer.last_timestamp == NOW_MS
        assert producer.current_txn_start_offset == -1
        assert missing.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(tmp_path, scenario)
