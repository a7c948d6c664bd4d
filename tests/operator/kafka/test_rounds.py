"""Rounds: observe, plan, apply, observe again, against a cluster in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.topic import Topic
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kafka.rounds import Histories, reconcile_groups, reconcile_topics
from broadsheet_operator.reconcilers.consumer_group import CommitOffsets, DeleteGroup, GroupAction
from broadsheet_operator.reconcilers.observed import (
    BrokerView,
    ClusterHealth,
    ClusterView,
    ConfigView,
    Failure,
    GroupQuery,
    GroupView,
    PartitionView,
    TopicPartition,
    TopicView,
)
from broadsheet_operator.reconcilers.topic_actions import (
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    DeleteTopic,
    TopicAction,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryKafka:
    """A KafkaGateway without a Kafka. It counts what it is asked."""

    def __init__(self) -> None:
        self.topics: dict[str, TopicView] = {}
        self.groups: dict[str, dict[TopicPartition, int]] = {}
        self.refuse: dict[str, Failure] = {}
        self.calls: list[str] = []
        self.made = 0

    def observe_cluster(self) -> ClusterView | Failure:
        self.calls.append("cluster")
        return ClusterView("id", 0, (BrokerView(0),))

    def observe_health(self) -> ClusterHealth | Failure:
        return ClusterHealth(len(self.topics), 0, 0, {}, {})

    def observe_topics(self, names: Sequence[str]) -> dict[str, TopicView | Failure | None]:
        self.calls.append("topics")
        return {name: self.topics.get(name) for name in names}

    def observe_groups(self, queries: Mapping[str, GroupQuery]) -> dict[str, GroupView | Failure]:
        self.calls.append("groups")
        return {g: self._group(g) for g in queries}

    def _group(self, group: str) -> GroupView:
        offsets = self.groups.get(group)
        if offsets is None:
            return GroupView(group, False, "Dead")
        return GroupView(
            group,
            True,
            "Empty",
            committed=dict(offsets),
            starts=dict.fromkeys(offsets, 0),
            ends=dict.fromkeys(offsets, 9),
        )

    def apply_topics(self, actions: Sequence[TopicAction]) -> list[Failure | None]:
        self.calls.append("apply")
        return [self.refuse.get(a.name) or self._apply(a) for a in actions]

    def _apply(self, action: TopicAction) -> None:
        old = self.topics.get(action.name)
        match action:
            case CreateTopic(name, partitions, _, configs):
                self.made += 1
                self.topics[name] = self._topic(name, f"id-{self.made}", partitions or 1, dict(configs))
            case AddPartitions(name, count):
                assert old is not None
                self.topics[name] = self._topic(
                    name, old.topic_id, count, {k: str(v.value) for k, v in old.configs.items()}
                )
            case AlterConfigs(name, changes, resets):
                assert old is not None
                configs = {k: str(v.value) for k, v in old.configs.items() if k not in resets} | dict(changes)
                self.topics[name] = self._topic(name, old.topic_id, len(old.partitions), configs)
            case DeleteTopic(name):
                del self.topics[name]

    def _topic(self, name: str, topic_id: str, count: int, configs: dict[str, str]) -> TopicView:
        partitions = tuple(PartitionView(i, 0, (0,), (0,)) for i in range(count))
        return TopicView(name, topic_id, partitions, {k: ConfigView(v, True) for k, v in configs.items()})

    def apply_groups(self, actions: Sequence[GroupAction]) -> list[Failure | None]:
        for action in actions:
            if isinstance(action, CommitOffsets):
                self.groups[action.group_id] |= dict(action.offsets)
            elif isinstance(action, DeleteGroup):
                del self.groups[action.group_id]
        return [None] * len(actions)

    def list_topics(self) -> list[str] | Failure:
        return sorted(self.topics)

    def close(self) -> None:
        return


def topic(name: str, spec: dict[str, Any], **more: Any) -> Topic:
    return Topic.model_validate({"metadata": {"name": name, **more}, "spec": {"cluster": "q", **spec}})


def test_a_thousand_topics_take_a_few_calls_and_a_second_look_writes_nothing() -> None:
    kafka = MemoryKafka()
    gateway: KafkaGateway = kafka
    topics = [topic(f"t{i}", {"partitions": 2, "config": {"segment.bytes": 1000}}) for i in range(1000)]
    first = reconcile_topics(gateway, topics, {}, lambda: NOW)
    assert kafka.calls == ["cluster", "topics", "apply", "cluster", "topics"]
    assert all(o.status.conditions[0].status == "True" for o in first.values())
    assert first["", "t7"].done == ("create with 2 partitions",)
    kafka.calls.clear()
    known = [t.model_copy(update={"status": first["", t.metadata.name].status}) for t in topics]
    second = reconcile_topics(gateway, known, {}, lambda: NOW)
    assert kafka.calls == ["cluster", "topics"]
    assert all(second[k].status == first[k].status for k in first)


def test_one_refusal_among_many_spoils_only_its_own_topic() -> None:
    kafka = MemoryKafka()
    kafka.refuse["b"] = Failure("InvalidConfig", "create b: no", retriable=False)
    outcomes = reconcile_topics(kafka, [topic("a", {}), topic("b", {}), topic("c", {})], {}, lambda: NOW)
    reasons = {name: o.status.conditions[0].reason for (_, name), o in outcomes.items()}
    assert reasons == {"a": "Ready", "b": "InvalidConfig", "c": "Ready"}


def test_a_topic_made_by_this_round_is_never_asked_to_be_adopted() -> None:
    outcome = reconcile_topics(MemoryKafka(), [topic("a", {"adoption": "Never"})], {}, lambda: NOW)["", "a"]
    assert outcome.status.conditions[0].reason == "Ready"


def test_a_deleted_topic_is_let_go_in_the_same_round() -> None:
    kafka = MemoryKafka()
    made = topic("a", {"deletionPolicy": "Delete"})
    made = made.model_copy(update={"status": reconcile_topics(kafka, [made], {}, lambda: NOW)["", "a"].status})
    going = made.model_copy(
        update={"metadata": made.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})}
    )
    outcome = reconcile_topics(kafka, [going], {}, lambda: NOW)["", "a"]
    assert (outcome.release, kafka.topics) == (True, {})


def test_a_reset_is_done_in_one_round_and_not_again() -> None:
    kafka = MemoryKafka()
    at = TopicPartition("orders", 0)
    kafka.groups["g"] = {at: 5}
    histories = Histories()
    without = ConsumerGroup.model_validate({"metadata": {"name": "g"}, "spec": {"cluster": "q"}})
    before = reconcile_groups(kafka, [without], {}, histories, lambda: NOW)["", "g"].status
    manifest = {"metadata": {"name": "g"}, "spec": {"cluster": "q", "reset": {"to": "earliest"}}}
    group = ConsumerGroup.model_validate(manifest).model_copy(update={"status": before})
    outcome = reconcile_groups(kafka, [group], {}, histories, lambda: NOW)["", "g"]
    assert kafka.groups["g"] == {at: 0}
    assert outcome.status.conditions[0].reason == "Ready"
    kafka.groups["g"] = {at: 7}
    again = group.model_copy(update={"status": outcome.status})
    later = reconcile_groups(kafka, [again], {}, histories, lambda: NOW)["", "g"]
    assert (kafka.groups["g"], later.done) == ({at: 7}, ())


def test_resource_that_is_deleted_and_applied_again_does_not_repeat_its_reset() -> None:
    kafka = MemoryKafka()
    at = TopicPartition("orders", 0)
    kafka.groups["g"] = {at: 7}
    manifest = {"metadata": {"name": "g"}, "spec": {"cluster": "q", "reset": {"to": "earliest"}}}
    anew, histories = ConsumerGroup.model_validate(manifest), Histories()
    for _ in range(3):
        outcome = reconcile_groups(kafka, [anew], {}, histories, lambda: NOW)["", "g"]
        assert (kafka.groups["g"], outcome.done) == ({at: 7}, ())
        assert outcome.status.conditions[0].status == "True"
        anew = anew.model_copy(update={"status": outcome.status})


def test_a_reset_is_not_taken_for_a_rewind() -> None:
    kafka = MemoryKafka()
    at = TopicPartition("orders", 0)
    kafka.groups["g"] = {at: 9}
    group, histories = ConsumerGroup.model_validate({"metadata": {"name": "g"}, "spec": {"cluster": "q"}}), Histories()
    before = reconcile_groups(kafka, [group], {}, histories, lambda: NOW)["", "g"].status
    wanted = ConsumerGroup.model_validate(
        {"metadata": {"name": "g"}, "spec": {"cluster": "q", "reset": {"to": "earliest"}}}
    ).model_copy(update={"status": before})
    verdict: Any = reconcile_groups(kafka, [wanted], {}, histories, lambda: NOW)["", "g"].status
    assert verdict.verdict == "Stopped"
