"""What a broker of Apache Kafka exports by Prometheus' JMX agent, as rows of the catalogue of metrics.

python -m e2e.monitoring.apache_catalogue     starts one, scrapes it, and writes its part of tools/metrics.json
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from e2e.apache.agent import WatchedKafka
from tests.support.waiting import wait_until
from tools.metrics import Metric, catalogue, parse, write

TOPIC = "metrics"
CHANGES = "jmx_config_reload_"
"""Of the agent about itself; they say nothing of Kafka."""


def scraped(kind: Callable[[], WatchedKafka] = WatchedKafka) -> dict[str, Metric]:
    """The metrics of a broker and controller with a topic and a group."""
    with kind() as kafka:
        use(kafka)
        found: dict[str, Metric] = {}

        def all_there() -> bool:
            found.update(parse(kafka.scrape()))
            return "topic" in found["kafka_server_brokertopicmetrics_failedproducerequests_total"].labels

        wait_until(all_there, "the metrics of a refused write", 30)
    ours = {metric.name: metric for metric in catalogue()["broker"]}
    # The agent's own words for a rule without help name the MBean that came first: those of our broker are meant.
    return {
        name: replace(metric, help=ours[name].help) if name in ours else metric
        for name, metric in sorted(found.items())
        if not name.startswith(CHANGES)
    }


def use(kafka: WatchedKafka) -> None:
    """Have the broker keep a topic, a record and a committed offset, and refuse a record."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(TOPIC, 1, config={"cleanup.policy": "compact"})])[TOPIC].result(30)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for key in ("key", None):  # a topic that is compacted takes none without a key
        producer.produce(TOPIC, b"record", key=key)
        producer.flush(30)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "metrics-readers", "log_level": 0})
    at = TopicPartition(TOPIC, 0, 0)
    consumer.assign([at])
    assert consumer.poll(30) is not None
    with contextlib.suppress(KafkaException):
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, 1)], asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    write(apache_kafka=scraped())
    sys.exit(0)
