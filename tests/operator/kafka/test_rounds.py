"""Rounds: observe, plan, apply, observe again, against a cluster in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.topic import Topic
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kafka.rounds import Histories, Task, reconcile_groups, reconcile_topics
from broadsheet_operator.reconcilers.observed import (
    Failure,
    TopicPartition,
)
from tests.support.fake_kafka import FakeKafka

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def topic(name: str, spec: dict[str, Any], **more: Any) -> Topic:
    return Topic.model_validate({"metadata": {"name": name, **more}, "spec": {"cluster": "q", **spec}})


def task(resources: Sequence[Any], histories: Histories | None = None) -> Task:
    return Task(resources=resources, clock=lambda: NOW, histories=histories or Histories())


def test_a_thousand_topics_take_a_few_calls_and_a_second_look_writes_nothing() -> None:
    kafka = FakeKafka()
    gateway: KafkaGateway = kafka
    topics = [topic(f"t{i}", {"partitions": 2, "config": {"segment.bytes": 1000}}) for i in range(1000)]
    first = reconcile_topics(gateway, task(topics))
    assert kafka.calls == ["cluster", "topics", "apply", "cluster", "topics"]
    assert all(o.status.conditions[0].status == "True" for o in first.values())
    assert first["", "t7"].done == ("create with 2 partitions",)
    kafka.calls.clear()
    known = [t.model_copy(update={"status": first["", t.metadata.name].status}) for t in topics]
    second = reconcile_topics(gateway, task(known))
    assert kafka.calls == ["cluster", "topics"]
    assert all(second[k].status == first[k].status for k in first)


def test_one_refusal_among_many_spoils_only_its_own_topic() -> None:
    kafka = FakeKafka()
    kafka.refuses["b"] = Failure("InvalidConfig", "create b: no", retriable=False)
    outcomes = reconcile_topics(kafka, task([topic("a", {}), topic("b", {}), topic("c", {})]))
    reasons = {name: o.status.conditions[0].reason for (_, name), o in outcomes.items()}
    assert reasons == {"a": "Ready", "b": "InvalidConfig", "c": "Ready"}


def test_a_topic_made_by_this_round_is_never_asked_to_be_adopted() -> None:
    outcome = reconcile_topics(FakeKafka(), task([topic("a", {"adoption": "Never"})]))["", "a"]
    assert outcome.status.conditions[0].reason == "Ready"


def test_a_deleted_topic_is_let_go_in_the_same_round() -> None:
    kafka = FakeKafka()
    made = topic("a", {"deletionPolicy": "Delete"})
    made = made.model_copy(update={"status": reconcile_topics(kafka, task([made]))["", "a"].status})
    going = made.model_copy(
        update={"metadata": made.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})}
    )
    outcome = reconcile_topics(kafka, task([going]))["", "a"]
    assert (outcome.release, kafka.topics) == (True, {})


def test_a_reset_is_done_in_one_round_and_not_again() -> None:
    kafka = FakeKafka()
    at = TopicPartition("orders", 0)
    kafka.put_group("g", {at: 5}, 9)
    histories = Histories()
    without = ConsumerGroup.model_validate({"metadata": {"name": "g"}, "spec": {"cluster": "q"}})
    before = reconcile_groups(kafka, task([without], histories))["", "g"].status
    manifest = {"metadata": {"name": "g"}, "spec": {"cluster": "q", "reset": {"to": "earliest"}}}
    group = ConsumerGroup.model_validate(manifest).model_copy(update={"status": before})
    outcome = reconcile_groups(kafka, task([group], histories))["", "g"]
    assert kafka.groups["g"].committed == {at: 0}
    assert outcome.status.conditions[0].reason == "Ready"
    kafka.put_group("g", {at: 7}, 9)
    again = group.model_copy(update={"status": outcome.status})
    later = reconcile_groups(kafka, task([again], histories))["", "g"]
    assert (kafka.groups["g"].committed, later.done) == ({at: 7}, ())


def test_resource_that_is_deleted_and_applied_again_does_not_repeat_its_reset() -> None:
    kafka = FakeKafka()
    at = TopicPartition("orders", 0)
    kafka.put_group("g", {at: 7}, 9)
    manifest = {"metadata": {"name": "g"}, "spec": {"cluster": "q", "reset": {"to": "earliest"}}}
    anew, histories = ConsumerGroup.model_validate(manifest), Histories()
    for _ in range(3):
        outcome = reconcile_groups(kafka, task([anew], histories))["", "g"]
        assert (kafka.groups["g"].committed, outcome.done) == ({at: 7}, ())
        assert outcome.status.conditions[0].status == "True"
        anew = anew.model_copy(update={"status": outcome.status})


def test_a_reset_is_not_taken_for_a_rewind() -> None:
    kafka = FakeKafka()
    at = TopicPartition("orders", 0)
    kafka.put_group("g", {at: 9}, 9)
    group, histories = ConsumerGroup.model_validate({"metadata": {"name": "g"}, "spec": {"cluster": "q"}}), Histories()
    before = reconcile_groups(kafka, task([group], histories))["", "g"].status
    wanted = ConsumerGroup.model_validate(
        {"metadata": {"name": "g"}, "spec": {"cluster": "q", "reset": {"to": "earliest"}}}
    ).model_copy(update={"status": before})
    verdict: Any = reconcile_groups(kafka, task([wanted], histories))["", "g"].status
    assert verdict.verdict == "Stopped"
