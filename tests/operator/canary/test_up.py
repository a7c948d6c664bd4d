"""`broadsheet up` runs canaries: for its own clusters and for external ones."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broadsheet_operator.kafka.client import KafkaPythonGateway
from tests.operator.local.test_against_broker import Up, manifest
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SECONDS = 60.0
TOPIC = "__broadsheet_canary"


class WithCanary(Up):
    """A cluster that asks for a canary, and the same one as an external cluster."""

    def declare(self, canary: dict[str, Any] | None, theirs: dict[str, Any] | None = None) -> None:
        listeners = [{"name": "plain", "port": self.port}]
        own = manifest("Cluster", "local", brokers={"replicas": 1}, listeners=listeners)
        external = manifest("Cluster", "theirs", external={"bootstrapServers": [self.server]})
        for cluster, spec in ((own, canary), (external, theirs)):
            if spec is not None:
                cluster["spec"]["canary"] = spec
        other = self.file.with_suffix(".new")
        other.write_text(yaml.safe_dump_all([own, external]))
        other.replace(self.file)

    def healthy(self, name: str = "local") -> str:
        conditions = self.get("Cluster", name).get("conditions", [])
        return next((str(c["status"]) for c in conditions if c["type"] == "CanaryHealthy"), "")

    def canary_pids(self) -> list[int]:
        return [pid for pid in self.broker_pids() if "canary" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[WithCanary]:
    running = WithCanary(tmp_path)
    yield running
    if running.process is not None:
        assert running.stop(signal.SIGTERM) == 0


def test_a_canary_runs_is_started_again_and_goes_with_its_topic(up: WithCanary) -> None:
    port = free_port()
    up.declare({"metricsPort": port}, {"topicName": "__theirs"})
    up.start()
    wait_until(lambda: up.healthy() == up.healthy("theirs") == "True", "both conditions", SECONDS)
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5) as answer:
        assert b'broadsheet_canary_broker_available{broker="0"} 1.0' in answer.read()
    assert up.get("Cluster", "local")["topics"] == 1, "of the two topics one is its own canary's"

    for pid in up.canary_pids():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: up.healthy() == "Unknown", "the end to be noticed", SECONDS)
    assert "the canary was killed by SIGKILL" in up.log()
    wait_until(lambda: up.healthy() == "True", "another one", SECONDS)

    up.declare(None, None)
    wait_until(lambda: not up.canary_pids(), "their end", SECONDS)
    wait_until(lambda: not up.healthy(), "the condition to go", SECONDS)
    gateway = KafkaPythonGateway([up.server])
    try:
        wait_until(lambda: gateway.list_topics() == [], "the topics to go", SECONDS)
    finally:
        gateway.close()
