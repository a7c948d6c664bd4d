"""The operator's process: its health, its metrics, its settings of kopf."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from broadsheet_operator.handlers.main import WATCH_SECONDS, WATCHED, Process, configure_kopf, parser, registry
from broadsheet_operator.handlers.metrics import OperatorCollector
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import GroupView, TopicPartition
from tests.operator.support import Stage


def process() -> Process:
    return Process(parser().parse_args(["--broker-image", "broker:1"]))


def test_every_setting_of_kopf_exists() -> None:
    """kopf's settings take any attribute: a misspelt one would do nothing."""
    import kopf

    known: Any = kopf.OperatorSettings()
    before = {group: set(vars(getattr(known, group))) for group in ("posting", "watching", "networking")}
    configure_kopf(known)
    assert before == {group: set(vars(getattr(known, group))) for group in before}


def test_every_kind_is_watched_by_one_handler() -> None:
    async def scene() -> None:
        async with Stage() as stage:
            handlers = registry(stage.operator)
            assert len(handlers._watching.get_all_handlers()) == len(WATCHED)

    asyncio.run(scene())


def test_a_watch_that_is_silent_for_too_long_fails_liveness() -> None:
    async def scene() -> None:
        async with Stage() as stage:
            ours = process()
            assert ours._silent_watch() == "", "a standby watches nothing"
            ours.operator = stage.operator
            assert ours._silent_watch() == "", "nothing is there, so nothing is heard"
            stage.apply("Topic", "orders", {"cluster": "news"})
            assert ours._silent_watch() == ""
            stage.operator.store.last_event[Kind.TOPIC] = time.monotonic() - 5 * WATCH_SECONDS
            assert ours._silent_watch().startswith("nothing was heard of topics for")

    asyncio.run(scene())


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
            return generate_latest(metrics).decode()

    text = asyncio.run(scene())
    who = 'cluster="news",consumergroup="readers",namespace="paper"'
    assert f'kafka_consumergroup_lag{{{who},partition="0",topic="orders"}} 3.0' in text
    assert f'kafka_consumergroup_lag{{{who},partition="1",topic="orders"}} -1.0' in text, "no commit: as KEDA expects"
    assert f'kafka_consumergroup_lag_sum{{{who},topic="orders"}} 3.0' in text
    assert 'broadsheet_resources{kind="ConsumerGroup",ready="True"} 1.0' in text
    assert 'broadsheet_broker_bytes{broker="0",cluster="news",namespace="paper"} 1000.0' in text
    assert "broadsheet_operator_leading 1.0" in text


def test_a_standby_says_that_it_does_not_lead() -> None:
    metrics = CollectorRegistry()
    collector: Any = OperatorCollector(lambda: None)
    metrics.register(collector)
    assert b"broadsheet_operator_leading 0.0" in generate_latest(metrics)
