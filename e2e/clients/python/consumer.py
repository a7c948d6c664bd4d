"""Prints orders as they come. Start a second one: the members of a group share the partitions."""

import os
import sys

from confluent_kafka import Consumer

consumer = Consumer(
    {
        "bootstrap.servers": os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092"),
        "group.id": os.environ.get("GROUP_ID", "example-consumer"),
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 1000,
    }
)
consumer.subscribe([os.environ.get("TOPIC", "orders")])

try:
    while True:
        record = consumer.poll(0.5)
        if record is None:
            continue
        if record.error():
            print(record.error(), file=sys.stderr)
            continue
        place = f"{record.topic()}-{record.partition()}@{record.offset()}"
        print(place, record.key().decode(), record.value().decode(), flush=True)
except KeyboardInterrupt:
    print("bye", file=sys.stderr)
finally:
    consumer.close()  # commits and leaves the group
