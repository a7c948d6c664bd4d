"""What a broker process has in its memory when it serves: three packages, and nothing of the operator."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from tests.network.test_process import SECONDS, environment, listeners, wait_for
from tests.support.ports import free_ports

pytestmark = pytest.mark.slow

NEEDED = {"broadsheet_broker", "cramjam", "google_crc32c", "uvloop", "cython_runtime"}
"""`cython_runtime` is what uvloop's compiled module makes of itself."""

SCRIPT = """
import atexit, runpy, sys
before = set(sys.modules)
atexit.register(lambda: print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
runpy.run_module("broadsheet_broker", run_name="__main__", alter_sys=True)
"""


def test_a_broker_that_serves_has_imported_three_packages_only(tmp_path: Path) -> None:
    """Pydantic, PyYAML and kafka-python are the operator's: half of the image's dependencies, and a second parser."""
    ports = free_ports(2)
    arguments = ("--override", listeners(ports), "--override", "offsets.topic.num.partitions=1")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(process, "started")
        serve_a_client(f"localhost:{ports[0]}")
        process.send_signal(signal.SIGTERM)
        imported, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0
    foreign = {name for name in imported.split() if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert "broadsheet_broker" in foreign
    assert foreign <= NEEDED


def serve_a_client(servers: str) -> None:
    """Write compressed records and read them in a group, so that what is imported late is there too."""
    producer = Producer({"bootstrap.servers": servers, "compression.type": "zstd", "log_level": 0})
    for number in range(100):
        producer.produce("orders", f"order {number}".encode() * 20)
    assert producer.flush(SECONDS) == 0
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "readers", "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.subscribe(["orders"])
    assert consumer.consume(100, SECONDS)
    consumer.close()
