"""Fetch over real logs: every version, sessions over the wire, waiting, leaders that moved."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

import broadsheet_broker.apis.fetch
import broadsheet_broker.apis.produce  # noqa: F401 - both register their handlers
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic, ReplicaState
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.records import decode_records, iterate_batches
from tests.support.replica_services import Bench, batch, run

NOBODY = uuid.UUID(int=0)


async def produce(bench: Bench, *values: bytes, topic: str = "orders", index: int = 0) -> None:
    data = PartitionProduceData(index=index, records=batch(*values))
    body = ProduceRequest(acks=1, timeout_ms=1000, topic_data=[TopicProduceData(name=topic, partition_data=[data])])
    response = await bench.call(0, 9, body)
    assert response.responses[0].partition_responses[0].error_code == 0


def fetch(
    offset: int, *, topic: str = "orders", topic_id: uuid.UUID = NOBODY, index: int = 0, **options: Any
) -> FetchRequest:
    fields = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1_000_000, "session_epoch": -1, **options}
    partition = FetchPartition(
        partition=index,
        fetch_offset=offset,
        partition_max_bytes=100_000,
        current_leader_epoch=-1,
        last_fetched_epoch=-1,
        log_start_offset=-1,
    )
    return FetchRequest(topics=[FetchTopic(topic=topic, topic_id=topic_id, partitions=[partition])], **fields)


def row_of(response: Any) -> Any:
    assert response.error_code == 0
    ((row,),) = [topic.partitions for topic in response.responses]
    return row


def values(records: Any) -> list[bytes | None]:
    return [record.value for _, data in iterate_batches(records) for record in decode_records(data)]


@pytest.mark.parametrize("version", range(4, 19))
def test_records_come_back_in_every_version(tmp_path: Path, version: int) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create()
        await produce(bench, b"a", b"b")
        await produce(bench, b"c")
        row = row_of(await bench.call(1, version, fetch(0, topic_id=topic_id)))
        assert values(row.records) == [b"a", b"b", b"c"]
        assert (row.high_watermark, row.last_stable_offset) == (3, 3)
        assert row.aborted_transactions is None
        row = row_of(await bench.call(1, version, fetch(2, topic_id=topic_id, isolation_level=1)))
        assert values(row.records) == [b"c"]
        assert row.aborted_transactions == []

    run(tmp_path, scenario)


def test_a_fetch_in_the_middle_of_a_batch_gets_the_whole_batch(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        await produce(bench, b"a", b"b", b"c")
        assert values(row_of(await bench.call(1, 12, fetch(1))).records) == [b"a", b"b", b"c"]

    run(tmp_path, scenario)


def test_a_waiting_fetch_is_answered_by_the_append(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        call = bench.begin(1, 12, fetch(0, max_wait_ms=60_000))
        await asyncio.sleep(0)
        assert call.outcome is None
        await produce(bench, b"a")
        await bench.until(lambda: call.outcome)
        assert values(row_of(call.outcome).records) == [b"a"]

    run(tmp_path, scenario)


def test_a_wait_ends_by_itself(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        row = row_of(await bench.call(1, 12, fetch(0, max_wait_ms=5)))
        assert (row.error_code, row.high_watermark) == (0, 0)

    run(tmp_path, scenario)


def test_a_session_over_the_wire(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(partitions=2)
        body = fetch(0, topic_id=topic_id, session_epoch=0)
        body.topics[0].partitions.append(
            FetchPartition(partition=1, fetch_offset=0, partition_max_bytes=1000, current_leader_epoch=-1)
        )
        first = await bench.call(1, 17, body)
        assert first.session_id > 0
        assert len(first.responses[0].partitions) == 2
        idle = FetchRequest(session_id=first.session_id, session_epoch=1, max_bytes=10_000, min_bytes=1)
        assert (await bench.call(1, 17, idle)).responses == []
        await produce(bench, b"a", index=1)
        idle.session_epoch = 2
        row = row_of(await bench.call(1, 17, idle))
        assert (row.partition_index, values(row.records)) == (1, [b"a"])
        answer = await bench.call(1, 17, idle)
        assert answer.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
        idle.session_id += 1
        answer = await bench.call(1, 17, idle)
        assert answer.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND

    run(tmp_path, scenario)


def test_unknown_topics(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        row = row_of(await bench.call(1, 12, fetch(0, topic="nobody", max_wait_ms=1000)))
        assert row.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        row = row_of(await bench.call(1, 13, fetch(0, topic_id=uuid.uuid4(), max_wait_ms=1000)))
        assert row.error_code == ErrorCode.UNKNOWN_TOPIC_ID
        bench.create()
        row = row_of(await bench.call(1, 12, fetch(0, index=3)))
        assert row.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(tmp_path, scenario)


def test_deleting_a_topic_wakes_who_waits_for_it(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create()
        by_name = bench.begin(1, 12, fetch(0, max_wait_ms=60_000))
        by_id = bench.begin(1, 13, fetch(0, topic_id=topic_id, max_wait_ms=60_000))
        bench.delete(topic_id)
        await bench.until(lambda: by_name.outcome and by_id.outcome)
        assert row_of(by_name.outcome).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert row_of(by_id.outcome).error_code == ErrorCode.UNKNOWN_TOPIC_ID

    run(tmp_path, scenario)


def test_a_client_at_the_wrong_broker_hears_who_leads(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create()
        bench.move_leader(topic_id, 2)
        body = fetch(0, topic_id=topic_id)
        body.topics[0].partitions[0].current_leader_epoch = 0
        response = await bench.call(1, 17, body)
        row = row_of(response)
        assert row.error_code == ErrorCode.FENCED_LEADER_EPOCH
        assert (row.current_leader.leader_id, row.current_leader.leader_epoch) == (2, 1)
        assert [(node.node_id, node.host) for node in response.node_endpoints] == [(2, "host-2")]

    run(tmp_path, scenario)


def test_a_follower_serves_consumers_that_know_of_it_up_to_its_high_watermark(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(leader=2)
        bench.move_leader(topic_id, 1)
        await produce(bench, b"a", b"b")
        bench.replicas.partition("orders", 0).update_follower(2, 1, 0, 0)
        bench.move_leader(topic_id, 2)
        old = row_of(await bench.call(1, 10, fetch(0)))
        assert old.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        new = row_of(await bench.call(1, 11, fetch(1, max_wait_ms=0)))
        assert (new.error_code, new.records, new.high_watermark) == (0, b"", 1)
        waiting = bench.begin(1, 11, fetch(1, max_wait_ms=60_000))
        bench.replicas.partition("orders", 0).follow_marks(2, 0)
        await bench.until(lambda: waiting.outcome)
        assert values(row_of(waiting.outcome).records) == [b"a", b"b"], "whole batches"

    run(tmp_path, scenario)


@pytest.mark.parametrize("version", [11, 14, 15, 18])
def test_a_replica_reads_beyond_the_high_watermark(tmp_path: Path, version: int) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(leader=2)
        bench.move_leader(topic_id, 1)
        await produce(bench, b"a")
        assert row_of(await bench.call(1, version, fetch(0, topic_id=topic_id))).records == b""
        body = fetch(0, topic_id=topic_id)
        if version >= 15:
            body.replica_state = ReplicaState(replica_id=2)
        else:
            body.replica_id = 2
        assert values(row_of(await bench.call(1, version, body)).records) == [b"a"]

    run(tmp_path, scenario)


def test_an_answer_is_bounded_by_the_broker_whatever_the_client_allows(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(max_message_bytes="10000000")
        bench.replicas.fetch_max_bytes = 4_000_000
        for _ in range(6):
            await produce(bench, b"x" * 1_000_000)
        body = fetch(0, max_bytes=2**31 - 1, min_bytes=2**31 - 1, max_wait_ms=60_000)
        body.topics[0].partitions[0].partition_max_bytes = 2**31 - 1
        row = row_of(await bench.call(1, 12, body))
        assert 3_000_000 < len(row.records) < 4_000_000
        body.topics[0].partitions[0].fetch_offset = 5
        body.max_wait_ms = 0
        assert len(row_of(await bench.call(1, 12, body)).records) > 1_000_000

    run(tmp_path, scenario)


def test_an_answer_has_all_that_fetch_max_bytes_allows(tmp_path: Path) -> None:
    """It once ended at 4 MiB, whatever was configured and asked for."""

    async def scenario(bench: Bench) -> None:
        bench.create(max_message_bytes="10000000")
        for _ in range(12):
            await produce(bench, b"x" * 1_000_000)
        body = fetch(0, max_bytes=50_000_000, min_bytes=10_485_760, max_wait_ms=60_000)
        body.topics[0].partitions[0].partition_max_bytes = 50_000_000
        assert len(values(row_of(await bench.call(1, 12, body)).records)) == 12
        body.max_bytes = 11_500_000
        assert len(values(row_of(await bench.call(1, 12, body)).records)) == 11

    run(tmp_path, scenario)


def test_partitions_share_an_answer_that_has_no_room_for_all_of_them(tmp_path: Path) -> None:
    """A client that asks in the same order each time once saw the first four of twenty."""

    async def scenario(bench: Bench) -> None:
        bench.create(partitions=20)
        for index in range(20):
            for _ in range(4 if index else 1):
                await produce(bench, b"x" * 100_000, index=index)
        body = fetch(0, max_bytes=4_100_000, max_wait_ms=0)
        wanted = [FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=1_000_000) for index in range(20)]
        body.topics[0].partitions = wanted
        rows = (await bench.call(1, 11, body)).responses[0].partitions
        sizes = [len(values(row.records)) for row in rows]
        assert sizes[0] == 1
        assert all(count in (2, 3) for count in sizes[1:])
        assert sum(len(row.records) for row in rows) <= 4_100_000
        body.max_bytes = 350_000  # too little for shares: in order, as Kafka does
        rows = (await bench.call(1, 11, body)).responses[0].partitions
        assert [len(values(row.records)) for row in rows][:4] == [1, 2, 0, 0]

    run(tmp_path, scenario)


def test_a_waiting_fetch_keeps_no_records(tmp_path: Path) -> None:
    """256 of them on one connection once held a gigabyte."""

    async def scenario(bench: Bench) -> None:
        bench.create()
        await produce(bench, b"x" * 50_000)
        body = fetch(0, max_bytes=1_000_000, min_bytes=1_000_000, max_wait_ms=60_000)
        waiting = bench.begin(1, 4, body)
        fetching: Any = waiting.on_gone.__self__  # type: ignore[union-attr]
        assert [row for _, row in fetching._rows] == [None]
        fetching.complete()
        assert values(row_of(waiting.outcome).records) == [b"x" * 50_000]

    run(tmp_path, scenario)
