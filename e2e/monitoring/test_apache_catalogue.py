"""What Apache Kafka exports by the JMX agent, against the catalogue: the tables of both engines rely on it."""

from __future__ import annotations

import hashlib
import re

import pytest

from e2e.apache.agent import RULES, agent_jar
from e2e.monitoring.apache_catalogue import scraped
from e2e.operator.providers import REPOSITORY
from tools.metrics import catalogue

STALE = "tools/metrics.json is stale; run: .venv/bin/python -m e2e.monitoring.apache_catalogue && make generate"


@pytest.mark.slow
def test_apache_kafka_exports_what_the_catalogue_has_and_nothing_else() -> None:
    found, known = scraped(), {metric.name: metric for metric in catalogue()["apache-kafka"]}
    assert found.keys() == known.keys(), STALE
    assert found == known, STALE


def test_the_image_has_the_agent_of_the_tests() -> None:
    dockerfile = (REPOSITORY / "broker-image/jmx-agent/Dockerfile").read_text()
    (digest,) = re.findall(r"^ARG SHA256=(\w+)$", dockerfile, re.M)
    assert hashlib.sha256(agent_jar().read_bytes()).hexdigest() == digest
    assert f"/{agent_jar().name}\n" in dockerfile


def test_every_rule_that_is_not_named_like_ours_says_what_it_is() -> None:
    """The agent's own help names the MBean that came first, which says nothing."""
    assert RULES.exists()
    for metric in catalogue()["apache-kafka"]:
        assert "exposed for management" not in metric.help, metric.name
