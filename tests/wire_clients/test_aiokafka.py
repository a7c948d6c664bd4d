"""aiokafka against a broker process."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


@pytest.mark.parametrize("idempotent", [False, True])
def test_what_is_sent_is_read(bootstrap: str, topic: str, group: str, idempotent: bool) -> None:
    async def scenario() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=idempotent) as producer:
            sent = await asyncio.gather(
                *(producer.send_and_wait(topic, b"order %d" % n, key=b"customer-%d" % (n % 3 + 1)) for n in range(60))
            )
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
        ) as consumer:
            read = [await asyncio.wait_for(consumer.getone(), 20) for _ in range(60)]
            await consumer.commit()
            committed = [await consumer.committed(TopicPartition(topic, partition)) for partition in range(3)]
        assert {(r.partition, r.offset) for r in read} == {(m.partition, m.offset) for m in sent}
        assert sum(offset or 0 for offset in committed) == 60

    asyncio.run(scenario())


def test_two_members_share_the_partitions(bootstrap: str, topic: str, group: str) -> None:
    async def scenario() -> None:
        first, second = (
            AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, heartbeat_interval_ms=200)
            for _ in range(2)
        )
        async with first:
            async with second, asyncio.timeout(30):
                while not (first.assignment() and second.assignment()):
                    await asyncio.gather(first.getmany(timeout_ms=100), second.getmany(timeout_ms=100))
                assert len(first.assignment()) + len(second.assignment()) == 3
            async with asyncio.timeout(30):
                while len(first.assignment()) < 3:
                    await first.getmany(timeout_ms=100)

    asyncio.run(scenario())
