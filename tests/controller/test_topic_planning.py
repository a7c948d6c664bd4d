"""Creating, deleting and growing topics: what is planned, and what is refused with which words."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.config import validate_topic_configs
from broadsheet_broker.controller.names import NameIndex, name_problem
from broadsheet_broker.controller.placement import ReplicaPlacer, UsableBroker
from broadsheet_broker.controller.plan import Context
from broadsheet_broker.controller.topics import create_partitions, create_topics, delete_topics
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import BrokerInfo, ClusterImage, Endpoint
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.create_partitions_request import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from broadsheet_broker.wire.messages.create_topics_request import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from broadsheet_broker.wire.messages.partition_record import PartitionRecord

DIRECTORY = uuid.UUID(int=900)


def cluster(brokers: int = 1, *, fenced: tuple[int, ...] = (), racks: dict[int, str] | None = None) -> ClusterImage:
    return ClusterImage(
        brokers={
            id: BrokerInfo(
                id=id,
                epoch=1,
                incarnation_id=uuid.UUID(int=id),
                endpoints={"PLAINTEXT": Endpoint("h", 9092)},
                rack=(racks or {}).get(id),
                fenced=id in fenced,
                log_dirs=(DIRECTORY,),
                cordoned_log_dirs=(),
            )
            for id in range(1, brokers + 1)
        }
    )


def context(image: ClusterImage) -> Context:
    source = random.Random(3)
    return Context(
        image=image,
        random=source,
        new_id=lambda: uuid.UUID(int=source.getrandbits(128), version=4),
        num_partitions=2,
        replication_factor=1,
        validate_topic_config=validate_topic_configs,
        colliding=NameIndex(image.topics_by_name).colliding,
        directory_of=lambda broker: DIRECTORY,
    )


def topic(name: str = "orders", partitions: int = -1, factor: int = -1, **more: Any) -> CreatableTopic:
    return CreatableTopic(name=name, num_partitions=partitions, replication_factor=factor, **more)


def manual(*assignments: tuple[int, list[int]], **more: Any) -> CreatableTopic:
    rows = [CreatableReplicaAssignment(partition_index=index, broker_ids=ids) for index, ids in assignments]
    return topic(assignments=rows, **more)


def with_topics(image: ClusterImage, *topics: CreatableTopic) -> ClusterImage:
    plan = create_topics(context(image), CreateTopicsRequest(topics=list(topics)))
    assert [result.error_code for result in plan.answer.topics] == [0] * len(topics)
    return MetadataDelta(image).replay_all(plan.records).apply(10, 1, 1)


def test_defaults_of_the_broker_fill_in_what_the_request_leaves_open() -> None:
    plan = create_topics(context(cluster()), CreateTopicsRequest(topics=[topic()]))
    (result,) = plan.answer.topics
    assert (result.error_code, result.num_partitions, result.replication_factor) == (0, 2, 1)
    partitions = [record for record in plan.records if isinstance(record, PartitionRecord)]
    assert [(p.partition_id, p.replicas, p.isr, p.leader, p.leader_epoch) for p in partitions] == [
        (0, [1], [1], 1, 0),
        (1, [1], [1], 1, 0),
    ]
    assert all(p.directories == [DIRECTORY] for p in partitions)


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        (topic(""), ErrorCode.INVALID_TOPIC_EXCEPTION, "the empty string is not allowed"),
        (topic("."), ErrorCode.INVALID_TOPIC_EXCEPTION, "'.' is not allowed"),
        (topic("a/b"), ErrorCode.INVALID_TOPIC_EXCEPTION, "characters other than ASCII alphanumerics, '.', '_' and"),
        (topic("x" * 250), ErrorCode.INVALID_TOPIC_EXCEPTION, "is longer than the max allowed length 249"),
        (topic("__cluster_metadata"), ErrorCode.INVALID_REQUEST, "internal topic __cluster_metadata is prohibited"),
        (topic("taken"), ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'taken' already exists."),
        (topic("my.topic"), ErrorCode.INVALID_TOPIC_EXCEPTION, "'my.topic' collides with existing topic: my_topic"),
        (topic(partitions=0), ErrorCode.INVALID_PARTITIONS, "set to an invalid non-positive value"),
        (topic(factor=0), ErrorCode.INVALID_REPLICATION_FACTOR, "must be larger than 0, or -1 to use the default"),
        (topic(factor=3), ErrorCode.INVALID_REPLICATION_FACTOR, "target replication factor of 3 cannot be reached"),
        (topic(partitions=10_001), ErrorCode.POLICY_VIOLATION, "10001 partitions, and 10000 are allowed"),
        (
            topic(configs=[CreatableTopicConfig(name="retention.ms", value="soon")]),
            ErrorCode.INVALID_CONFIG,
            "Invalid value soon for configuration retention.ms",
        ),
        (
            topic(configs=[CreatableTopicConfig(name="retention.ms", value=None)]),
            ErrorCode.INVALID_CONFIG,
            "Null value not supported for topic configs: retention.ms",
        ),
        (
            topic(configs=[CreatableTopicConfig(name="retention.sm", value="1")]),
            ErrorCode.INVALID_CONFIG,
            "Unknown topic config name: retention.sm",
        ),
        (manual((0, [1]), partitions=1), ErrorCode.INVALID_REQUEST, "numPartitions was not set to -1"),
        (manual((0, [1]), factor=1), ErrorCode.INVALID_REQUEST, "replication factor was not set to -1"),
        (manual((0, [])), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "includes an empty replica list"),
        (manual((0, [4])), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "broker 4, but no such broker is registered"),
        (manual((0, [1, 1])), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "the broker 1 more than once"),
        (manual((1, [1])), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "consecutive 0-based integer sequence"),
        (manual((0, [1]), (0, [1])), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "multiple manual partition assignments"),
        (manual((0, [1]), (1, [1, 2])), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not consistent with previous"),
        (manual((0, [2])), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partition 0 are fenced or in controlled shutdown"),
    ],
)
def test_refusals(wanted: CreatableTopic, code: ErrorCode, message: str) -> None:
    image = with_topics(cluster(2, fenced=(2,)), topic("taken"), topic("my_topic"))
    plan = create_topics(context(image), CreateTopicsRequest(topics=[wanted]))
    (result,) = plan.answer.topics
    assert (ErrorCode(result.error_code), plan.records) == (code, [])  # type: ignore[call-arg]
    assert message in (result.error_message or "")


def test_one_refused_topic_does_not_hold_up_the_others() -> None:
    request = CreateTopicsRequest(topics=[topic("good"), topic("bad name"), topic("twice"), topic("twice")])
    plan = create_topics(context(cluster()), request)
    codes = {result.name: result.error_code for result in plan.answer.topics}
    assert codes == {"good": 0, "bad name": ErrorCode.INVALID_TOPIC_EXCEPTION, "twice": ErrorCode.INVALID_REQUEST}


def test_validate_only_changes_nothing() -> None:
    plan = create_topics(context(cluster()), CreateTopicsRequest(topics=[topic()], validate_only=True))
    assert plan.answer.topics[0].error_code == 0 and plan.records == []


def test_fenced_brokers_follow_but_do_not_lead() -> None:
    image = with_topics(cluster(3, fenced=(2,)), topic(partitions=20, factor=3))
    for partition in image.topics_by_name["orders"].partitions:
        assert set(partition.replicas) == {1, 2, 3}
        assert partition.leader != 2 and 2 not in partition.isr


def test_without_an_active_broker_nothing_can_be_created() -> None:
    plan = create_topics(context(cluster(1, fenced=(1,))), CreateTopicsRequest(topics=[topic()]))
    assert "All brokers are currently fenced" in (plan.answer.topics[0].error_message or "")


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 60), st.integers())
def test_placement_spreads_over_racks_and_brokers(brokers: int, racks: int, partitions: int, seed: int) -> None:
    usable = [UsableBroker(id, f"rack-{id % racks}", False) for id in range(brokers)]
    count = min(brokers, racks)
    factor = count
    placed = ReplicaPlacer(usable, seed).place(partitions, factor)
    assert len(placed) == partitions
    leaders: dict[int, int] = {}
    for replicas in placed:
        assert len(set(replicas)) == factor
        assert len({id % racks for id in replicas}) == factor, "each rack holds one replica before any holds two"
        leaders[replicas[0]] = leaders.get(replicas[0], 0) + 1
    assert max(leaders.values()) <= -(-partitions // brokers), f"leaders pile up: {leaders}"


def test_a_small_rack_leads_no_more_than_its_share() -> None:
    usable = [UsableBroker(id, "a" if id == 1 else "b", False) for id in range(1, 5)]
    placed = ReplicaPlacer(usable).place(40, 2)
    assert Counter(replicas[0] for replicas in placed) == dict.fromkeys((1, 2, 3, 4), 10)
    assert all(1 in replicas for replicas in placed), "rack a has one broker, and each partition has a replica there"


def test_what_a_lost_broker_led_goes_to_all_the_others() -> None:
    placed = ReplicaPlacer([UsableBroker(id, None, False) for id in range(1, 6)]).place(100, 3)
    heirs = Counter(replicas[1] for replicas in placed if replicas[0] == 1)
    assert set(heirs) == {2, 3, 4, 5} and max(heirs.values()) - min(heirs.values()) <= 2
    held = Counter(id for replicas in placed for id in replicas).values()
    assert max(held) - min(held) <= 2


def test_topics_of_one_partition_spread() -> None:
    image = with_topics(cluster(3), *(topic(f"t{n}", partitions=1) for n in range(9)))
    leaders = Counter(found.partitions[0].leader for found in image.topics_by_name.values())
    assert leaders == {1: 3, 2: 3, 3: 3}


@given(st.text(max_size=260))
def test_only_kafka_names_are_topic_names(name: str) -> None:
    letters = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    legal = 0 < len(name) <= 249 and set(name) <= letters and name not in (".", "..")
    assert (name_problem(name) is None) == legal


def test_deleting_by_name_and_by_id() -> None:
    image = with_topics(cluster(), topic("a"), topic("b"), topic("c"))
    ids = {name: found.id for name, found in image.topics_by_name.items()}
    request = DeleteTopicsRequest(
        topics=[
            DeleteTopicState(name="a"),
            DeleteTopicState(name=None, topic_id=ids["b"]),
            DeleteTopicState(name="nothing"),
            DeleteTopicState(name=None, topic_id=uuid.UUID(int=77)),
            DeleteTopicState(name="c", topic_id=ids["c"]),
            DeleteTopicState(name=None),
        ]
    )
    plan = delete_topics(image, request)
    assert {record.topic_id for record in plan.records} == {ids["a"], ids["b"]}
    codes = sorted(result.error_code for result in plan.answer.responses)
    assert codes == sorted(
        [
            0,
            0,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.UNKNOWN_TOPIC_ID,
            ErrorCode.INVALID_REQUEST,
            ErrorCode.INVALID_REQUEST,
        ]
    )


def test_a_topic_that_is_asked_for_twice_is_not_deleted() -> None:
    image = with_topics(cluster(), topic("a"), topic("b"))
    found = image.topics_by_name["a"].id
    both = [DeleteTopicState(name="a"), DeleteTopicState(name=None, topic_id=found)]
    assert delete_topics(image, DeleteTopicsRequest(topics=both)).records == []
    assert delete_topics(image, DeleteTopicsRequest(topic_names=["b", "b"])).records == []


@pytest.mark.parametrize(
    ("name", "count", "assignments", "code", "message"),
    [
        ("nothing", 5, None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ""),
        ("orders", 3, None, ErrorCode.INVALID_PARTITIONS, "Topic already has 3 partition(s)."),
        ("orders", 2, None, ErrorCode.INVALID_PARTITIONS, "currently has 3 partition(s); 2 would not be an increase."),
        ("orders", 5, [[1]], ErrorCode.INVALID_REPLICA_ASSIGNMENT, "Attempted to add 2 additional partition(s), but"),
        ("orders", 4, [[9]], ErrorCode.INVALID_REPLICA_ASSIGNMENT, "no such broker is registered"),
    ],
)
def test_refused_growth(
    name: str, count: int, assignments: list[list[int]] | None, code: ErrorCode, message: str
) -> None:
    image = with_topics(cluster(), topic("orders", partitions=3))
    rows = None if assignments is None else [CreatePartitionsAssignment(broker_ids=ids) for ids in assignments]
    request = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name=name, count=count, assignments=rows)])
    plan = create_partitions(context(image), request)
    (result,) = plan.answer.results
    assert result.error_code == code and message in (result.error_message or "") and not plan.records


def test_growth_numbers_the_new_partitions_after_the_old_ones() -> None:
    image = with_topics(cluster(), topic("orders", partitions=3))
    request = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name="orders", count=5, assignments=None)])
    plan = create_partitions(context(image), request)
    assert [record.partition_id for record in plan.records] == [3, 4]
    assert plan.answer.results[0].error_code == 0 and plan.answer.results[0].error_message is None


def test_the_name_index_follows_what_comes_and_goes() -> None:
    index = NameIndex(["a.b"])
    assert index.colliding("a_b") == "a.b" and index.colliding("ab") is None
    index.discard("a.b")
    assert index.colliding("a_b") is None


def test_the_name_index_keeps_nothing_of_topics_that_are_gone() -> None:
    """Tests and jobs create and delete topics under ever new names; the active controller runs for months."""
    index = NameIndex(["kept.topic"])
    for number in range(1000):
        index.add(f"job.{number}")
        index.add(f"job_{number}")
        index.discard(f"job.{number}")
        index.discard(f"job_{number}")
        index.discard(f"never.there.{number}")
    assert len(index) == 1


def test_placement_needs_as_many_brokers_as_replicas() -> None:
    with pytest.raises(KafkaError, match="only 1 broker"):
        ReplicaPlacer([UsableBroker(1, None, False)]).place(1, 2)
