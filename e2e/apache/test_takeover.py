"""One log directory that our broker and Apache Kafka serve in turn, stopped cleanly or killed in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from e2e.apache.apache import ApacheKafka, run_tool
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import CLUSTER_ID, BrokerProcess
from tests.support.ports import free_port

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
GROUP = "readers"
LOADING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE)
Stop = Callable[[BrokerProcess], object]


def produce(broker: BrokerProcess, by: str) -> set[str]:
    """A few records in every codec, idempotent; what was acknowledged."""
    acknowledged: set[str] = set()

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        acknowledged.add(message.value().decode())  # type: ignore[attr-defined]

    for codec in CODECS:
        settings = {"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "compression.type": codec}
        producer = Producer({**settings, "log_level": 0})
        for number in range(50):
            key = f"customer-{number % 7}"
            producer.produce("orders", key=key, value=f"{by} {codec} {number}", on_delivery=delivered)
        assert producer.flush(30) == 0
    return acknowledged


def consume(broker: BrokerProcess, group: str, at_least: int) -> list[str]:
    """Everything after the group's committed offsets, which are then committed."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "enable.auto.commit": False, "log_level": 0})
    consumer.subscribe(["orders"])
    values: list[str] = []
    deadline = time.monotonic() + 60
    while len(values) < at_least and time.monotonic() < deadline:
        for message in consumer.consume(1000, timeout=0.5):
            if not message.error():
                values.append(message.value().decode())
    values += [message.value().decode() for message in consumer.consume(1000, timeout=0.5) if not message.error()]
    if values:
        consumer.commit(asynchronous=False)
    consumer.close()
    return values


def committed(broker: BrokerProcess) -> int:
    """The sum of the group's committed offsets."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP, "log_level": 0})
    partitions = [TopicPartition("orders", partition) for partition in range(3)]
    deadline = time.monotonic() + 30
    try:
        while True:
            try:
                return sum(max(entry.offset, 0) for entry in consumer.committed(partitions, timeout=30))
            except KafkaException as error:  # the coordinator may still be reading its partition
                if error.args[0].code() not in LOADING or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    finally:
        consumer.close()


class Dynamic(BrokerProcess):
    """A node of a quorum whose voters may change (KIP-853): the directory says who votes."""

    def properties(self) -> dict[str, str]:
        found = super().properties()
        del found["controller.quorum.voters"]
        return {**found, "controller.quorum.bootstrap.servers": f"{self.host}:{self.controller_port}"}


class DynamicBroadsheet(Dynamic, Broadsheet):
    """It finds the directory formatted."""


def make_topic(broker: BrokerProcess) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for done in admin.create_topics([NewTopic("orders", 3, 1)]).values():
        done.result(30)


class DynamicApache(Dynamic, ApacheKafka):
    """It formats the directory: its features are those that Apache Kafka finalizes by default."""

    def format(self) -> None:
        if not (self.log_dir / "meta.properties").exists():
            arguments = ("--cluster-id", CLUSTER_ID, "--config", str(self.properties_file), "--standalone")
            run_tool("kafka.tools.StorageTool", "format", *arguments, check=True)


def test_a_directory_that_apache_kafka_has_formatted_with_voters_that_may_change(tmp_path: Path) -> None:
    expected: set[str] = set()
    controller_port = free_port()
    for turn, kind in enumerate((DynamicApache, DynamicBroadsheet, DynamicApache)):
        broker = kind(tmp_path / "node")
        broker.controller_port = controller_port  # the voter's address is in the directory
        broker.start()
        try:
            if turn == 0:
                make_topic(broker)
            expected |= produce(broker, f"{turn}")
            assert sorted(consume(broker, f"all-{turn}", len(expected))) == sorted(expected)
            broker.stop()
        finally:
            broker.close()


@pytest.mark.parametrize("stop", [BrokerProcess.stop, BrokerProcess.kill], ids=["stopped", "killed"])
def test_each_goes_on_where_the_other_ended(stop: Stop, tmp_path: Path) -> None:
    expected: set[str] = set()
    for turn, kind in enumerate((Broadsheet, ApacheKafka, Broadsheet, ApacheKafka)):
        broker = kind(tmp_path / "node")
        broker.start()
        try:
            if turn == 0:
                make_topic(broker)
            else:
                assert committed(broker) == len(expected)
            new = produce(broker, f"{turn}")
            expected |= new
            assert set(consume(broker, GROUP, len(new))) == new
            everything = consume(broker, f"all-{turn}", len(expected))
            assert sorted(everything) == sorted(expected)
            stop(broker)
        finally:
            broker.close()
