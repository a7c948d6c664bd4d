"""Topic and ConsumerGroup on an Apache Kafka that we did not start: the gateway against the real thing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.reconcilers.lag import LagRow, lag_rows
from broadsheet_operator.reconcilers.observed import (
    GroupQuery,
    GroupView,
    LagQuery,
    LagView,
    LogView,
    PartitionView,
    TopicPartition,
)
from broadsheet_operator.reconcilers.topic_actions import CreateTopic
from e2e.apache.apache import ApacheKafka
from tests.support.waiting import wait_until

SECONDS = 60.0


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "broadsheet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Managed:
    """A `broadsheet up` beside a Kafka of others."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self.directory = directory
        self.bootstrap = bootstrap
        self.file = directory / "manifests.yaml"

    def write(self, *documents: dict[str, Any]) -> None:
        cluster = manifest("Cluster", "theirs", external={"bootstrapServers": [self.bootstrap]})
        other = self.file.with_suffix(".new")
        other.write_text(yaml.safe_dump_all([cluster, *documents]))
        other.replace(self.file)

    def status(self, kind: str, name: str) -> dict[str, Any]:
        try:
            text = (self.directory / ".broadsheet" / "status" / kind / f"{name}.json").read_text()
            found: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):
            return {}
        return found

    def reason(self, kind: str, name: str) -> str:
        conditions = self.status(kind, name).get("conditions", [])
        return next((str(c["reason"]) for c in conditions if c["type"] == "Ready"), "")


@pytest.fixture(scope="module")
def kafka() -> Iterator[ApacheKafka]:
    with ApacheKafka(heap="512M") as kafka:
        yield kafka


@pytest.fixture
def managed(kafka: ApacheKafka, tmp_path: Path) -> Iterator[Managed]:
    running = Managed(tmp_path, kafka.bootstrap)
    running.write()
    command = [sys.executable, "-m", "broadsheet_operator.cli", "up", "-f", str(running.file)]
    with open(tmp_path / "up.log", "w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        yield running
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0, (tmp_path / "up.log").read_text()
    finally:
        process.kill()
        process.wait()


def overrides(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    (entries,) = [done.result(30) for done in admin.describe_configs([resource]).values()]
    return {e.name: str(e.value) for e in entries.values() if e.source == 1}


def test_a_topic_is_made_changed_and_its_drift_reverted(managed: Managed) -> None:
    admin = AdminClient({"bootstrap.servers": managed.bootstrap, "log_level": 0})
    spec = {"cluster": "theirs", "partitions": 3, "retention": {"time": "7d"}, "config": {"segment.bytes": None}}
    managed.write(manifest("Topic", "made", **spec))
    wait_until(lambda: managed.reason("Topic", "made") == "Ready", "the topic")
    assert len(admin.list_topics("made", 30).topics["made"].partitions) == 3
    assert overrides(admin, "made") == {"retention.ms": "604800000"}

    managed.write(manifest("Topic", "made", **{**spec, "partitions": 6}))
    wait_until(lambda: managed.status("Topic", "made").get("partitions") == 6, "more partitions")
    managed.write(manifest("Topic", "made", **{**spec, "partitions": 2}))
    wait_until(lambda: managed.reason("Topic", "made") == "NotSupported", "the refusal")
    managed.write(manifest("Topic", "made", **{**spec, "partitions": 6}))
    wait_until(lambda: managed.reason("Topic", "made") == "Ready", "the peace")

    drift = {"retention.ms": "5000000", "max.message.bytes": "100000", "segment.bytes": "20971520"}
    entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in drift.items()]
    resource = ConfigResource(ResourceType.TOPIC, "made", incremental_configs=entries)
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)
    expected = {"retention.ms": "604800000", "segment.bytes": "20971520"}
    wait_until(lambda: overrides(admin, "made") == expected, "the way back")


def test_a_topic_of_others_is_left_alone_unless_told_otherwise(managed: Managed) -> None:
    admin = AdminClient({"bootstrap.servers": managed.bootstrap, "log_level": 0})
    for done in admin.create_topics([NewTopic("theirs", 2, 1, config={"retention.ms": "1000000"})]).values():
        done.result(30)
    managed.write(manifest("Topic", "theirs", cluster="theirs", partitions=4))
    wait_until(lambda: managed.reason("Topic", "theirs") == "TopicExists", "the question")
    assert overrides(admin, "theirs") == {"retention.ms": "1000000"}
    managed.write(manifest("Topic", "theirs", cluster="theirs", partitions=4, adoption="Always"))
    wait_until(lambda: managed.reason("Topic", "theirs") == "Ready", "the adoption")
    assert overrides(admin, "theirs") == {}
    managed.write()
    wait_until(lambda: not managed.status("Topic", "theirs"), "the deletion")
    assert "theirs" in admin.list_topics(timeout=30).topics


