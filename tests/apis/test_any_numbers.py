"""Well-formed requests with any numbers in them are answered, never with an exception or UNKNOWN_SERVER_ERROR."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import broadsheet_broker.apis.delete_records
import broadsheet_broker.apis.fetch
import broadsheet_broker.apis.leader_epoch
import broadsheet_broker.apis.list_offsets
import broadsheet_broker.apis.produce  # noqa: F401 - all register their handlers
from broadsheet_broker.wire.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
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
from tests.support.replica_services import Bench, batch, run

small = st.integers(-3, 12)
int32 = small | st.integers(-(2**31), 2**31 - 1)
int64 = small | st.integers(-(2**63), 2**63 - 1)
topic = st.sampled_from(["orders", "nobody", "__consumer_offsets"])


@st.composite
def fetches(draw: st.DrawFn) -> tuple[int, int, Any]:
    partitions = [
        FetchPartition(
            partition=draw(small),
            fetch_offset=draw(int64),
            partition_max_bytes=draw(int32),
            current_leader_epoch=draw(small),
            last_fetched_epoch=draw(small),
            log_start_offset=draw(int64),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    body = FetchRequest(
        replica_id=draw(small),
        max_wait_ms=draw(st.integers(-5, 2)),
        min_bytes=draw(int32),
        max_bytes=draw(int32),
        isolation_level=draw(st.integers(0, 2)),
        session_id=draw(st.integers(0, 3)),
        session_epoch=draw(small),
        topics=[FetchTopic(topic=draw(topic), partitions=partitions)],
    )
    return 1, 12, body


@st.composite
def others(draw: st.DrawFn) -> tuple[int, int, Any]:
    name = draw(topic)
    kind = draw(st.sampled_from([0, 2, 21, 23]))
    if kind == 2:
        place = ListOffsetsPartition(
            partition_index=draw(small), current_leader_epoch=draw(small), timestamp=draw(int64)
        )
        return (
            2,
            11,
            ListOffsetsRequest(
                replica_id=draw(small),
                isolation_level=draw(st.integers(0, 2)),
                topics=[ListOffsetsTopic(name=name, partitions=[place])],
            ),
        )
    if kind == 21:
        gone = DeleteRecordsPartition(partition_index=draw(small), offset=draw(int64))
        return 21, 2, DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=name, partitions=[gone])], timeout_ms=1)
    if kind == 23:
        epoch = OffsetForLeaderPartition(
            partition=draw(small), current_leader_epoch=draw(small), leader_epoch=draw(int32)
        )
        return (
            23,
            4,
            OffsetForLeaderEpochRequest(
                replica_id=draw(small), topics=[OffsetForLeaderTopic(topic=name, partitions=[epoch])]
            ),
        )
    records = bytearray(batch(b"value", producer_id=draw(small), producer_epoch=0, base_sequence=draw(small)))
    for _ in range(draw(st.integers(0, 3))):
        records[draw(st.integers(0, len(records) - 1))] = draw(st.integers(0, 255))
    data = PartitionProduceData(index=draw(small), records=bytes(records[: draw(st.integers(0, 200))]))
    return (
        0,
        9,
        ProduceRequest(
            acks=draw(st.sampled_from([-1, 1, 5])),
            timeout_ms=draw(st.integers(-1, 5)),
            topic_data=[TopicProduceData(name=name, partition_data=[data])],
        ),
    )


def error_codes(message: Any) -> Iterator[int]:
    """Every error code anywhere in a message."""
    for field in getattr(type(message), "FIELDS", ()):
        value = getattr(message, field.name)
        if field.name == "error_code":
            yield value
        elif isinstance(value, list):
            for element in value:
                yield from error_codes(element)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(fetches() | others(), min_size=1, max_size=12))
def test_any_numbers_are_answered(tmp_path: Path, requests: list[tuple[int, int, Any]]) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=2)
        for key, version, body in requests:
            answer = await bench.call(key, version, body)
            assert -1 not in set(error_codes(answer)), answer

    run(tmp_path / uuid.uuid4().hex, scenario)
