"""Sends orders of three customers. A customer's orders keep their order: the key chooses the partition."""

import json
import os
import sys

from confluent_kafka import KafkaError, Message, Producer

topic = os.environ.get("TOPIC", "orders")
count = int(sys.argv[1]) if len(sys.argv) > 1 else 9

producer = Producer(
    {
        "bootstrap.servers": os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092"),
        "acks": "all",
        "partitioner": "murmur2_random",  # as the Java client: a key is in one partition, whoever sends it
    }
)


def delivered(error: KafkaError | None, record: Message) -> None:
    if error is not None:
        sys.exit(f"not delivered: {error}")
    print(f"{topic}-{record.partition()}@{record.offset()} {record.key().decode()} {record.value().decode()}")


for number in range(1, count + 1):
    customer = f"customer-{(number - 1) % 3 + 1}"
    order = {"order": number, "customer": customer, "from": "python"}
    producer.produce(topic, key=customer, value=json.dumps(order), on_delivery=delivered)
    producer.poll(0)

producer.flush()  # waits until everything is delivered
