"""The catalogue of metrics and what is really exported are the same, read both ways."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.metrics import METRICS, OperatorCollector, scrape
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import GroupView, LogView, MemberView, PartitionView, TopicPartition
from broadsheet_operator.settings import OperatorSettings
from tests.operator.support import Stage

REPOSITORY = Path(__file__).resolve().parents[3]
STALE = "tools/metrics.json is stale; run: .venv/bin/python tools/metrics.py && .venv/bin/python tools/reference.py"


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("metrics_tool", REPOSITORY / "tools/metrics.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # where its dataclass looks for its types
    specification.loader.exec_module(module)
    return module


TOOL = tool()


def test_a_broker_exports_what_the_catalogue_has_and_nothing_else() -> None:
    scraped = TOOL.broker_metrics()
    known = {metric.name: metric for metric in TOOL.catalogue()["broker"]}
    assert scraped.keys() == known.keys(), STALE
    assert scraped == known, STALE


def self_scrape(stage: Stage) -> bytes:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    collector: Any = OperatorCollector(lambda: stage.operator)
    registry.register(collector)
    return scrape(registry, stage.operator)


def test_the_operator_exports_what_the_catalogue_has_and_nothing_else() -> None:
    async def scene() -> str:
        timing = OperatorSettings(resync_seconds=3600.0, lag_seconds=0.1, lag_names="both")
        async with asyncio.timeout(30), Stage(timing) as stage:
            at = TopicPartition("orders", 0)
            stage.kafka.logs = (LogView(at, PartitionView(0, 1, (1,), (1,)), 0, 10),)
            stage.apply("Cluster", "news", {"brokers": {"replicas": 1, "storage": {"size": "1Gi"}}})
            kafka = {"type": "apache-kafka", "version": "4.3.0"}
            brokers = {"replicas": 1, "storage": {"size": "1Gi"}}
            stage.apply("Cluster", "apache", {"brokers": brokers, "engine": kafka})
            stage.apply("Cluster", "theirs", {"external": {"bootstrapServers": ["kafka:9092"]}})
            written = {at: int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)}
            member = MemberView("m", "c", "h", None, (at,))
            group = GroupView("readers", True, "Stable", (member,), {at: 7}, {at: 0}, {at: 10}, written)
            stage.kafka.groups["readers"] = group
            stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
            await stage.reason(Kind.CONSUMER_GROUP, "readers", "Ready")
            apache = ResourceKey("paper", "apache")
            await stage.until(lambda: apache in stage.operator.clusters.storage(), "what the brokers keep")
            stage.operator.neighbours.others["ops/another"] = "all namespaces"
            await stage.until(
                lambda: b"kafka_topic_partitions{" in self_scrape(stage), "the lag of an external cluster"
            )
            stage.operator.counts.restarts[ResourceKey("paper", "news"), "PodStuck"] += 1
            return self_scrape(stage).decode()

    scraped = TOOL.parse(asyncio.run(scene()))
    known = {metric.name: metric for metric in TOOL.catalogue()["operator"]}
    assert scraped.keys() == known.keys(), STALE
    assert scraped == known, STALE
    assert METRICS.keys() <= known.keys()


def test_a_scrape_is_read_with_its_labels() -> None:
    text = """# HELP a_seconds Time.
# TYPE a_seconds histogram
a_seconds_bucket{request="x \\"} y",le="0.1"} 1
a_seconds_sum{request="x"} 0.5
# HELP b_total Count.
# TYPE b_total counter
b_total 1
b_total{topic="t"} 2
"""
    found = TOOL.parse(text)
    assert {name: (metric.type, metric.labels) for name, metric in found.items()} == {
        "a_seconds": ("histogram", ["request"]),
        "b_total": ("counter", ["topic"]),
    }
