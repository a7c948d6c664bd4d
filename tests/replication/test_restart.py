"""What a broker finds again after a stop or a crash."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import broadsheet_broker.apis.produce  # noqa: F401 - registers the handler
from broadsheet_broker.log.checkpoints import HIGH_WATERMARK_CHECKPOINT
from broadsheet_broker.seams import LocalFiles
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.replica_services import Bench, batch, run


async def produce(bench: Bench, *values: bytes) -> None:
    data = PartitionProduceData(index=0, records=batch(*values))
    body = ProduceRequest(acks=1, timeout_ms=1000, topic_data=[TopicProduceData(name="orders", partition_data=[data])])
    response = await bench.call(0, 9, body)
    assert response.responses[0].partition_responses[0].error_code == 0


def test_the_high_watermark_is_found_again_after_a_stop(tmp_path: Path) -> None:
    topic_id = uuid.uuid4()

    async def first(bench: Bench) -> None:
        bench.create(topic_id=topic_id, leader=2)
        bench.move_leader(topic_id, 1)
        await produce(bench, b"a", b"b", b"c")
        bench.replicas.partition("orders", 0).update_follower(2, 2, 0, 0)

    async def second(bench: Bench) -> None:
        bench.create(topic_id=topic_id, leader=2)
        partition = bench.replicas.partition("orders", 0)
        assert (partition.high_watermark, partition.log.log_end_offset) == (2, 3)

    run(tmp_path, first)
    assert (tmp_path / HIGH_WATERMARK_CHECKPOINT).read_text() == "0\n1\norders 0 2\n"
    run(tmp_path, second)


def test_a_damaged_checkpoint_costs_nothing_but_a_message(tmp_path: Path) -> None:
    topic_id = uuid.uuid4()

    async def first(bench: Bench) -> None:
        bench.create(topic_id=topic_id)
        await produce(bench, b"a")

    async def second(bench: Bench) -> None:
        bench.create(topic_id=topic_id)
        assert bench.replicas.partition("orders", 0).high_watermark == 1

    run(tmp_path, first)
    (tmp_path / HIGH_WATERMARK_CHECKPOINT).write_text("0\n5\nrubbish\n")
    run(tmp_path, second)


def test_nothing_acknowledged_is_lost_when_the_process_dies(tmp_path: Path) -> None:
    topic_id = uuid.uuid4()

    async def first() -> None:
        bench = Bench(tmp_path, LocalFiles())
        await bench.start()
        bench.create(topic_id=topic_id)
        await produce(bench, b"a", b"b")
        lost = PartitionProduceData(index=0, records=batch(b"never answered"))
        body = ProduceRequest(acks=1, timeout_ms=1, topic_data=[TopicProduceData(name="orders", partition_data=[lost])])
        call = bench.begin(0, 9, body)
        bench.replicas.kill()
        await bench.logs.close(clean=False)
        await asyncio.sleep(0)
        assert call.outcome is None

    async def second(bench: Bench) -> None:
        bench.create(topic_id=topic_id)
        assert bench.replicas.partition("orders", 0).high_watermark == 2

    asyncio.run(first())
    run(tmp_path, second)
