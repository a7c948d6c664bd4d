"""What a scrape of the operator finds, while things happen."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.metrics import OperatorCollector, scrape
from broadsheet_operator.handlers.metrics.lag import LagText
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import (
    Failure,
    GroupView,
    LagQuery,
    LagView,
    LogView,
    MemberView,
    PartitionView,
    TopicPartition,
)
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.settings import OperatorSettings
from tests.operator.support import BROKERS, Stage, merged, staged

NEWS = {"namespace": "paper", "cluster": "news"}


class Scrape:
    """The samples of a scrape; a sample that is there twice is an error, as it is for Prometheus."""

    def __init__(self, stage: Stage) -> None:
        registry = CollectorRegistry()
        collector: Any = OperatorCollector(lambda: stage.operator)
        registry.register(collector)
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(scrape(registry, stage.operator).decode()):
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
    topics = {"kind": "Topic", "result": "success"}
    # It is counted when its status is written, and the status is what was waited for.
    await stage.until(lambda: Scrape(stage).value("broadsheet_reconciliations_total", **topics), "the count")
    scrape = Scrape(stage)
    done = scrape.value("broadsheet_reconciliations_total", **topics)
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
    assert not scrape.of("kafka_consumergroup_group_max_lag_seconds"), "the age of these records is not known"
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

    def restarts() -> list[float]:
        return sorted(Scrape(stage).of("broadsheet_broker_restarts_total", **NEWS).values())

    assert restarts() == [0, 0], "increase() sees a first restart only if there was a 0 before"
    await stage.until(lambda: restarts() != [0, 0], "a restart")
    assert restarts() == [0, 1]
    await stage.until(lambda: Scrape(stage).value("broadsheet_cluster_rolling", **NEWS) == 1, "a roll")


def test_a_standby_exports_that_it_stands_by() -> None:
    registry = CollectorRegistry()
    collector: Any = OperatorCollector(lambda: None)
    registry.register(collector)
    names = {family.name for family in text_string_to_metric_families(generate_latest(registry).decode())}
    assert names == {"broadsheet_build_info", "broadsheet_operator_leading"}


SOON = OperatorSettings(resync_seconds=3600.0, lag_seconds=0.05, cluster_ready_seconds=0.2)


def observing(test: Callable[[Stage], Awaitable[None]], timing: OperatorSettings = SOON) -> None:
    """Run with an operator that observes lag all the time, and a Cluster `news` that is Ready."""

    async def scene() -> None:
        async with asyncio.timeout(30), Stage(timing) as stage:
            stage.apply("Cluster", "news", BROKERS)
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            await test(stage)

    asyncio.run(scene())


def groups_in(stage: Stage) -> set[str]:
    return {dict(labels)["consumergroup"] for labels in Scrape(stage).of("kafka_consumergroup_members")}


def test_groups_that_no_resource_declares_are_exported() -> None:
    async def test(stage: Stage) -> None:
        first, second = TopicPartition("orders", 0), TopicPartition("orders", 1)
        stage.kafka.groups["others"] = GroupView(
            "others", True, "Empty", (), {first: 7}, {first: 9, second: 0}, {first: 10, second: 4}
        )
        await stage.until(lambda: groups_in(stage) == {"others"}, "the group")
        scrape, group = Scrape(stage), {**NEWS, "consumergroup": "others"}
        assert scrape.value("kafka_consumergroup_lag", **group, topic="orders", partition="0") == 1, "two are deleted"
        assert scrape.value("kafka_consumergroup_lag", **group, topic="orders", partition="1") == -1, "no commit"
        assert scrape.value("kafka_consumergroup_lag_sum", **group, topic="orders") == 1
        assert scrape.value("kafka_consumergroup_members", **group) == 0, "a group without members does not vanish"
        assert scrape.value("broadsheet_lag_groups", **NEWS, result="exported") == 1
        assert not scrape.of("kafka_topic_partitions"), "our brokers export them"
        stage.kafka.down = True
        await stage.until(lambda: not groups_in(stage), "no lag of a cluster that does not answer")

    observing(test)


def test_a_declared_group_is_exported_once() -> None:
    async def test(stage: Stage) -> None:
        stage.kafka.groups["readers"] = reading(lag=3)
        await stage.until(lambda: groups_in(stage) == {"readers"}, "the group")
        stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
        await stage.reason(Kind.CONSUMER_GROUP, "readers", "Ready")
        assert len(Scrape(stage).of("kafka_consumergroup_lag")) == 1

        def counted_once() -> bool:
            return Scrape(stage).value("broadsheet_lag_groups", **NEWS, result="exported") == 1

        await stage.until(counted_once, "one group")

    observing(test)


def test_a_cluster_says_which_groups_are_exported() -> None:
    async def test(stage: Stage) -> None:
        for name in ("readers", "console-consumer-1", "others"):
            stage.kafka.groups[name] = replace(reading(lag=3), group_id=name)
        stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
        await stage.until(lambda: groups_in(stage) == {"readers", "console-consumer-1", "others"}, "all")
        for metrics, wanted in (
            ({"excludeGroups": ["console-*", "readers"]}, {"readers", "others"}),
            ({"consumerGroups": "Declared"}, {"readers"}),
            ({"consumerGroups": "None"}, set()),
            ({"consumerGroups": "All"}, {"readers", "console-consumer-1", "others"}),
        ):
            stage.apply("Cluster", "news", {**BROKERS, "metrics": metrics})
            await stage.until(lambda wanted=wanted: groups_in(stage) == wanted, f"{metrics}")  # type: ignore[misc]

    observing(test)


def test_whether_lag_is_wanted_is_exported_beside_whether_it_is_known() -> None:
    async def test(stage: Stage) -> None:
        def found() -> tuple[float | None, float | None, float | None]:
            scrape = Scrape(stage)
            groups = (scrape.value("broadsheet_lag_groups", **NEWS, result=result) for result in ("exported", "failed"))
            return scrape.value("broadsheet_lag_wanted", **NEWS), *groups

        async def declare(metrics: dict[str, Any], *wanted: float | None) -> None:
            stage.apply("Cluster", "news", {**BROKERS, "metrics": metrics})
            await stage.until(lambda: found() == wanted, f"{wanted} with {metrics}, not {found()}")

        stage.kafka.groups["others"] = replace(reading(lag=3), group_id="others")
        await stage.until(lambda: found() == (1, 1, 0), "the lag")
        observe = stage.kafka.observe_lag
        stage.kafka.observe_lag = lambda query: Failure(Reason.UNAUTHORIZED, "not allowed")  # type: ignore[method-assign]
        await stage.until(lambda: found() == (1, None, None), "what was seen to be too old")
        await declare({"consumerGroups": "None"}, None, None, None)
        await declare({"consumerGroups": "Declared"}, None, 0, 0)
        stage.apply("ConsumerGroup", "others", {"cluster": "news"})
        await stage.until(lambda: found() == (1, 1, 0), "the declared group")
        stage.kafka.observe_lag = observe  # type: ignore[method-assign]
        await declare({}, 1, 1, 0)
        stage.kafka.down = True
        await stage.until(lambda: found() == (None, None, None), "nothing of a cluster that does not answer")

    observing(test)


def test_a_declared_group_that_cannot_be_observed_is_counted() -> None:
    async def test(stage: Stage) -> None:
        def failed() -> float | None:
            return Scrape(stage).value("broadsheet_lag_groups", **NEWS, result="failed")

        stage.apply("Cluster", "news", {**BROKERS, "metrics": {"consumerGroups": "Declared"}})
        failure = Failure(Reason.COORDINATOR_NOT_AVAILABLE, "no coordinator")
        stage.kafka.observe_groups = lambda queries: dict.fromkeys(queries, failure)  # type: ignore[method-assign]
        stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
        await stage.until(lambda: failed() == 1, "the group")
        assert Scrape(stage).value("broadsheet_lag_wanted", **NEWS) == 1
        stage.apply("Cluster", "news", {**BROKERS, "metrics": {"consumerGroups": "Declared"}, "paused": True})
        await stage.until(lambda: failed() == 0, "a pause, in which no declared group is looked at")

    observing(test)


def test_groups_beyond_the_limit_are_counted_and_named_nowhere() -> None:
    async def test(stage: Stage) -> None:
        for name in ("a", "b", "c"):
            stage.kafka.groups[name] = replace(reading(lag=3), group_id=name)

        def left_out() -> bool:
            return Scrape(stage).value("broadsheet_lag_groups", **NEWS, result="left_out") == 1

        await stage.until(left_out, "a group too many")
        assert groups_in(stage) == {"a", "b"}

    observing(test, replace(SOON, lag_partitions=2))


def test_a_cluster_that_does_not_answer_about_groups_delays_no_other() -> None:
    """Nor its own Topics."""

    async def test(stage: Stage) -> None:
        looking, go_on = threading.Event(), threading.Event()

        def slow(query: LagQuery) -> LagView:
            looking.set()
            go_on.wait(30)
            return LagView(groups=(), left_out=0, failed=0, logs=(), times={})

        stage.kafka.observe_lag = slow  # type: ignore[method-assign]
        try:
            await stage.until(looking.is_set, "a look at groups")
            async with asyncio.timeout(10):
                stage.apply("Topic", "orders", {"cluster": "news"})
                await stage.reason(Kind.TOPIC, "orders", "Ready")
                stage.apply("Cluster", "others", {"external": {"bootstrapServers": ["kafka:9092"]}})
                await stage.reason(Kind.CLUSTER, "others", "Ready")
        finally:
            go_on.set()

    observing(test)


def test_the_topics_of_an_external_cluster_are_exported_as_kafka_exporter_does() -> None:
    async def test(stage: Stage) -> None:
        at = TopicPartition("orders", 1)
        stage.kafka.logs = (LogView(at, PartitionView(1, None, (1, 2), (2,)), 4, None),)
        stage.apply("Cluster", "theirs", {"external": {"bootstrapServers": ["kafka:9092"]}})
        await stage.until(lambda: Scrape(stage).of("kafka_topic_partitions"), "topics")
        found = Scrape(stage)
        where = {"namespace": "paper", "cluster": "theirs", "topic": "orders", "partition": "1"}
        values = {
            name: found.value(f"kafka_topic_partition_{name}", **where)
            for name in ("oldest_offset", "current_offset", "leader", "in_sync_replica", "under_replicated_partition")
        }
        assert values == {
            "oldest_offset": 4,
            "current_offset": None,
            "leader": -1,
            "in_sync_replica": 1,
            "under_replicated_partition": 1,
        }

    observing(test)


@pytest.mark.parametrize("names", ["kminion", "both"])
def test_groups_have_the_names_of_kminion_if_asked_for(names: str) -> None:
    async def test(stage: Stage) -> None:
        at, other = TopicPartition("orders", 0), TopicPartition("orders", 1)
        members = (MemberView("m", "c", "h", None, (at, other)), MemberView("n", "c", "h", None, ()))
        stage.kafka.groups["g"] = GroupView(
            "g", True, "Stable", members, {at: 7}, {at: 0, other: 0}, {at: 10, other: 5}
        )
        await stage.until(lambda: Scrape(stage).of("kminion_kafka_consumer_group_info"), "the group")
        scrape, group = Scrape(stage), {**NEWS, "group_id": "g"}
        prefix = "kminion_kafka_consumer_group_"
        topic = {**group, "topic_name": "orders"}
        assert scrape.of(f"{prefix}topic_partition_lag") == {frozenset({**topic, "partition_id": "0"}.items()): 3}, (
            "KMinion has no lag without a commit"
        )
        assert scrape.value(f"{prefix}info", **group, state="Stable") == 1
        for name, labels, value in (
            ("members", group, 2),
            ("empty_members", group, 1),
            ("topic_members", topic, 1),
            ("topic_assigned_partitions", topic, 2),
            ("topic_lag", topic, 3),
            ("topic_offset_sum", topic, 7),
        ):
            assert scrape.value(prefix + name, **labels) == value
        assert bool(scrape.of("kafka_consumergroup_lag")) == (names == "both")

    observing(test, replace(SOON, lag_names=names))


def test_a_group_that_commits_nothing_has_no_lag_in_seconds() -> None:
    """Workers of Connect form groups, too."""

    async def test(stage: Stage) -> None:
        stage.kafka.groups["connect"] = GroupView("connect", True, "Stable", (MemberView("m", "c", "h", None, ()),))
        await stage.until(lambda: groups_in(stage) == {"connect"}, "the group")
        assert not Scrape(stage).of("kafka_consumergroup_group_max_lag_seconds")

    observing(test)


@pytest.mark.parametrize(("committed", "age"), [({}, None), ({TopicPartition("orders", 0): 10}, 0)])
def test_a_group_that_commits_nothing_is_not_said_to_be_up_to_date(
    committed: dict[TopicPartition, int], age: int | None
) -> None:
    """Its members may read all records or none: what has not been committed has no age, and zero would be one."""
    ends = {TopicPartition("orders", index): 10 for index in range(2)}
    text = LagText()
    text.add_group(ResourceKey("paper", "news"), GroupView("readers", True, "Stable", (), committed, {}, ends), 0)
    found = [line for line in text.text().splitlines() if line.startswith("kafka_consumergroup_group_max_lag_seconds{")]
    assert [int(line.rpartition(" ")[2]) for line in found] == ([] if age is None else [age])
