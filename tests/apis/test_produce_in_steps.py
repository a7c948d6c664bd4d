"""Produce of batches that are more than one turn of the loop can check."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

import broadsheet_broker.apis.produce  # noqa: F401 - registers the handler
from broadsheet_broker.seams.steps import ROOM_BYTES
from broadsheet_broker.wire import compression
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.records import build_batch, decode_records, iterate_batches, seal_batch
from tests.support.replica_services import NOW_MS, Bench, batch, run
from tests.support.waiting import turns_until


def request(*batches: bytes, acks: int = -1) -> Any:
    return ProduceRequest(
        acks=acks,
        timeout_ms=1000,
        topic_data=[
            TopicProduceData(
                name="orders",
                topic_id=uuid.UUID(int=0),
                partition_data=[
                    PartitionProduceData(index=index, records=records) for index, records in enumerate(batches)
                ],
            )
        ],
    )


def rows_of(response: Any) -> list[Any]:
    return [row for topic in response.responses for row in topic.partition_responses]


def dense(count: int, codec: int = 4, **options: Any) -> bytes:
    rows = [(NOW_MS, b"%d" % (number % 100), b"v", []) for number in range(count)]
    return bytes(build_batch(rows, compression=codec, **options))


@pytest.mark.parametrize("codec", range(5))
def test_a_dense_batch_holds_its_connection_and_nothing_else(tmp_path: Path, codec: int) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=2)
        large = bench.begin(0, 9, request(dense(40_000, codec)))
        assert large.held, "later requests of the connection wait"
        small = bench.begin(0, 9, request(b"", batch(b"a")))
        turns = await turns_until(lambda: small.outcome is not None, "an answer to another connection")
        assert turns <= 5 and large.outcome is None, "other connections are served meanwhile"
        assert rows_of(small.outcome)[1].error_code == 0
        turns += await turns_until(lambda: large.outcome is not None, "an answer")
        assert turns >= 10, "a few thousand records a turn"
        (row,) = rows_of(large.outcome)
        assert (row.error_code, row.base_offset) == (0, 0)
        assert not large.held
        assert bench.replicas.partition("orders", 0).high_watermark == 40_000

    run(tmp_path, scenario)


def test_a_little_batch_is_appended_in_the_turn_in_which_it_comes(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        partition = bench.replicas.partition("orders", 0)
        end = 0
        for codec in range(5):
            for records in (batch(b"a", compression=codec), dense(4000, codec)):
                bench.begin(0, 9, request(records))
                assert partition.log.log_end_offset > end
                end = partition.log.log_end_offset
        assert not bench.work, "no task was made"

    run(tmp_path, scenario)


def test_many_batches_that_are_much_together_are_checked_in_steps(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=10)
        call = bench.begin(0, 9, request(*[dense(3000, 0)] * 10))
        assert call.held
        turns = await turns_until(lambda: call.outcome is not None, "an answer")
        assert turns >= 9
        assert [row.error_code for row in rows_of(call.outcome)] == [0] * 10

    run(tmp_path, scenario)


def test_all_rows_are_appended_in_one_turn_and_refused_one_by_one(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=4)
        broken = bytearray(dense(20_000))
        broken[200] ^= 1
        call = bench.begin(0, 9, request(batch(b"a"), bytes(broken), dense(20_000), batch(b"b"), batch(b"c")))
        partitions = [bench.replicas.partition("orders", index) for index in range(4)]
        ends: set[tuple[int, ...]] = set()

        def is_answered() -> bool:
            ends.add(tuple(partition.log.log_end_offset for partition in partitions))
            return call.outcome is not None

        await turns_until(is_answered, "an answer")
        assert ends == {(0, 0, 0, 0), (1, 0, 20_000, 1)}
        assert [ErrorCode(row.error_code) for row in rows_of(call.outcome)] == [
            ErrorCode.NONE,
            ErrorCode.CORRUPT_MESSAGE,
            ErrorCode.NONE,
            ErrorCode.NONE,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ]

    run(tmp_path, scenario)


def test_a_leader_that_is_deposed_meanwhile_appends_nothing(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(replicas=[1, 2])
        call = bench.begin(0, 9, request(dense(40_000), acks=1))
        await asyncio.sleep(0)
        bench.move_leader(topic_id, 2)
        await bench.until(lambda: call.outcome)
        (row,) = rows_of(call.outcome)
        assert row.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert bench.replicas.partition("orders", 0).log.log_end_offset == 0

    run(tmp_path, scenario)


def test_nothing_is_checked_for_a_partition_that_takes_no_appends(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(leader=2)
        call = bench.begin(0, 9, request(dense(40_000)))
        assert not getattr(call, "held", False)
        (row,) = rows_of(call.outcome)
        assert row.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER

    run(tmp_path, scenario)


@pytest.mark.parametrize("acks", [0, 1])
def test_a_client_that_is_gone_is_waited_for_only_with_acks_0(tmp_path: Path, acks: int) -> None:
    """It has sent what it wanted to send; the others will send it again."""

    async def scenario(bench: Bench) -> None:
        bench.create()
        call = bench.begin(0, 9, request(dense(40_000), acks=acks))
        await asyncio.sleep(0)
        if call.on_gone is not None:
            call.on_gone()
        await asyncio.wait(bench.work)
        assert bench.replicas.partition("orders", 0).log.log_end_offset == (0 if acks else 40_000)
        assert bench.environment.steps.taken == 0

    run(tmp_path, scenario)


def test_a_retried_dense_batch_is_found_again(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        records = dense(10_000, producer_id=7, producer_epoch=0, base_sequence=0)
        for _ in range(2):
            (row,) = rows_of(await bench.call(0, 9, request(records)))
            assert (row.error_code, row.base_offset) == (0, 0)
        assert bench.replicas.partition("orders", 0).log.log_end_offset == 10_000

    run(tmp_path, scenario)


def test_clients_with_small_batches_that_become_large_share_the_room(tmp_path: Path) -> None:
    """Three kilobytes of zstd that become 100 MB must not be possible many times at once."""

    async def scenario(bench: Bench) -> None:
        bench.create(partitions=8)
        body = compression.compress(4, bytes(100 * 1024 * 1024))
        bomb = bytearray(build_batch([(NOW_MS, b"k", b"v", [])] * 2, compression=4)[:61]) + body
        bomb[8:12] = (len(bomb) - 12).to_bytes(4, "big")

        seal_batch(bomb)
        calls = [bench.begin(0, 9, request(*[b""] * index, bytes(bomb))) for index in range(4)]
        taken: set[int] = set()

        def are_answered() -> bool:
            taken.add(bench.environment.steps.taken)
            return all(call.outcome is not None for call in calls)

        await turns_until(are_answered, "answers")
        assert max(taken) == ROOM_BYTES
        assert bench.environment.steps.taken == 0
        for call in calls:
            assert rows_of(call.outcome)[-1].error_code == ErrorCode.INVALID_RECORD

    run(tmp_path, scenario)


def test_a_recompressing_topic_checks_and_compresses_in_steps(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(compression_type="gzip", max_message_bytes="20000000")
        rows = [(NOW_MS, b"k", bytes(1000), [])] * 8000
        call = bench.begin(0, 9, request(bytes(build_batch(rows, compression=3))))
        turns = 0
        while call.outcome is None:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 8_000_000 // (256 * 1024)
        log = bench.replicas.partition("orders", 0).log
        ((header, stored),) = iterate_batches(memoryview(log.read(0, 10_000_000).data))
        assert header.compression == 1
        assert len(decode_records(stored)) == 8000

    run(tmp_path, scenario)
