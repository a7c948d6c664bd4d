"""What a scrape of the operator finds, while things happen."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from broadsheet_operator.handlers.metrics import OperatorCollector
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import Failure, GroupView, TopicPartition
from broadsheet_operator.reconcilers.reasons import Reason
from tests.operator.support import BROKERS, Stage, merged, staged

NEWS = {"namespace": "paper", "cluster": "news"}


class Scrape:
    """The samples of a scrape; a sample that is there twice is an error, as it is for Prometheus."""

    def __init__(self, stage: Stage) -> None:
        registry = CollectorRegistry()
        collector: Any = OperatorCollector(lambda: stage.operator)
        registry.register(collector)
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self._samples, key
                self._samples[key] = sample.value

    def value(self, name: str, /, **labels: str) -> float | None:
        return self._samples.get((name, frozenset(labels.items())))

    def of(self, name: str, /, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """All samples of a name that have these labels among others."""
        return {
            found: value for (n, found), value in self._samples.items() if n == name and found >= set(labels.items())
        }


def reading(lag: int) -> GroupView:
    at = TopicPartition("orders", 0)
    return GroupView("readers", True, "Empty", (), {at: 10 - lag}, {at: 0}, {at: 10})


@staged
async def test_a_resource_has_its_conditions_and_reasons(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 3})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    stage.kafka.refuses["too-many"] = Failure(Reason.KAFKA_ERROR, "there is no room for it")
    stage.apply("Topic", "too-many", {"cluster": "news", "partitions": 3})
    await stage.reason(Kind.TOPIC, "too-many", "KafkaError")
    scrape = Scrape(stage)
    topic = {"kind": "Topic", "namespace": "paper", "cluster": "news"}
    assert scrape.value("broadsheet_resource_ready", **topic, name="orders") == 1
    assert scrape.value("broadsheet_resource_ready", **topic, name="too-many") == 0
    cluster = {"kind": "Cluster", "namespace": "paper", "cluster": "news", "name": "news"}
    assert scrape.value("broadsheet_resource_ready", **cluster) == 1
    ready = {"condition": "Ready", "reason": "KafkaError"}
    assert scrape.value("broadsheet_resource_condition", **topic, name="too-many", **ready) == 1
    assert len(scrape.of("broadsheet_resource_condition", name="orders")) == 1
    assert scrape.value("broadsheet_resources", kind="Topic", ready="False") == 1


@staged
async def test_reconciliations_are_counted_by_their_result(stage: Stage) -> None:
    stage.apply("Topic", "orders", {"cluster": "news", "partitions": 3})
    await stage.reason(Kind.TOPIC, "orders", "Ready")
    scrape = Scrape(stage)
    done = scrape.value("broadsheet_reconciliations_total", kind="Topic", result="success")
    assert done is not None and done >= 1
    assert scrape.value("broadsheet_reconciliation_seconds_count", kind="Topic") == done
    assert scrape.value("broadsheet_reconciliation_seconds_bucket", kind="Topic", le="+Inf") == done
    assert scrape.value("broadsheet_reconciliations_total", kind="Cluster", result="success")
    assert scrape.value("broadsheet_operator_resync_interval_seconds") == 3600


@staged
async def test_a_cluster_that_cannot_be_reached_has_no_lag(stage: Stage) -> None:
    """A lag of zero, or the one of before, would say that all is well."""
    stage.kafka.groups["readers"] = reading(lag=3)
    stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
    await stage.reason(Kind.CONSUMER_GROUP, "readers", "Ready")
    scrape = Scrape(stage)
    group = {**NEWS, "consumergroup": "readers"}
    assert scrape.value("broadsheet_cluster_reachable", **NEWS) == 1
    assert scrape.value("kafka_consumergroup_lag", **group, topic="orders", partition="0") == 3
    assert scrape.value("broadsheet_consumergroup_verdict", **group, verdict="Stopped") == 1
    stage.kafka.down = True
    stage.apply("Cluster", "news", {**BROKERS, "paused": False})  # so that it is looked at at once
    await stage.reason(Kind.CLUSTER, "news", "Timeout")
    scrape = Scrape(stage)
    assert scrape.value("broadsheet_cluster_reachable", **NEWS) == 0
    for name in ("lag", "lag_sum", "members", "current_offset", "group_max_lag_seconds"):
        assert not scrape.of(f"kafka_consumergroup_{name}")


@staged
async def test_one_group_that_two_resources_declare_has_one_lag(stage: Stage) -> None:
    """Prometheus drops a sample that is there twice."""
    stage.kafka.groups["readers"] = reading(lag=3)
    for name in ("readers", "rivals"):
        stage.apply("ConsumerGroup", name, {"cluster": "news", "groupId": "readers"})
    await stage.reason(Kind.CONSUMER_GROUP, "readers", "Ready")
    await stage.reason(Kind.CONSUMER_GROUP, "rivals", "ResourceConflict")
    assert len(Scrape(stage).of("kafka_consumergroup_lag")) == 1


@staged
async def test_brokers_are_counted_as_declared_and_as_ready(stage: Stage) -> None:
    scrape = Scrape(stage)
    assert scrape.value("broadsheet_cluster_brokers", **NEWS) == 1
    assert scrape.value("broadsheet_cluster_ready_brokers", **NEWS) == 1
    assert scrape.value("broadsheet_cluster_rolling", **NEWS) == 0
    assert scrape.value("broadsheet_cluster_paused", **NEWS) == 0
    stage.apply("Cluster", "news", {**BROKERS, "paused": True})
    await stage.reason(Kind.CLUSTER, "news", "Ready")
    assert Scrape(stage).value("broadsheet_cluster_paused", **NEWS) == 1
    stage.kubernetes.remove(Kind.CLUSTER, "paper", "news")
    await stage.until(lambda: Scrape(stage).value("broadsheet_cluster_reachable", **NEWS) is None, "nothing of it")


@staged
async def test_an_external_cluster_has_no_brokers_of_ours(stage: Stage) -> None:
    stage.apply("Cluster", "theirs", {"external": {"bootstrapServers": ["kafka:9092"]}})
    await stage.reason(Kind.CLUSTER, "theirs", "Ready")
    scrape = Scrape(stage)
    assert scrape.value("broadsheet_cluster_reachable", namespace="paper", cluster="theirs") == 1
    assert scrape.value("broadsheet_cluster_brokers", namespace="paper", cluster="theirs") is None


@staged
async def test_a_restart_is_counted_and_is_a_roll(stage: Stage) -> None:
    stage.kubernetes.pods_ready = False
    stage.apply("Cluster", "news", merged(BROKERS, {"brokers": {"resources": {"requests": {"cpu": "1"}}}}))

    def restarted() -> bool:
        return bool(Scrape(stage).of("broadsheet_broker_restarts_total", **NEWS))

    await stage.until(restarted, "a restart")
    assert list(Scrape(stage).of("broadsheet_broker_restarts_total", **NEWS).values()) == [1]
    await stage.until(lambda: Scrape(stage).value("broadsheet_cluster_rolling", **NEWS) == 1, "a roll")


def test_a_standby_exports_that_it_stands_by() -> None:
    registry = CollectorRegistry()
    collector: Any = OperatorCollector(lambda: None)
    registry.register(collector)
    names = {family.name for family in text_string_to_metric_families(generate_latest(registry).decode())}
    assert names == {"broadsheet_build_info", "broadsheet_operator_leading"}
