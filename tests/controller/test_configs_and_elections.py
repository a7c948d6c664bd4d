"""Configurations, elections, reassignments, registration and features: planned over plain images."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from broadsheet_broker.controller.brokers import (
    Registration,
    check_features,
    fence_broker,
    register_broker,
    unfence_broker,
)
from broadsheet_broker.controller.configs import alter_configs, incremental_alter_configs
from broadsheet_broker.controller.elections import PREFERRED, UNCLEAN, elect_leaders
from broadsheet_broker.controller.features import update_features
from broadsheet_broker.controller.partition_change import Defaults
from broadsheet_broker.controller.reassignments import alter_reassignments, list_reassignments
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import ClusterImage, Endpoint
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import alter_configs_request as legacy
from broadsheet_broker.wire.messages import elect_leaders_request as elect
from broadsheet_broker.wire.messages.alter_partition_reassignments_request import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from broadsheet_broker.wire.messages.list_partition_reassignments_request import ListPartitionReassignmentsRequest
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from tests.controller.test_topic_planning import cluster, context, manual, topic, with_topics

SET, DELETE, APPEND, SUBTRACT = range(4)
TOPIC, BROKER = 2, 4


def change(image: ClusterImage, type: int, name: str, *changes: tuple[str, int, str | None]) -> tuple[Any, list[Any]]:
    rows = [AlterableConfig(name=key, config_operation=operation, value=value) for key, operation, value in changes]
    resource = AlterConfigsResource(resource_type=type, resource_name=name, configs=rows)
    plan = incremental_alter_configs(context(image), IncrementalAlterConfigsRequest(resources=[resource]))
    return plan.answer.responses[0], plan.records


def image_with(*records: Any) -> ClusterImage:
    return MetadataDelta(with_topics(cluster(), topic("orders"))).replay_all(records).apply(50, 1, 1)


def test_values_are_set_and_go_back_to_their_defaults() -> None:
    answer, records = change(image_with(), TOPIC, "orders", ("retention.ms", SET, "5"), ("segment.ms", SET, "7"))
    assert answer.error_code == 0 and answer.error_message is None
    image = image_with(*records)
    assert image.config(TOPIC, "orders") == {"retention.ms": "5", "segment.ms": "7"}
    _, records = change(image, TOPIC, "orders", ("retention.ms", DELETE, None), ("segment.ms", SET, "7"))
    assert [(r.name, r.value) for r in records] == [("retention.ms", None)], "what stays the same is not written"


def test_lists_grow_and_shrink_from_their_default() -> None:
    _, records = change(image_with(), TOPIC, "orders", ("cleanup.policy", APPEND, "compact"))
    assert records[0].value == "delete,compact"
    _, records = change(image_with(*records), TOPIC, "orders", ("cleanup.policy", SUBTRACT, "delete"))
    assert records[0].value == "compact"


@pytest.mark.parametrize(
    ("type", "name", "changes", "code", "message"),
    [
        (TOPIC, "orders", [("retention.ms", SET, "x")], ErrorCode.INVALID_CONFIG, "Invalid value x for configuration"),
        (TOPIC, "orders", [("nonsense", SET, "x")], ErrorCode.INVALID_CONFIG, "Unknown topic config name: nonsense"),
        (TOPIC, "orders", [("retention.ms", APPEND, "1")], ErrorCode.INVALID_CONFIG, "its type is not LIST"),
        (TOPIC, "orders", [("retention.ms", SET, None)], ErrorCode.INVALID_REQUEST, "Null value not supported"),
        (TOPIC, "orders", [("a", SET, "1"), ("a", SET, "2")], ErrorCode.INVALID_CONFIG, "duplicate config keys"),
        (TOPIC, "nothing", [("retention.ms", SET, "1")], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "does not exist"),
        (TOPIC, "", [("retention.ms", SET, "1")], ErrorCode.INVALID_REQUEST, "Default topic resources are not"),
        (BROKER, "1", [("broker.rack", SET, "r")], ErrorCode.INVALID_REQUEST, "Cannot update these configs dynamic"),
        (BROKER, "1", [("nonsense", SET, "r")], ErrorCode.INVALID_REQUEST, "Unknown broker config name: nonsense"),
        (BROKER, "1", [("log.retention.ms", SET, "r")], ErrorCode.INVALID_REQUEST, "Invalid value r"),
        (BROKER, "9", [("log.retention.ms", SET, "1")], ErrorCode.BROKER_ID_NOT_REGISTERED, "No broker with id 9"),
        (BROKER, "x", [("log.retention.ms", SET, "1")], ErrorCode.INVALID_REQUEST, "as a base 10 number"),
        (BROKER, "--1", [("log.retention.ms", SET, "1")], ErrorCode.INVALID_REQUEST, "as a base 10 number"),
        (BROKER, "9" * 5000, [("log.retention.ms", SET, "1")], ErrorCode.INVALID_REQUEST, "as a base 10 number"),
        (16, "m", [("interval.ms", SET, "1")], ErrorCode.INVALID_REQUEST, "type CLIENT_METRICS are not supported"),
        (99, "m", [("interval.ms", SET, "1")], ErrorCode.INVALID_REQUEST, "Unknown resource type 99"),
    ],
)
def test_refused_configurations(
    type: int, name: str, changes: list[tuple[str, int, str | None]], code: ErrorCode, message: str
) -> None:
    answer, records = change(image_with(), type, name, *changes)
    assert answer.error_code == code and message in answer.error_message and not records


def test_alter_configs_replaces_everything() -> None:
    image = image_with(
        ConfigRecord(resource_type=TOPIC, resource_name="orders", name="retention.ms", value="5"),
        ConfigRecord(resource_type=TOPIC, resource_name="orders", name="segment.ms", value="7"),
    )
    row = legacy.AlterableConfig(name="segment.ms", value="8")
    resource = legacy.AlterConfigsResource(resource_type=TOPIC, resource_name="orders", configs=[row])
    plan = alter_configs(context(image), legacy.AlterConfigsRequest(resources=[resource]))
    assert {(r.name, r.value) for r in plan.records} == {("retention.ms", None), ("segment.ms", "8")}


def three(*, isr: list[int], leader: int, fenced: tuple[int, ...] = ()) -> ClusterImage:
    base = with_topics(cluster(3), manual((0, [1, 2, 3])))
    topic_id = base.topics_by_name["orders"].id
    records: list[Any] = [PartitionChangeRecord(partition_id=0, topic_id=topic_id, isr=isr, leader=leader)]
    image = MetadataDelta(base).replay_all(records).apply(60, 1, 1)
    for broker in fenced:
        image = MetadataDelta(image).replay_all(fence_broker(image, broker)).apply(61, 1, 1)
    return image


def election(image: ClusterImage, kind: int) -> tuple[int, list[Any]]:
    rows = [elect.TopicPartitions(topic="orders", partitions=[0])]
    plan = elect_leaders(image, elect.ElectLeadersRequest(election_type=kind, topic_partitions=rows))
    return plan.answer.replica_election_results[0].partition_result[0].error_code, plan.records


def test_elections() -> None:
    assert election(three(isr=[1, 2, 3], leader=1), PREFERRED) == (ErrorCode.ELECTION_NOT_NEEDED, [])
    code, records = election(three(isr=[1, 2, 3], leader=2), PREFERRED)
    assert code == 0 and records[0].leader == 1
    code, _ = election(three(isr=[2, 3], leader=2), PREFERRED)
    assert code == ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    assert election(three(isr=[2], leader=2), UNCLEAN) == (ErrorCode.ELECTION_NOT_NEEDED, [])
    code, records = election(three(isr=[2], leader=2, fenced=(2,)), UNCLEAN)
    assert (code, records[0].leader, records[0].isr, records[0].leader_recovery_state) == (0, 1, [1], 1)


def test_an_election_of_everything_tells_of_changes_only() -> None:
    plan = elect_leaders(
        with_topics(cluster(), topic("orders")), elect.ElectLeadersRequest(election_type=0, topic_partitions=None)
    )
    assert [row.partition_result for row in plan.answer.replica_election_results] == [[]]
    with pytest.raises(KafkaError, match="Unknown election type 7"):
        elect_leaders(cluster(), elect.ElectLeadersRequest(election_type=7))


def test_a_fenced_broker_leaves_the_isr_unless_it_is_the_last() -> None:
    image = three(isr=[1, 2, 3], leader=1, fenced=(1,))
    assert image.topics_by_name["orders"].partitions[0].isr == (2, 3)
    assert image.topics_by_name["orders"].partitions[0].leader == 2
    image = three(isr=[1], leader=1, fenced=(1,))
    assert image.topics_by_name["orders"].partitions[0].isr == (1,)
    assert image.topics_by_name["orders"].partitions[0].leader == -1
    image = MetadataDelta(image).replay_all(unfence_broker(image, 1)).apply(62, 1, 1)
    assert image.topics_by_name["orders"].partitions[0].leader == 1


def test_a_new_life_of_a_broker_gives_up_what_the_former_led() -> None:
    image = with_topics(cluster(), topic("orders", partitions=1))
    registration = Registration(1, uuid.UUID(int=50), {"PLAINTEXT": Endpoint("h", 1)}, (uuid.UUID(int=900),))
    image = MetadataDelta(image).replay_all(register_broker(image, registration, 77)).apply(77, 1, 1)
    assert image.brokers[1].fenced and image.brokers[1].epoch == 77
    assert image.topics_by_name["orders"].partitions[0].leader == -1
    image = MetadataDelta(image).replay_all(unfence_broker(image, 1)).apply(78, 1, 1)
    partition = image.topics_by_name["orders"].partitions[0]
    assert (partition.leader, partition.leader_epoch) == (1, 2)
    other = Registration(2, uuid.UUID(int=51), {}, (uuid.UUID(int=900),))
    with pytest.raises(KafkaError, match="Broker 1 is already registered with directory"):
        register_broker(image, other, 80)


def reassign(image: ClusterImage, replicas: list[int] | None, name: str = "orders") -> tuple[Any, list[Any]]:
    rows = [ReassignablePartition(partition_index=0, replicas=replicas)]
    request = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name=name, partitions=rows)])
    plan = alter_reassignments(context(image), request)
    return plan.answer.responses[0].partitions[0], plan.records


def test_reassignments_on_one_node() -> None:
    image = with_topics(cluster(), topic("orders"))
    assert reassign(image, None)[0].error_code == ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
    assert reassign(image, [1]) == (reassign(image, [1])[0], []) and reassign(image, [1])[0].error_code == 0
    assert reassign(image, [2])[0].error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert reassign(image, [1], "nothing")[0].error_message == "Unable to find a topic named nothing."
    assert list_reassignments(image, ListPartitionReassignmentsRequest()).topics == []


def test_reassignments_may_change_the_order_of_preference() -> None:
    answer, (record,) = reassign(three(isr=[1, 2, 3], leader=1), [3, 1, 2])
    assert answer.error_code == 0 and record.replicas == [3, 1, 2]


def feature(image: ClusterImage, name: str, level: int, kind: int = 1) -> Any:
    row = FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=kind)
    return update_features(image, UpdateFeaturesRequest(feature_updates=[row]), 2, Defaults()).answer


def test_features_that_are_not_built_are_refused() -> None:
    image = ClusterImage(features={"metadata.version": 29})
    assert feature(image, "metadata.version", 30).error_code == 0
    assert feature(image, "metadata.version", 31).error_code == ErrorCode.INVALID_UPDATE_VERSION
    assert feature(image, "metadata.version", 20, 2).error_code == ErrorCode.INVALID_UPDATE_VERSION
    answer = feature(image, "transaction.version", 2)
    assert "This node supports levels 0 to 0 of it" in answer.error_message


def test_a_cluster_at_an_unknown_level_is_refused() -> None:
    check_features(ClusterImage(features={"metadata.version": 30, "transaction.version": 2, "group.version": 1}))
    with pytest.raises(KafkaError, match=r"level 31 of feature metadata\.version, and this build supports 7 to 30"):
        check_features(ClusterImage(features={"metadata.version": 31}))
    with pytest.raises(KafkaError, match=r"feature new\.thing"):
        check_features(ClusterImage(features={"new.thing": 1}))


@pytest.mark.parametrize(
    ("elr", "last", "recovering"),
    [([1], [1], 0), ([1], [], 0), ([], [1], 1)],
)
def test_a_directory_of_kafka_with_eligible_leader_replicas_gets_its_leaders_back(
    elr: list[int], last: list[int], recovering: int
) -> None:
    image = with_topics(cluster(), topic("orders", partitions=1))
    gone = PartitionChangeRecord(
        partition_id=0,
        topic_id=image.topics_by_name["orders"].id,
        isr=[],
        leader=-1,
        eligible_leader_replicas=elr,
        last_known_elr=last,
    )
    image = MetadataDelta(image).replay_all([gone, *fence_broker(image, 1)[-1:]]).apply(60, 1, 1)
    image = MetadataDelta(image).replay_all(unfence_broker(image, 1)).apply(61, 1, 1)
    found = image.topics_by_name["orders"].partitions[0]
    assert (found.leader, found.isr, found.elr, found.last_known_elr) == (1, (1,), (), ())
    assert found.leader_recovery_state == recovering
