"""Where a group goes on: commits by hand and by themselves, earliest and latest, replay and reset."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from tests.support.broker_process import BrokerProcess

Open = Callable[..., Consumer]


@pytest.fixture
def group() -> str:
    return f"offsets-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def opened(broker: BrokerProcess, topic: str, group: str) -> Iterator[Open]:
    """Make consumers of the test's group and topic; they are closed at the end."""
    consumers: list[Consumer] = []

    def make(**config: object) -> Consumer:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "log_level": 0,
                **settings,
            }
        )
        consumer.subscribe([topic])
        consumers.append(consumer)
        return consumer

    yield make
    for consumer in consumers:
        consumer.close()


def send(broker: BrokerProcess, topic: str, *values: int, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, str(value), partition=partition)
    assert producer.flush(20) == 0


def read(consumer: Consumer, count: int, deadline_s: float = 30.0) -> list[int]:
    """The values of the next records, `count` of them."""
    values: list[int] = []
    end = time.monotonic() + deadline_s
    while len(values) < count:
        assert time.monotonic() < end, f"{values} came within {deadline_s} s, {count} were expected"
        record: Message | None = consumer.poll(0.2)
        if record is not None:
            assert record.error() is None, record.error()
            values.append(int(record.value() or b""))
    return values


def wait_for_assignment(consumer: Consumer) -> None:
    end = time.monotonic() + 30
    while not consumer.assignment():
        assert time.monotonic() < end, "no partition was assigned"
        assert consumer.poll(0.1) is None


def test_what_was_committed_by_hand_is_not_read_again(broker: BrokerProcess, topic: str, opened: Open) -> None:
    send(broker, topic, *range(10))
    first = opened(enable_auto_commit=False)
    assert read(first, 10) == list(range(10))
    first.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    first.close()
    assert read(opened(enable_auto_commit=False), 6) == list(range(4, 10))


def test_what_was_not_committed_is_read_again(broker: BrokerProcess, topic: str, opened: Open) -> None:
    send(broker, topic, *range(5))
    first = opened(enable_auto_commit=False)
    read(first, 5)
    first.close()
    assert read(opened(enable_auto_commit=False), 5) == list(range(5))


def test_offsets_are_committed_by_themselves(
    broker: BrokerProcess, topic: str, opened: Open, admin: AdminClient, group: str
) -> None:
    send(broker, topic, *range(5))
    consumer = opened(auto_commit_interval_ms=100)
    read(consumer, 5)
    end = time.monotonic() + 20
    while consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset != 5:
        assert time.monotonic() < end, "nothing was committed"
        consumer.poll(0.1)


def test_latest_starts_behind_what_is_there(broker: BrokerProcess, topic: str, opened: Open) -> None:
    send(broker, topic, 1, 2, 3)
    consumer = opened(auto_offset_reset="latest", enable_auto_commit=False)
    wait_for_assignment(consumer)
    consumer.position(consumer.assignment())
    end = time.monotonic() + 30
    received: list[int] = []
    number = 100
    while not received:  # the position is looked up after the assignment: send until one comes through
        assert time.monotonic() < end, "nothing new was read"
        send(broker, topic, number)
        number += 1
        record = consumer.poll(0.5)
        if record is not None:
            received.append(int(record.value() or b""))
    assert received[0] >= 100


def test_replay_by_seek(broker: BrokerProcess, topic: str, opened: Open) -> None:
    send(broker, topic, *range(10))
    consumer = opened()
    assert read(consumer, 10) == list(range(10))
    consumer.seek(TopicPartition(topic, 0, OFFSET_BEGINNING))
    assert read(consumer, 10) == list(range(10))
    consumer.seek(TopicPartition(topic, 0, 7))
    assert read(consumer, 3) == [7, 8, 9]


def test_replay_from_a_time(broker: BrokerProcess, topic: str, opened: Open) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for number in range(5):
        producer.produce(topic, str(number), partition=0, timestamp=1_700_000_000_000 + number * 1000)
    assert producer.flush(20) == 0
    consumer = opened()
    wait_for_assignment(consumer)
    (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, 1_700_000_002_500)], timeout=20)
    assert found.offset == 3


def test_the_offsets_of_an_empty_group_can_be_reset(
    broker: BrokerProcess, topic: str, opened: Open, admin: AdminClient, group: str
) -> None:
    send(broker, topic, *range(8))
    first = opened()
    read(first, 8)
    first.close()
    wish = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])
    admin.alter_consumer_group_offsets([wish])[group].result(30)
    assert read(opened(), 6) == list(range(2, 8))
