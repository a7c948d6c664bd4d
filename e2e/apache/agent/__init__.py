"""Prometheus' JMX agent in Apache Kafka's broker, with the rules that the operator gives it."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from e2e.apache.apache import ApacheKafka, jars
from tests.support.ports import free_port

HERE = Path(__file__).parent
VERSION = "1.0.1"
RULES = HERE.parents[2] / "operator/broadsheet_operator/templates/jmx-exporter.yaml"


def agent_jar() -> Path:
    """The agent; copied by Maven on first use."""
    return jars(HERE / "pom.xml", f"jmx-agent-{VERSION}") / f"jmx_prometheus_javaagent-{VERSION}.jar"


class WatchedKafka(ApacheKafka):
    """Apache Kafka that answers /metrics."""

    metrics_port = 0

    def command(self) -> list[str]:
        self.metrics_port = self.metrics_port or free_port()
        program, *rest = super().command()
        return [program, f"-javaagent:{agent_jar()}=127.0.0.1:{self.metrics_port}:{RULES}", *rest]

    @property
    def metrics_address(self) -> str:
        """host:port of /metrics."""
        return f"127.0.0.1:{self.metrics_port}"

    def scrape(self) -> str:
        """What /metrics says now."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=30) as answer:
            return str(answer.read().decode())
