"""The canary is a client like any other: it measures Apache Kafka (`--broker apache`) as it measures Broadsheet."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request

from tests.support.broker_process import BrokerProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_until


def test_records_of_the_canary_pass(broker: BrokerProcess) -> None:
    port = free_port()
    command = [sys.executable, "-m", "broadsheet_operator.cli", "canary", "--bootstrap-servers", broker.bootstrap]
    canary = subprocess.Popen([*command, "--http", f"localhost:{port}", "--interval", "200ms"])

    def is_healthy() -> bool:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/status", timeout=5) as answer:
                return json.loads(answer.read())["healthy"] is True
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_until(is_healthy, "records to pass", 60)
        with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5) as answer:
            samples = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#")
        node = f'{{broker="{broker.node_id}"}}'
        assert float(samples[f"broadsheet_canary_records_consumed_total{node}"]) > 0
        assert float(samples[f"broadsheet_canary_records_lost_total{node}"]) == 0
    finally:
        canary.terminate()
        assert canary.wait(30) == 0
