"""kafka-python against a broker process."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_what_is_sent_is_read(bootstrap: str, topic: str, group: str, codec: str | None) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type=codec)
    sent = [
        producer.send(topic, value=b"order %d" % number, key=b"customer-%d" % (number % 3 + 1)) for number in range(60)
    ]
    places = {(future.get(20).partition, future.get(20).offset) for future in sent}
    producer.close()
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    read = set()
    for record in consumer:
        read.add((record.partition, record.offset))
        if len(read) == len(places):
            break
    consumer.commit()
    committed = sum(consumer.committed(TopicPartition(topic, partition)) or 0 for partition in range(3))
    consumer.close()
    assert read == places
    assert committed == 60


def test_offsets_by_time(bootstrap: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    base = 1_700_000_000_000
    for number in range(5):
        producer.send(topic, b"order", partition=0, timestamp_ms=base + number * 1000).get(20)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    partition = TopicPartition(topic, 0)
    assert consumer.offsets_for_times({partition: base + 2500})[partition].offset == 3
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 5}
    consumer.close()
