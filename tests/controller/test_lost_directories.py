"""A replica in a directory that its broker has lost leads nothing (KIP-858): its log would start empty."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from broadsheet_broker.apis.metadata import described
from broadsheet_broker.controller.brokers import (
    Registration,
    fence_broker,
    lose_directories,
    register_broker,
    unfence_broker,
)
from broadsheet_broker.controller.directories import assign_replicas
from broadsheet_broker.controller.elections import rebalance_leaders
from broadsheet_broker.controller.eligible_replicas import FEATURE
from broadsheet_broker.controller.partition_change import Defaults
from broadsheet_broker.metadata.image import DIRECTORY_UNASSIGNED, ClusterImage, Endpoint, PartitionImage
from broadsheet_broker.wire.messages import assign_replicas_to_dirs_request as assign
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from tests.controller.test_configs_and_elections import UNCLEAN, election, three
from tests.controller.test_isr_and_sessions import after
from tests.controller.test_topic_planning import DIRECTORY

LOST, KEPT = uuid.UUID(int=901), uuid.UUID(int=902)


def two_directories(isr: list[int], leader: int, where: uuid.UUID = LOST) -> ClusterImage:
    """Broker 1 has two directories, and its replica of orders-0 is in one of them."""
    image = three(isr=isr, leader=leader)
    moved = PartitionChangeRecord(
        partition_id=0, topic_id=image.topics_by_name["orders"].id, directories=[where, DIRECTORY, DIRECTORY]
    )
    image = after(image, [moved])
    return replace(image, brokers={**image.brokers, 1: replace(image.brokers[1], log_dirs=(LOST, KEPT))})


def only(image: ClusterImage) -> PartitionImage:
    return image.topics_by_name["orders"].partitions[0]


def losing(image: ClusterImage) -> ClusterImage:
    return after(image, lose_directories(image, 1, [LOST]))


def test_the_last_member_of_an_isr_does_not_lead_again_without_its_directory() -> None:
    image = losing(two_directories([1], 1))
    assert (only(image).leader, only(image).isr) == (-1, (1,))
    image = after(image, fence_broker(image, 1))
    image = after(image, unfence_broker(image, 1))
    assert only(image).leader == -1, "broker 1 has nothing of it"


def test_clients_are_told_that_a_replica_is_offline_whose_directory_is_lost() -> None:
    image = two_directories([1, 2, 3], 1)
    assert described(image, image.topics_by_name["orders"], "PLAINTEXT").partitions[0].offline_replicas == []
    image = losing(image)
    assert described(image, image.topics_by_name["orders"], "PLAINTEXT").partitions[0].offline_replicas == [1]


def test_a_new_life_without_the_directory_leads_nothing_of_it_and_one_with_it_does() -> None:
    image = losing(two_directories([1], 1))
    without = Registration(1, uuid.UUID(int=50), {"PLAINTEXT": Endpoint("h", 1)}, (KEPT,))
    image = after(image, register_broker(image, without, 70))
    image = after(image, unfence_broker(image, 1))
    assert only(image).leader == -1
    repaired = replace(without, incarnation_id=uuid.UUID(int=51), log_dirs=(LOST, KEPT))
    image = after(image, register_broker(image, repaired, 80))
    image = after(image, unfence_broker(image, 1))
    assert (only(image).leader, only(image).isr) == (1, (1,))


def test_neither_an_operator_nor_the_rebalancing_elects_a_replica_without_its_directory() -> None:
    image = losing(two_directories([1], 1))
    code, records = election(image, UNCLEAN)
    assert (code, records[0].leader) == (0, 2)
    image = two_directories([1, 2], 2)
    image = replace(image, brokers={**image.brokers, 1: replace(image.brokers[1], log_dirs=(KEPT,))})
    assert rebalance_leaders(image) == []


@pytest.mark.parametrize("log_dirs", [(), (LOST,)])
def test_directories_that_are_not_told_of_count_as_there(log_dirs: tuple[uuid.UUID, ...]) -> None:
    image = two_directories([1], 1)
    image = replace(image, brokers={**image.brokers, 1: replace(image.brokers[1], log_dirs=log_dirs)})
    image = after(image, fence_broker(image, 1))
    assert only(after(image, unfence_broker(image, 1))).leader == 1
    image = two_directories([1], 1, DIRECTORY_UNASSIGNED)
    image = after(image, fence_broker(image, 1))
    assert only(after(image, unfence_broker(image, 1))).leader == 1


def reported(image: ClusterImage, directory: uuid.UUID) -> list[Any]:
    partition = assign.PartitionData(partition_index=0)
    topic = assign.TopicData(topic_id=image.topics_by_name["orders"].id, partitions=[partition])
    rows = [assign.DirectoryData(id=directory, topics=[topic])]
    request = assign.AssignReplicasToDirsRequest(broker_id=1, broker_epoch=1, directories=rows)
    plan = assign_replicas(image, request, Defaults())
    assert plan.answer.directories[0].topics[0].partitions[0].error_code == 0
    return plan.records


def test_a_replica_whose_directory_failed_before_it_was_told_of_is_led_elsewhere() -> None:
    image = two_directories([1, 2], 1, DIRECTORY_UNASSIGNED)
    image = losing(image)
    assert only(image).leader == 1, "it is not reported yet that it was there"
    image = after(image, reported(image, LOST))
    assert (only(image).leader, only(image).isr, only(image).directories[0]) == (2, (2,), LOST)


def test_the_only_replica_on_a_replaced_disk_leads_once_its_broker_says_where_it_is() -> None:
    image = two_directories([1], 1)
    alone = PartitionChangeRecord(
        partition_id=0, topic_id=image.topics_by_name["orders"].id, replicas=[1], directories=[LOST]
    )
    image = losing(after(image, [alone]))
    assert only(image).leader == -1
    image = after(image, reported(image, KEPT))
    assert (only(image).leader, only(image).directories) == (1, (KEPT,))


def only_member_with_a_lost_directory(**fields: Any) -> ClusterImage:
    """Broker 1 had what was committed last in a directory that is lost; 2 and 3 had left the ISR."""
    image = losing(two_directories([1], 1))
    change = PartitionChangeRecord(partition_id=0, topic_id=image.topics_by_name["orders"].id, **fields)
    return after(image, [change]) if fields else image


def test_the_last_of_an_isr_does_not_lead_once_its_log_began_anew_in_another_directory() -> None:
    """It was elected with the next broker that came, empty, and the others cut their logs to nothing."""
    image = only_member_with_a_lost_directory()
    image = after(image, reported(image, KEPT))
    image = after(image, fence_broker(image, 2))
    image = after(image, unfence_broker(image, 2))
    assert (only(image).leader, only(image).isr) == (-1, (1,))
    code, records = election(image, UNCLEAN)
    assert (code, records[0].leader) == (0, 2)
    image = after(image, records)
    assert only(after(image, reported(image, KEPT))).directories[0] == KEPT, "now it follows, as any new replica"


def with_feature(image: ClusterImage) -> ClusterImage:
    return replace(image, features={**image.features, FEATURE: 1})


def test_a_replica_whose_log_began_anew_is_not_eligible() -> None:
    image = with_feature(only_member_with_a_lost_directory(isr=[], eligible_leader_replicas=[1, 2], last_known_elr=[1]))
    image = after(image, fence_broker(image, 2))
    image = after(image, reported(image, KEPT))
    image = after(image, fence_broker(image, 1))
    image = after(image, unfence_broker(image, 1))
    assert (only(image).leader, only(image).elr) == (-1, (2,))
    image = after(image, unfence_broker(image, 2))
    image = after(image, reported(image, KEPT))
    assert (only(image).leader, only(image).elr, only(image).directories[0]) == (2, (), KEPT)


def test_the_last_leader_does_not_lead_when_its_log_began_anew() -> None:
    image = with_feature(only_member_with_a_lost_directory(isr=[], last_known_elr=[1]))
    image = after(image, reported(image, KEPT))
    image = after(image, fence_broker(image, 2))
    image = after(image, unfence_broker(image, 2))
    assert only(image).leader == -1