def test_a_group_is_watched_and_reset(managed: Managed) -> None:
    topic = manifest("Topic", "read", cluster="theirs", partitions=2)
    managed.write(topic, manifest("ConsumerGroup", "club", cluster="theirs"))
    wait_until(lambda: managed.reason("Topic", "read") == "Ready", "the topic")
    wait_until(lambda: managed.reason("ConsumerGroup", "club") == "GroupNotFound", "the wait")
    producer = Producer({"bootstrap.servers": managed.bootstrap})
    for number in range(12):
        producer.produce("read", key=str(number), value="v")
    assert producer.flush(30) == 0
    settings = {"group.id": "club", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": managed.bootstrap, **settings})
    consumer.subscribe(["read"])
    assert len(consumer.consume(12, timeout=SECONDS)) == 12
    consumer.commit(asynchronous=False)
    for number in range(3):
        producer.produce("read", key=str(number), value="v")
    assert producer.flush(30) == 0
    wait_until(lambda: managed.status("ConsumerGroup", "club").get("lag") == 3, "the lag")
    status = managed.status("ConsumerGroup", "club")
    assert (status["state"], status["members"], status["verdict"]) == ("Stable", 1, "OK")
    assert 0 <= status["lagSeconds"] < SECONDS
    consumer.close()
    managed.write(topic, manifest("ConsumerGroup", "club", cluster="theirs", reset={"to": "earliest"}))
    wait_until(lambda: managed.status("ConsumerGroup", "club").get("lag") == 15, "the reset")
    assert managed.status("ConsumerGroup", "club")["verdict"] == "Stopped"


# -- the lag of all groups, for /metrics -------------------------------------------------------------------------------

LAG_TOPIC = "lag"
QUERY = LagQuery(most_partitions=100, most_fetches=100, all_topics=True)


@pytest.fixture(scope="module")
def gateway(kafka: ApacheKafka) -> Iterator[KafkaPythonGateway]:
    gateway = KafkaPythonGateway([kafka.bootstrap], 10_000)
    assert gateway.apply_topics([CreateTopic(LAG_TOPIC, 1, 1, {})]) == [None]
    yield gateway
    gateway.close()


def produce_to_lag(bootstrap: str, records: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for _ in range(records):
        producer.produce(LAG_TOPIC, b"x", partition=0)
    assert producer.flush(30) == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_groups_of_both_protocols_have_lag_and_members(
    kafka: ApacheKafka, gateway: KafkaPythonGateway, protocol: str
) -> None:
    group, at = f"readers-{protocol}", TopicPartition(LAG_TOPIC, 0)
    produce_to_lag(kafka.bootstrap, 10)
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": group, "group.protocol": protocol}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([LAG_TOPIC])
    wait_until(lambda: len(consumer.consume(100, 1.0)) > 0, "records")
    consumer.commit(asynchronous=False)
    (committed,) = consumer.committed(consumer.assignment())
    produce_to_lag(kafka.bootstrap, 6)
    try:
        row, view, logs = seen(gateway, group)
        assert row.end is not None
        assert (row.at, row.committed, row.lag) == (at, committed.offset, row.end - committed.offset)
        assert row.lag is not None and row.lag >= 6 and row.seconds is not None
        assert view.state == "Stable"
        assert [member.assigned for member in view.members] == [(at,)]
        assert LogView(at, PartitionView(0, kafka.node_id, (kafka.node_id,), (kafka.node_id,)), 0, row.end) in logs
        declared = gateway.observe_groups({group: GroupQuery()})[group]
        assert isinstance(declared, GroupView) and declared.members == view.members
    finally:
        consumer.close()
    row, view, _ = seen(gateway, group)
    assert (view.state, view.members) == ("Empty", ()) and row.lag is not None and row.lag >= 6


def seen(gateway: KafkaPythonGateway, group: str) -> tuple[LagRow, GroupView, tuple[LogView, ...]]:
    found = gateway.observe_lag(QUERY)
    assert isinstance(found, LagView) and not found.failed
    (view,) = [view for view in found.groups if view.group_id == group]
    (row,) = lag_rows(view, int(time.time() * 1000))
    return row, view, found.logs
