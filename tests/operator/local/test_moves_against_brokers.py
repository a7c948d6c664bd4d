"""Replication factors that change on three real processes of our broker, under `broadsheet up`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer
from kafka import KafkaProducer

from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.kafka.moves import observe_rates
from broadsheet_operator.reconcilers.observed import TopicView
from broadsheet_operator.reconcilers.topic_actions import FOLLOWER_THROTTLED, LEADER_THROTTLED
from tests.operator.local.test_against_broker import SECONDS, Up, manifest
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

RECORDS, RECORD_BYTES = 300, 10_000


class Three(Up):
    """Three brokers and a topic whose replicas move."""

    def declare(self, factor: int, throttle: str = "50Mi", **more: Any) -> None:
        listeners = [{"name": "plain", "port": self.port}]
        cluster = manifest(
            "Cluster",
            "local",
            brokers={"replicas": 3},
            listeners=listeners,
            reassignment={"throttle": throttle},
            **more,
        )
        topic = manifest("Topic", "orders", cluster="local", partitions=3, replicationFactor=factor)
        other = self.file.with_suffix(".new")
        other.write_text(yaml.safe_dump_all([cluster, topic]))
        other.replace(self.file)

    def fill(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self.server, acks="all")
        for number in range(RECORDS):
            producer.send("orders", key=b"%d" % number, value=b"x" * RECORD_BYTES)
        producer.flush(timeout=SECONDS)
        producer.close()

    def read(self, group: str) -> int:
        """Read the topic in a group until all records came; how many there were."""
        consumer = Consumer(
            {"bootstrap.servers": self.server, "group.id": group, "auto.offset.reset": "earliest", "log_level": 0}
        )
        consumer.subscribe(["orders"])
        count, deadline = 0, time.monotonic() + SECONDS
        try:
            while count < RECORDS:
                assert time.monotonic() < deadline, f"{count} of {RECORDS} records came"
                count += sum(record.error() is None for record in consumer.consume(RECORDS, 0.2))
        finally:
            consumer.close()
        return count

    def reason(self) -> str:
        return str(self.condition("Topic", "orders").get("reason"))

    def moving(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("Topic", "orders").get("reassignment") or {}
        return found

    def has(self, factor: int) -> bool:
        """The topic is ready with so many replicas, all in sync, and nothing is limited any more."""
        status = self.get("Topic", "orders")
        replicas = 3 * factor
        settled = (status.get("replicationFactor"), status.get("inSync")) == (factor, f"{replicas}/{replicas}")
        return settled and self.ready("Topic", "orders") and not self.moving()

    def limits(self) -> tuple[list[str], set[tuple[int | None, int | None]]]:
        """Properties of the topic and rates of the brokers that limit copying."""
        gateway = KafkaPythonGateway([self.server])
        try:
            view: Any = None

            def seen() -> bool:
                nonlocal view
                view = gateway.observe_topics(["orders"])["orders"]
                return isinstance(view, TopicView)

            # After a crash the statuses of before are still there while the brokers start.
            wait_until(seen, "a look at the topic")
            set_ = [key for key in (LEADER_THROTTLED, FOLLOWER_THROTTLED) if view.configs[key].overridden]
            return set_, set(observe_rates(gateway._wire, [0, 1, 2]).values())
        finally:
            gateway.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Three]:
    running = Three(tmp_path)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_replicas_wait_for_a_window_move_under_a_limit_and_go_again(up: Three) -> None:
    up.declare(1)
    up.start()
    wait_until(lambda: up.has(1), "the topic")
    up.fill()
    another_month = datetime.now(UTC).month % 12 + 1
    closed = {"schedule": f"0 0 15 {another_month} *", "duration": "1h"}
    up.declare(3, "400k", maintenanceWindows=[closed])
    wait_until(lambda: up.reason() == "WaitingForMaintenanceWindow", "the wait")
    words = up.condition("Topic", "orders")["message"]
    assert words.startswith("give 3 partitions 3 replicas each: waits for the maintenance window that opens 20")
    assert up.get("Cluster", "local")["maintenanceWindow"].startswith("waits for the maintenance window that opens")
    assert up.get("Topic", "orders")["replicationFactor"] == 1

    up.declare(3, "400k", maintenanceWindows=[closed, {"schedule": "* * * * *", "duration": "1h"}])
    wait_until(lambda: up.moving().get("percent") is not None, "the move")
    assert up.limits() == ([LEADER_THROTTLED, FOLLOWER_THROTTLED], {(400_000, 400_000)})
    assert (up.get("Topic", "orders")["inSync"], up.moving()["throttle"]) == ("3/3", "400k")
    up.declare(3, "50Mi")
    wait_until(lambda: up.has(3), "three replicas")
    assert up.limits() == ([], {(None, None)})

    up.declare(4)
    wait_until(lambda: up.reason() == "NotSupported", "the refusal")
    up.declare(2)
    wait_until(lambda: up.has(2), "two replicas")
    assert up.limits() == ([], {(None, None)})
    assert up.read("club") == RECORDS
    assert up.stop() == 0


def test_moves_go_on_after_a_crash_and_end_when_edited_back(up: Three) -> None:
    up.declare(1)
    up.start()
    wait_until(lambda: up.has(1), "the topic")
    up.fill()
    up.declare(3, "100k")
    wait_until(lambda: up.moving().get("percent") is not None, "the move")
    assert up.process is not None
    brokers = up.broker_pids()
    up.process.kill()
    up.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in brokers), "the end of the brokers")
    up.start()
    wait_until(lambda: up.moving().get("percent") is not None, "the move after a crash")
    assert up.limits()[0] == [LEADER_THROTTLED, FOLLOWER_THROTTLED]

    up.declare(1, "100k")
    wait_until(lambda: up.has(1), "what there was before")
    assert up.limits() == ([], {(None, None)})
    assert up.read("club") == RECORDS
    assert up.stop(signal.SIGTERM) == 0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
