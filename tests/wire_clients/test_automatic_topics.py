"""Clients that write to or read from a topic that is not there: the first answer says so, the next one has it."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, Producer
from kafka import KafkaConsumer, KafkaProducer

from tests.wire_clients.test_confluent_kafka import quiet, read


@pytest.fixture
def absent() -> str:
    """The name of a topic that nobody has made."""
    return f"absent-{uuid.uuid4().hex[:8]}"


def test_kafka_python(bootstrap: str, absent: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    assert producer.send(absent, b"first").get(20).offset == 0
    producer.close()


def test_kafka_python_reads_first(bootstrap: str, absent: str, group: str) -> None:
    consumer = KafkaConsumer(
        absent, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", consumer_timeout_ms=20_000
    )
    consumer.poll(100)
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    producer.send(absent, b"first").get(20)
    assert next(iter(consumer)).value == b"first"
    producer.close()
    consumer.close()


def test_aiokafka(bootstrap: str, absent: str) -> None:
    async def scenario() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
            assert (await asyncio.wait_for(producer.send_and_wait(absent, b"first"), 20)).offset == 0
        async with AIOKafkaConsumer(absent, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
            assert (await asyncio.wait_for(consumer.getone(), 20)).value == b"first"

    asyncio.run(scenario())


def test_librdkafka(bootstrap: str, absent: str) -> None:
    producer = Producer(quiet(bootstrap, acks="all"))
    delivered: list[object] = []
    producer.produce(absent, b"first", on_delivery=lambda error, message: delivered.append(error or message.offset()))
    assert producer.flush(20) == 0
    assert delivered == [0]


def test_librdkafka_reads_first(bootstrap: str, absent: str, group: str) -> None:
    consumer = Consumer(quiet(bootstrap, group_id=group, auto_offset_reset="earliest", allow_auto_create_topics=True))
    consumer.subscribe([absent])
    consumer.consume(1, 0.2)
    producer = Producer(quiet(bootstrap, acks="all"))
    producer.produce(absent, b"first")
    assert producer.flush(20) == 0
    assert [record.value() for record in read(consumer, 1)] == [b"first"]
    consumer.close()
