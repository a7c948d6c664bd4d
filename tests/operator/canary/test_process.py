"""The canary as a process, against three real brokers that are killed, paused and robbed of its topic."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from broadsheet_operator.canary.metrics import METRICS
from tests.operator.local.test_against_broker import Up, manifest
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SECONDS = 60.0
TOPIC = "__broadsheet_canary"
MOST_RESIDENT_BYTES = 60e6


class Canary:
    """A canary process and what it says."""

    def __init__(self, directory: Path, servers: str) -> None:
        self.output = directory / "canary.log"
        self.url = f"http://localhost:{(port := free_port())}"
        command = [sys.executable, "-m", "broadsheet_operator.cli", "canary", "--bootstrap-servers", servers]
        command += ["--http", f"localhost:{port}", "--interval", "200ms", "--log-format", "json"]
        with self.output.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def page(self, name: str) -> str:
        with urllib.request.urlopen(f"{self.url}/{name}", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str, broker: int | None = None) -> float | None:
        """A sample, None while there is none; without a broker the sum of all."""
        try:
            text = self.page("metrics")
        except (urllib.error.URLError, OSError):
            return None
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"broadsheet_canary_{name}" and broker in (None, int(sample.labels.get("broker", -1)))
        ]
        return sum(found) if found else None

    def is_available(self, *brokers: int) -> bool:
        return all(self.metric("broker_available", broker) == 1.0 for broker in brokers)

    def produced(self, broker: int) -> float:
        return self.metric("records_produced_total", broker) or 0.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    running.brokers = 3
    running.write()
    running.start()
    yield running
    running.stop(signal.SIGTERM)


@pytest.fixture
def canary(up: Up, tmp_path: Path) -> Iterator[Canary]:
    running = Canary(tmp_path, up.server)
    yield running
    running.process.terminate()
    assert running.process.wait(SECONDS) == 0
    for line in running.output.read_text().splitlines():
        json.loads(line)


def pid_of(up: Up, broker: int) -> int:
    for pid in up.broker_pids():
        if f"broker-{broker}.properties" in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise AssertionError(f"broker {broker} does not run")


def test_brokers_that_die_and_stop_and_a_topic_that_is_recreated(up: Up, canary: Canary) -> None:
    wait_until(lambda: canary.is_available(0, 1, 2), "records through every broker", SECONDS)
    wait_until(lambda: json.loads(canary.page("status"))["healthy"], "a verdict", SECONDS)
    assert canary.page("healthz") == canary.page("readyz") == "ok\n"

    os.kill(pid_of(up, 1), signal.SIGKILL)
    wait_until(lambda: not canary.is_available(1), "the dead broker to be noticed", SECONDS)
    wait_until(lambda: canary.is_available(0, 1, 2), "its return", SECONDS)

    paused = pid_of(up, 2)
    os.kill(paused, signal.SIGSTOP)
    try:
        wait_until(lambda: not canary.is_available(2), "the paused broker to be noticed", SECONDS)
        others = canary.produced(0)
        wait_until(lambda: canary.produced(0) > others + 5, "records through the others", SECONDS)
    finally:
        os.kill(paused, signal.SIGCONT)
    wait_until(lambda: canary.is_available(0, 1, 2), "its return", SECONDS)

    admin = KafkaAdminClient(bootstrap_servers=up.server)
    admin.delete_topics([TOPIC])
    admin.close()
    wait_until(lambda: canary.metric("topic_recreated_total"), "the new topic to be noticed", SECONDS)
    wait_until(lambda: canary.is_available(0, 1, 2), "records in the new topic", SECONDS)

    # On a slow machine a record of the paused broker may come after it was given up: it is late, and not lost.
    assert canary.metric("records_lost_total") == canary.metric("records_late_total")
    assert canary.metric("records_duplicated_total") == 0
    assert canary.produced(0) > 20
    assert (canary.metric("connect_errors_total", 1) or 0) > 0
    text = canary.page("metrics")
    exported = set(re.findall(r"^# TYPE (broadsheet_\w+) ", text, re.MULTILINE))
    assert exported == set(METRICS)
    resident = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    assert resident is not None and float(resident[1]) < MOST_RESIDENT_BYTES


def test_a_rolling_restart_loses_and_fails_no_record(up: Up, canary: Canary) -> None:
    wait_until(lambda: canary.is_available(0, 1, 2), "records through every broker", SECONDS)
    for broker in range(3):
        before = pid_of(up, broker)
        os.kill(before, signal.SIGTERM)  # a controlled shutdown; `up` starts it again
        wait_until(lambda before=before: before not in up.broker_pids(), "its end", SECONDS)  # type: ignore[misc]
        wait_until(lambda: len(up.broker_pids()) == 3, "its start", SECONDS)
        wait_until(lambda: canary.is_available(0, 1, 2), "its return", SECONDS)
    for name in ("records_lost_total", "records_failed_total", "records_duplicated_total"):
        assert canary.metric(name) == 0, name
    assert canary.produced(0) > 20


def test_a_topic_of_somebody_else_is_not_written_to(up: Up, tmp_path: Path) -> None:
    up.write(manifest("Topic", "theirs", cluster="local", topicName=TOPIC, partitions=1))
    wait_until(lambda: up.ready("Topic", "theirs"), "the topic", SECONDS)
    canary = Canary(tmp_path, up.server)
    try:
        wait_until(lambda: "was not made for a canary" in canary.output.read_text(), "the refusal", SECONDS)
    finally:
        canary.process.terminate()
        assert canary.process.wait(SECONDS) == 0
