"""The operator's process: its health, its metrics, its settings of kopf."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from broadsheet_operator.handlers.main import Process, parser
from broadsheet_operator.handlers.metrics import OperatorCollector, scrape
from broadsheet_operator.handlers.watches import WATCHED, WatchHealth, configure_kopf, kind_of_collection, registry
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import GroupView, TopicPartition
from broadsheet_operator.settings import OperatorSettings
from tests.operator.support import Stage


def test_every_setting_of_kopf_exists() -> None:
    """kopf's settings take any attribute: a misspelt one would do nothing."""
    import kopf

    known: Any = kopf.OperatorSettings()
    before = {group: set(vars(getattr(known, group))) for group in ("posting", "watching", "networking")}
    configure_kopf(known, OperatorSettings())
    assert before == {group: set(vars(getattr(known, group))) for group in before}


def test_every_kind_is_watched_by_one_handler() -> None:
    async def scene() -> None:
        async with Stage() as stage:
            handlers = registry(stage.operator, WatchHealth(1.0))
            assert len(handlers._watching.get_all_handlers()) == len(WATCHED)

    asyncio.run(scene())


def test_a_watch_that_the_api_server_no_longer_answers_fails_liveness() -> None:
    now = [1000.0]
    health = WatchHealth(480.0, lambda: now[0])
    topics = Kind.TOPIC.path()
    objects = {Kind.TOPIC: 1}

    def count(kind: Kind) -> int:
        return objects.get(kind, 0)

    assert health.complaint(count) == "", "nothing was ever watched"
    health.answered(topics)
    now[0] += 480
    assert health.complaint(count) == ""
    now[0] += 1
    assert health.complaint(count) == f"the watch of {topics} was not answered for 481 s"
    health.answered(topics)
    assert health.complaint(count) == "", "it was begun again, and no Topic has changed"
    now[0] += 500
    objects.clear()
    assert health.complaint(count) == "", "kopf no longer watches a kind whose definition was deleted"


def test_a_standby_watches_nothing_and_is_alive() -> None:
    async def scene() -> None:
        process = Process(parser().parse_args(["--broker-image", "broker:1"]))
        assert process.operator is None
        assert process.watches.complaint(lambda kind: 1) == ""

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/apis/broadsheet.io/v1alpha1/topics", Kind.TOPIC),
        ("/apis/broadsheet.io/v1alpha1/namespaces/paper/topics", Kind.TOPIC),
        ("/k8s/clusters/c-1/apis/broadsheet.io/v1alpha1/namespaces/paper/topics", Kind.TOPIC),
        ("/api/v1/pods", Kind.POD),
        ("/api/v1/namespaces/paper/persistentvolumeclaims", Kind.VOLUME_CLAIM),
        ("/api/v1/namespaces", Kind.NAMESPACE),
        ("/api/v1/namespaces/paper", None),
        ("/apis/broadsheet.io/v1alpha1", None),
        ("/apis/broadsheet.io/v1alpha1/namespaces/paper/topics/orders", None),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", None),
    ],
)
def test_answers_are_noted_for_lists_and_watches_of_watched_kinds(path: str, kind: Kind | None) -> None:
    assert kind_of_collection(path) is kind


def test_metrics_tell_the_exact_lag() -> None:
    async def scene() -> str:
        async with Stage() as stage:
            stage.apply("Cluster", "news", {"brokers": {"replicas": 1, "storage": {"size": "1Gi"}}})
            at = [TopicPartition("orders", number) for number in range(2)]
            ends = {at[0]: 10, at[1]: 5}
            stage.kafka.groups["readers"] = GroupView(
                "readers", True, "Empty", committed={at[0]: 7}, starts=dict.fromkeys(at, 0), ends=ends
            )
            stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
            await stage.reason(Kind.CONSUMER_GROUP, "readers", "Ready")
            metrics = CollectorRegistry()
            collector: Any = OperatorCollector(lambda: stage.operator)
            metrics.register(collector)
            return scrape(metrics, stage.operator).decode()

    text = asyncio.run(scene())
    who = 'namespace="paper",cluster="news",consumergroup="readers"'
    assert f'kafka_consumergroup_lag{{{who},topic="orders",partition="0"}} 3\n' in text
    assert f'kafka_consumergroup_lag{{{who},topic="orders",partition="1"}} -1\n' in text, "no commit: as KEDA expects"
    assert f'kafka_consumergroup_lag_sum{{{who},topic="orders"}} 3\n' in text
    assert 'broadsheet_resources{kind="ConsumerGroup",ready="True"} 1.0' in text
    assert 'broadsheet_broker_bytes{broker="0",cluster="news",namespace="paper"} 1000.0' in text
    assert "broadsheet_operator_leading 1.0" in text


def test_a_standby_says_that_it_does_not_lead() -> None:
    metrics = CollectorRegistry()
    collector: Any = OperatorCollector(lambda: None)
    metrics.register(collector)
    assert b"broadsheet_operator_leading 0.0" in generate_latest(metrics)
