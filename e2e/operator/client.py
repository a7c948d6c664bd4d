"""A Kafka client for tests, run in a pod: `python - BOOTSTRAP COMMAND ...`; prints one line of JSON at the end.

produce TOPIC COUNT [TAG] · fill TOPIC MEGABYTES · consume TOPIC GROUP COUNT · describe TOPIC · topics
alter TOPIC KEY=VALUE · delete TOPIC · create TOPIC PARTITIONS [KEY=VALUE ...] · groups
"""

import json
import random
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic


def produce(servers, topic, count, tag="order"):
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", max_block_ms=60000)
    sent = [producer.send(topic, key=str(n % 3).encode(), value=f"{tag}-{n}".encode()) for n in range(int(count))]
    producer.flush()
    places = [(r.partition, r.offset) for r in (future.get(60) for future in sent)]
    producer.close()
    return places


def fill(servers, topic, megabytes):
    """Records of 256 KiB; how many."""
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", max_block_ms=60000, batch_size=300000)
    sent = [producer.send(topic, value=random.randbytes(256 * 1024)) for _ in range(4 * int(megabytes))]
    producer.flush()
    count = sum(future.get(60).offset >= 0 for future in sent)
    producer.close()
    return count


def consume(servers, topic, group, count):
    consumer = KafkaConsumer(
        topic, bootstrap_servers=servers, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    values, deadline = [], time.monotonic() + 60
    while len(values) < int(count) and time.monotonic() < deadline:
        for records in consumer.poll(500).values():
            values += [record.value.decode(errors="replace")[:100] for record in records]
    consumer.commit()
    consumer.close()
    return values


def admin(servers):
    return KafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=20000)


def settings(pairs):
    return dict(pair.split("=", 1) for pair in pairs)


def describe(servers, topic):
    client = admin(servers)
    found = client.describe_topics([topic])[0]
    resource = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    answer = client.describe_configs(resource, config_filter="all")
    own = client.describe_configs(resource, config_filter="modified")["topic"][topic]
    configs = json.loads(json.dumps(answer, default=str))
    return {"partitions": len(found.get("partitions", [])), "configs": configs, "overrides": sorted(own)}


def topics(servers):
    return sorted(admin(servers).list_topics())


def create(servers, topic, partitions, *pairs):
    admin(servers).create_topics([NewTopic(topic, int(partitions), 1, topic_configs=settings(pairs))])
    return True


def alter(servers, topic, *pairs):
    admin(servers).alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings(pairs))])
    return True


def delete(servers, topic):
    admin(servers).delete_topics([topic])
    return True


def groups(servers):
    return json.loads(json.dumps(admin(servers).list_groups(), default=str))


if __name__ == "__main__":
    bootstrap, command, *arguments = sys.argv[1:]
    print(json.dumps(globals()[command](bootstrap, *arguments)))
