"""The catalogue of metrics: what a broker, the operator and the canary export, with types, labels and help.

.venv/bin/python tools/metrics.py     scrapes a broker that it starts, and writes tools/metrics.json

What brokers of Apache Kafka export by Prometheus' JMX agent is in it as well, and needs Java and Maven:

.venv/bin/python -m e2e.monitoring.apache_catalogue

docs/reference/metrics.md is made from the catalogue by tools/reference.py. A test scrapes again and compares both ways,
so that dashboards and alerts can rely on every name in it.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

CATALOGUE = pathlib.Path(__file__).with_suffix(".json")
DEADLINE_SECONDS = 60
TOPIC, GROUP = "metrics", "metrics-readers"


@dataclass(frozen=True)
class Metric:
    """One metric as a scrape shows it."""

    name: str
    type: str
    labels: list[str]
    """Of all its samples; a histogram's `le` is left out."""
    help: str


def parse(text: str) -> dict[str, Metric]:
    """The metrics of a scrape in Prometheus's text format, by name."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            _, what, name, words = line.split(" ", 3)
            found.setdefault(name, {"labels": set()})[what.lower()] = words
        elif line:
            name = re.split(r"[{ ]", line, maxsplit=1)[0]
            family = name if name in found else re.sub(r"_(bucket|sum|count)$", "", name)
            labels = re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', line.rpartition("}")[0])
            found[family]["labels"] |= set(labels) - {"le"}
    return {name: Metric(name, m["type"], sorted(m["labels"]), m["help"]) for name, m in sorted(found.items())}


def broker_metrics() -> dict[str, Metric]:
    """The metrics of a broker and controller with a topic and a group."""
    with tempfile.TemporaryDirectory() as directory:
        kafka, controller, http = _free_ports(3)
        properties = pathlib.Path(directory) / "server.properties"
        properties.write_text(
            f"process.roles=broker,controller\nnode.id=0\ncluster.id=Zm9sZGVkLW5ld3NwYXBlcg\nlog.dirs={directory}/data\n"
            f"controller.quorum.voters=0@localhost:{controller}\ncontroller.listener.names=CONTROLLER\n"
            f"listeners=PLAINTEXT://localhost:{kafka},CONTROLLER://localhost:{controller}\n"
            f"broadsheet.http.listener=http://localhost:{http}\noffsets.topic.replication.factor=1\n"
            "group.initial.rebalance.delay.ms=0\n"
        )
        command = [sys.executable, "-m", "broadsheet_broker", "broker", "--config", str(properties)]
        with open(f"{directory}/log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_until_ready(f"http://localhost:{http}/readyz", process, pathlib.Path(directory) / "log")
            _use(f"localhost:{kafka}")
            with urllib.request.urlopen(f"http://localhost:{http}/metrics", timeout=10) as answer:
                return parse(answer.read().decode())
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


def operator_metrics() -> dict[str, Metric]:
    """The metrics that the operator declares, and those of its process."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.process_collector import ProcessCollector

    from broadsheet_operator.handlers.metrics import METRICS

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    found = parse(generate_latest(registry).decode())
    own = {name: Metric(name, m.type, sorted(m.labels), m.help) for name, m in METRICS.items()}
    return dict(sorted({**found, **own}.items()))


def canary_metrics() -> dict[str, Metric]:
    """The metrics that the canary declares, and those of its process."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.process_collector import ProcessCollector

    from broadsheet_operator.canary.metrics import METRICS

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    found = parse(generate_latest(registry).decode())
    own = {name: Metric(name, m.type, sorted(m.labels), m.help) for name, m in METRICS.items()}
    return dict(sorted({**found, **own}.items()))


def catalogue() -> dict[str, list[Metric]]:
    """The catalogue as it was written: the metrics of `broker`, `apache-kafka`, `operator` and `canary`."""
    return {who: [Metric(**row) for row in rows] for who, rows in json.loads(CATALOGUE.read_text()).items()}


def _use(server: str) -> None:
    """Have the broker keep a topic, a record and a committed offset."""
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.structs import OffsetAndMetadata, TopicPartition

    producer = KafkaProducer(bootstrap_servers=server)
    producer.send(TOPIC, b"record").get(timeout=DEADLINE_SECONDS)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=server, group_id=GROUP, enable_auto_commit=False)
    at = TopicPartition(TOPIC, 0)
    consumer.assign([at])
    consumer.commit({at: OffsetAndMetadata(1, "", -1)})
    consumer.close()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker does not become ready:\n{log.read_text()}") from None
            time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def write(**found: Mapping[str, Metric]) -> None:
    """Put the metrics of these into the catalogue; the others stay as they are."""
    rows = json.loads(CATALOGUE.read_text()) if CATALOGUE.exists() else {}
    rows |= {who.replace("_", "-"): [asdict(m) for _, m in sorted(metrics.items())] for who, metrics in found.items()}
    CATALOGUE.write_text(json.dumps(rows, indent=1) + "\n")


def main() -> int:
    write(broker=broker_metrics(), operator=operator_metrics(), canary=canary_metrics())
    return 0


if __name__ == "__main__":
    sys.exit(main())
