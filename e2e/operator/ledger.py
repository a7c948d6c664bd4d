"""Clients that go on while brokers are away, for tests; run in a pod: `python -c ... BOOTSTRAP COMMAND TOPIC ...`.

write TOPIC NAME · read TOPIC GROUP NAME   until there is a file /tmp/NAME.stop; one line of JSON at the end.
                                           /tmp/NAME.acknowledged has how many records were taken so far
everything TOPIC                           each record of the topic, from its first to its end

The writer is idempotent, and gives up on no record. The reader commits after each look at its records.
"""

import itertools
import json
import os
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

PATIENCE_MS = 1_800_000
RECORDS_A_SECOND = 50
UNACKNOWLEDGED = 2000
"""So many records wait at most while no broker takes them."""


def write(servers, topic, name):
    producer = KafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        enable_idempotence=True,
        delivery_timeout_ms=PATIENCE_MS,
        max_block_ms=PATIENCE_MS,
        request_timeout_ms=10_000,
        reconnect_backoff_max_ms=1000,
        metadata_max_age_ms=5000,
    )
    room, failed, times, acknowledged = threading.Semaphore(UNACKNOWLEDGED), [], [], []
    refused = []
    number = 0

    def done(value):
        room.release()
        times.append(time.time())
        acknowledged.append(value)

    def lost(value, error):
        room.release()
        failed.append(f"{value}: {error!r}")

    while not os.path.exists(f"/tmp/{name}.stop"):
        if room.acquire(timeout=0.2):
            value = f"{name}-{number}"
            try:
                sent = producer.send(topic, value=value.encode(), key=str(number % 7).encode())
            except KafkaError as error:  # no broker says where it belongs, so it was not taken
                room.release()
                refused.append(repr(error))
                time.sleep(0.5)
                continue
            sent.add_callback(lambda _, value=value: done(value))
            sent.add_errback(lambda error, value=value: lost(value, error))
            number += 1
            time.sleep(1 / RECORDS_A_SECOND)
        with open(f"/tmp/{name}.new", "w", encoding="ascii") as file:
            file.write(str(len(acknowledged)))
        os.replace(f"/tmp/{name}.new", f"/tmp/{name}.acknowledged")
    producer.flush(timeout=300)
    gaps = sorted((after - before, before) for before, after in itertools.pairwise(times))
    return {
        "acknowledged": acknowledged,
        "sent": number,
        "failed": failed[:20],
        "refused": refused[:3],
        "gaps": gaps[-3:],
    }


def read(servers, topic, group, name):
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10_000,
        request_timeout_ms=15_000,
        reconnect_backoff_max_ms=1000,
        metadata_max_age_ms=5000,
    )
    values, pending, commits_failed, quiet_since = [], False, 0, time.monotonic()
    while not os.path.exists(f"/tmp/{name}.stop") or pending or time.monotonic() - quiet_since < 5:
        try:
            found = consumer.poll(500, max_records=200)
        except KafkaError:
            time.sleep(0.5)
            continue
        for records in found.values():
            values += [record.value.decode() for record in records]
        pending = pending or bool(found)
        if found:
            quiet_since = time.monotonic()
        if pending:
            try:
                consumer.commit()
                pending = False
            except KafkaError:
                commits_failed += 1
                time.sleep(0.2)
    consumer.close()
    return {"read": values, "commits_failed": commits_failed}


def everything(servers, topic):
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    partitions = [TopicPartition(topic, index) for index in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    values, deadline = [], time.monotonic() + 120
    while any(consumer.position(p) < ends[p] for p in partitions) and time.monotonic() < deadline:
        for records in consumer.poll(500).values():
            values += [record.value.decode() for record in records]
    unread = {str(p): [consumer.position(p), ends[p]] for p in partitions if consumer.position(p) < ends[p]}
    consumer.close()
    return {"values": values, "unread": unread}


COMMANDS = {"write": write, "read": read, "everything": everything}

if __name__ == "__main__":
    servers, command, *arguments = sys.argv[1:]
    print(json.dumps(COMMANDS[command](servers, *arguments)))
