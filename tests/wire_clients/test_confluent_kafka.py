"""librdkafka, through confluent-kafka, against a broker process."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType


def quiet(bootstrap: str, **config: object) -> dict[str, object]:
    return {"bootstrap.servers": bootstrap, "log_level": 0, **{k.replace("_", "."): v for k, v in config.items()}}


def read(consumer: Consumer, count: int, deadline_s: float = 20.0) -> list[Message]:
    records: list[Message] = []
    end = time.monotonic() + deadline_s
    while len(records) < count:
        assert time.monotonic() < end, f"{len(records)} of {count} records came within {deadline_s} s"
        records.extend(record for record in consumer.consume(count, 0.2) if record.error() is None)
    return records


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("acks", ["1", "all"])
def test_what_is_sent_is_read(bootstrap: str, topic: str, group: str, codec: str, acks: str) -> None:
    producer = Producer(quiet(bootstrap, acks=acks, compression_type=codec, linger_ms=20))
    sent = {f"order {number}".encode() * 20: f"customer-{number % 3 + 1}".encode() for number in range(300)}
    for value, key in sent.items():
        producer.produce(topic, value, key, headers=[("from", b"python"), ("empty", None)])
    assert producer.flush(20) == 0
    consumer = Consumer(quiet(bootstrap, group_id=group, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    records = read(consumer, 300)
    consumer.close()
    assert {record.value(): record.key() for record in records} == sent
    assert all(record.headers() == [("from", b"python"), ("empty", None)] for record in records)


def test_an_idempotent_producer_keeps_order(bootstrap: str, new_topic: Callable[..., str], group: str) -> None:
    topic = new_topic(1)
    producer = Producer(quiet(bootstrap, enable_idempotence=True, linger_ms=0))
    for number in range(2000):
        producer.produce(topic, str(number))
        producer.poll(0)
    assert producer.flush(20) == 0
    consumer = Consumer(quiet(bootstrap, group_id=group))
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert [int(record.value() or b"") for record in read(consumer, 2000)] == list(range(2000))
    consumer.close()


def test_acks_0_is_sent_without_an_answer(bootstrap: str, topic: str, group: str) -> None:
    first = Producer(quiet(bootstrap, acks="all"))  # without an answer nobody would hear that a topic is not there yet
    for partition in range(3):
        first.produce(topic, b"first", partition=partition)
    assert first.flush(20) == 0
    producer = Producer(quiet(bootstrap, acks=0))
    for number in range(100):
        producer.produce(topic, str(number))
    assert producer.flush(20) == 0
    consumer = Consumer(quiet(bootstrap, group_id=group, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    assert len(read(consumer, 103)) == 103
    consumer.close()


def test_a_record_that_is_too_large_is_refused(bootstrap: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(1, max_message_bytes="1000")
    errors: list[KafkaError | None] = []
    producer = Producer(quiet(bootstrap))
    producer.produce(topic, b"x" * 5000, on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert [error and error.code() for error in errors] == [KafkaError.MSG_SIZE_TOO_LARGE]


def test_admin(bootstrap: str, topic: str) -> None:
    admin = AdminClient(quiet(bootstrap))
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(20)
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 5
    resource = ConfigResource(ResourceType.TOPIC, topic)
    config = admin.describe_configs([resource])[resource].result(20)
    assert config["cleanup.policy"].value == "delete"
    assert config["retention.ms"].is_default
    admin.delete_topics([topic])[topic].result(20)
    assert topic not in admin.list_topics(timeout=10).topics


def test_a_group_is_described_with_its_members(bootstrap: str, topic: str, group: str) -> None:
    producer = Producer(quiet(bootstrap))
    producer.produce(topic, b"order")
    producer.flush(20)
    consumer = Consumer(quiet(bootstrap, group_id=group, auto_offset_reset="earliest", client_id="reader"))
    consumer.subscribe([topic])
    read(consumer, 1)
    admin = AdminClient(quiet(bootstrap))
    description = admin.describe_consumer_groups([group])[group].result(20)
    (member,) = description.members
    assert member.client_id == "reader"
    assert sorted(partition.partition for partition in member.assignment.topic_partitions) == [0, 1, 2]
    consumer.commit(asynchronous=False)
    consumer.close()
    assert group in {listed.group_id for listed in admin.list_consumer_groups().result(20).valid}
    admin.delete_consumer_groups([group])[group].result(20)
