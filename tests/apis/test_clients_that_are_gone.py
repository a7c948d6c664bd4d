"""A parked request of a client that is gone waits for nothing, however long the client wanted to wait."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.apis import load
from broadsheet_broker.replication import Partition
from broadsheet_broker.wire.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.replica_services import Bench, Call, batch, run

load()

A_MONTH_MS = 2**31 - 1


def produce(records: bytes) -> ProduceRequest:
    data = PartitionProduceData(index=0, records=records)
    topic = TopicProduceData(name="orders", partition_data=[data])
    return ProduceRequest(acks=-1, timeout_ms=A_MONTH_MS, topic_data=[topic])


def fetch() -> FetchRequest:
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1_000, current_leader_epoch=-1)
    topic = FetchTopic(topic="orders", topic_id=uuid.UUID(int=0), partitions=[partition])
    return FetchRequest(max_wait_ms=A_MONTH_MS, min_bytes=1, max_bytes=1_000, session_epoch=-1, topics=[topic])


def delete() -> DeleteRecordsRequest:
    topic = DeleteRecordsTopic(name="orders", partitions=[DeleteRecordsPartition(partition_index=0, offset=0)])
    return DeleteRecordsRequest(topics=[topic], timeout_ms=A_MONTH_MS)


CASES: dict[str, tuple[int, int, Callable[[], Any], str]] = {
    "Produce": (0, 9, lambda: produce(batch(b"x")), "_commit_waiters"),
    "Fetch": (1, 11, fetch, "_watchers"),
    "DeleteRecords": (21, 2, delete, "_start_waiters"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_was_parked_is_let_go(name: str, tmp_path: Path) -> None:
    key, version, body, waiters = CASES[name]

    async def scenario(bench: Bench) -> None:
        bench.create(replicas=[1, 2])
        partition: Partition = bench.replicas.partition("orders", 0)
        for follower in partition.followers.values():
            follower.log_start_offset = -1  # it has not fetched yet, so no start of its log is known
        calls: list[Call] = [bench.begin(key, version, body()) for _ in range(10)]
        await bench.until(lambda: bool(getattr(partition, waiters)))
        assert all(call.outcome is None for call in calls)
        for call in calls:
            assert call.on_gone is not None
            call.on_gone()
        await bench.until(lambda: all(call.outcome is not None for call in calls))
        assert not getattr(partition, waiters)

    run(tmp_path, scenario)


def test_a_client_that_goes_in_the_turn_of_its_request_is_not_waited_for_either(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(replicas=[1, 2])
        call = bench.begin(0, 9, produce(batch(b"x")))
        assert call.on_gone is not None
        call.on_gone()
        await bench.until(lambda: call.outcome is not None)
        assert not bench.replicas.partition("orders", 0)._commit_waiters

    run(tmp_path, scenario)
