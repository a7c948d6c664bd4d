"""ListOffsets that has to read more than one turn of the loop can."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import broadsheet_broker.apis.list_offsets
import broadsheet_broker.apis.produce  # noqa: F401 - registers the handler
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.list_offsets_request import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from broadsheet_broker.wire.records import build_batch
from tests.apis.test_produce_in_steps import request
from tests.support.replica_services import NOW_MS, Bench, run
from tests.support.waiting import turns_until


def asking(time: int, partitions: int = 1) -> Any:
    return ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsTopic(
                name="orders",
                partitions=[
                    ListOffsetsPartition(partition_index=index, current_leader_epoch=-1, timestamp=time)
                    for index in range(partitions)
                ],
            )
        ],
    )


def test_a_search_in_a_dense_batch_takes_several_turns_and_others_are_served(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        rows = [(NOW_MS + number, b"k", b"v", []) for number in range(40_000)]
        await bench.call(0, 9, request(bytes(build_batch(rows, compression=4))))
        search = bench.begin(2, 7, asking(NOW_MS + 39_000))
        assert search.outcome is None
        quick = bench.begin(2, 7, asking(-1))
        assert quick.outcome is not None
        turns = await turns_until(lambda: search.outcome is not None, "an answer")
        assert turns >= 10
        ((row,),) = [topic.partitions for topic in search.outcome.topics]
        assert (row.error_code, row.offset, row.timestamp) == (0, 39_000, NOW_MS + 39_000)
        again = bench.begin(2, 7, asking(NOW_MS + 39_000))
        await asyncio.sleep(0)
        again.on_gone()
        await asyncio.wait(bench.work)
        assert again.outcome is None

    run(tmp_path, scenario)


def test_a_search_in_many_partitions_takes_several_turns(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=100)
        search = bench.begin(2, 7, asking(NOW_MS, 101))
        turns = await turns_until(lambda: search.outcome is not None, "an answer")
        assert turns >= 5
        ((*rows, last),) = [topic.partitions for topic in search.outcome.topics]
        assert {(row.error_code, row.offset) for row in rows} == {(0, -1)}
        assert last.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(tmp_path, scenario)


def test_a_search_in_one_small_partition_is_answered_at_once(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        await bench.call(0, 9, request(bytes(build_batch([(NOW_MS, b"k", b"v", [])]))))
        assert bench.begin(2, 7, asking(NOW_MS)).outcome is not None
        assert bench.begin(2, 7, asking(-3)).outcome is not None

    run(tmp_path, scenario)
