"""AlterPartition, the lives of brokers, heartbeats: planned from plain values."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from typing import Any

import pytest

from broadsheet_broker.controller.alter_partition import alter_partition
from broadsheet_broker.controller.brokers import (
    Registration,
    fence_broker,
    register_broker,
    shut_down_broker,
    unfence_broker,
    unregister_broker,
)
from broadsheet_broker.controller.elections import leads_any, rebalance_leaders
from broadsheet_broker.controller.heartbeats import TRANSITIONS, Sessions, State, least_session, next_state
from broadsheet_broker.controller.partition_change import Defaults
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import ClusterImage, Endpoint
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import alter_partition_request as alter
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest
from tests.controller.test_configs_and_elections import three


def after(image: ClusterImage, records: list[Any]) -> ClusterImage:
    return MetadataDelta(image).replay_all(records).apply(image.offset + 1, 1, 1)


def ask(image: ClusterImage, isr: list[tuple[int, int]], **changes: int) -> tuple[Any, list[Any]]:
    topic = image.topics_by_name["orders"]
    state = topic.partitions[0]
    row = alter.PartitionData(
        partition_index=changes.get("index", 0),
        leader_epoch=changes.get("leader_epoch", state.leader_epoch),
        new_isr_with_epochs=[alter.BrokerState(broker_id=id, broker_epoch=epoch) for id, epoch in isr],
        partition_epoch=changes.get("partition_epoch", state.partition_epoch),
        leader_recovery_state=changes.get("recovery", 0),
    )
    request = alter.AlterPartitionRequest(
        broker_id=changes.get("broker", state.leader),
        broker_epoch=changes.get("broker_epoch", 1),
        topics=[alter.TopicData(topic_id=topic.id, partitions=[row])],
    )
    plan = alter_partition(image, request, 3, Defaults())
    return plan.answer.topics[0].partitions[0], plan.records


def test_a_leader_has_its_isr_changed() -> None:
    image = three(isr=[1], leader=1)
    answer, records = ask(image, [(1, 1), (2, 1)])
    assert (answer.error_code, answer.isr, answer.leader_id) == (0, [1, 2], 1)
    state = after(image, records).topics_by_name["orders"].partitions[0]
    assert state.isr == (1, 2) and state.partition_epoch == answer.partition_epoch
    assert state.leader_epoch == answer.leader_epoch


@pytest.mark.parametrize(
    ("isr", "changes", "code"),
    [
        ([(1, 1), (2, 1)], {"leader_epoch": 0}, ErrorCode.FENCED_LEADER_EPOCH),
        ([(1, 1), (2, 1)], {"leader_epoch": 9}, ErrorCode.NOT_CONTROLLER),
        ([(1, 1), (2, 1)], {"partition_epoch": 9}, ErrorCode.NOT_CONTROLLER),
        ([(1, 1), (2, 1)], {"partition_epoch": 0}, ErrorCode.INVALID_UPDATE_VERSION),
        ([(1, 1), (2, 1)], {"broker": 2}, ErrorCode.INVALID_REQUEST),
        ([(2, 1)], {}, ErrorCode.INVALID_REQUEST),
        ([(1, 1), (9, 1)], {}, ErrorCode.INVALID_REQUEST),
        ([(1, 1), (2, 1)], {"recovery": 1}, ErrorCode.INVALID_REQUEST),
        ([(1, 1), (2, 7)], {}, ErrorCode.INELIGIBLE_REPLICA),
        ([(1, 1), (3, 1)], {}, ErrorCode.INELIGIBLE_REPLICA),
        ([(1, 1)], {"index": 4}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_refused_isrs(isr: list[tuple[int, int]], changes: dict[str, int], code: ErrorCode) -> None:
    answer, records = ask(three(isr=[1], leader=1, fenced=(3,)), isr, **changes)
    assert answer.error_code == code and not records


def test_a_former_life_of_a_broker_decides_nothing() -> None:
    with pytest.raises(KafkaError) as caught:
        ask(three(isr=[1], leader=1), [(1, 1)], broker_epoch=0)
    assert caught.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_a_broker_that_shuts_down_leads_nothing_and_joins_no_isr() -> None:
    image = three(isr=[1, 2, 3], leader=1)
    image = after(image, shut_down_broker(image, 1))
    state = image.topics_by_name["orders"].partitions[0]
    assert (state.leader, state.isr) == (2, (2, 3)) and image.brokers[1].in_controlled_shutdown
    assert ask(image, [(2, 1), (3, 1), (1, 1)])[0].error_code == ErrorCode.INELIGIBLE_REPLICA
    assert not leads_any(image, 1) and leads_any(image, 2)


def test_an_unregistered_broker_is_forgotten() -> None:
    image = three(isr=[1, 2, 3], leader=1)
    image = after(image, unregister_broker(image, 1))
    assert set(image.brokers) == {2, 3} and image.topics_by_name["orders"].partitions[0].leader == 2
    with pytest.raises(KafkaError) as caught:
        unregister_broker(image, 1)
    assert caught.value.code is ErrorCode.BROKER_ID_NOT_REGISTERED


def test_preferred_leaders_come_back_once_they_are_in_sync() -> None:
    assert [change.leader for change in rebalance_leaders(three(isr=[1, 2, 3], leader=2))] == [1]
    assert rebalance_leaders(three(isr=[2, 3], leader=2)) == []
    assert rebalance_leaders(three(isr=[1, 2, 3], leader=1)) == []


def test_an_unclean_stop_takes_a_broker_out_of_what_it_was_eligible_for() -> None:
    image = replace(three(isr=[1, 2], leader=1), features={"eligible.leader.replicas.version": 1})
    defaults = Defaults(min_isr=2)
    image = after(image, fence_broker(image, 2, defaults))
    assert image.topics_by_name["orders"].partitions[0].elr == (2,)
    life = Registration(2, uuid.UUID(int=60), {"PLAINTEXT": Endpoint("h", 1)}, (), previous_epoch=1)
    clean = after(image, register_broker(image, life, 90, defaults))
    assert clean.topics_by_name["orders"].partitions[0].elr == (2,)
    unclean = after(image, register_broker(image, replace(life, previous_epoch=-1), 90, defaults))
    assert unclean.topics_by_name["orders"].partitions[0].elr == ()


def test_a_broker_must_support_what_the_cluster_has_finalized() -> None:
    image = replace(three(isr=[1], leader=1), features={"metadata.version": 30})
    life = Registration(4, uuid.UUID(int=60), {}, (), features={"metadata.version": (7, 29)})
    with pytest.raises(KafkaError, match="does not support finalized version 30"):
        register_broker(image, life, 90)


def heartbeat(*, fence: bool = False, stop: bool = False, offset: int = 100) -> BrokerHeartbeatRequest:
    return BrokerHeartbeatRequest(
        broker_id=1, broker_epoch=1, current_metadata_offset=offset, want_fence=fence, want_shut_down=stop
    )


def test_what_becomes_of_a_broker() -> None:
    image = three(isr=[1], leader=1)
    active = image.brokers[1]
    fenced = replace(active, fenced=True, epoch=50)
    stopping = replace(active, in_controlled_shutdown=True)

    def state(broker: Any, request: Any, leads: bool = False, know: bool = True, caught_up: bool = True) -> State:
        return next_state(broker, request, leads_any=leads, all_know=know, caught_up=caught_up)

    assert state(fenced, heartbeat()) is State.UNFENCED
    assert state(fenced, heartbeat(), caught_up=False) is State.FENCED
    assert state(fenced, heartbeat(fence=True)) is State.FENCED
    assert state(fenced, heartbeat(stop=True)) is State.SHUTDOWN_NOW
    assert state(active, heartbeat()) is State.UNFENCED
    assert state(active, heartbeat(fence=True)) is State.FENCED
    assert state(active, heartbeat(stop=True)) is State.CONTROLLED_SHUTDOWN
    assert state(stopping, heartbeat(stop=True), leads=True) is State.CONTROLLED_SHUTDOWN
    assert state(stopping, heartbeat(stop=True), know=False) is State.CONTROLLED_SHUTDOWN
    assert state(stopping, heartbeat(stop=True)) is State.SHUTDOWN_NOW


def test_heartbeats_lead_where_the_table_says_and_everywhere_it_says() -> None:
    reached: dict[State, set[State]] = {state: set() for state in State}
    for fenced, stopping, fence, stop, leads, know, caught_up in itertools.product((False, True), repeat=7):
        broker = replace(three(isr=[1], leader=1).brokers[1], fenced=fenced, in_controlled_shutdown=stopping)
        request = heartbeat(fence=fence, stop=stop)
        before = State.FENCED if fenced else State.CONTROLLED_SHUTDOWN if stopping else State.UNFENCED
        reached[before].add(next_state(broker, request, leads_any=leads, all_know=know, caught_up=caught_up))
    assert reached == TRANSITIONS


def test_only_silence_ends_a_session_and_not_the_controllers_own_pause() -> None:
    image = three(isr=[1], leader=1)
    sessions = Sessions(9.0)
    sessions.begin(image.brokers.values(), 100.0)
    sessions.heard(2, 1, 105.0, 60)
    assert set(sessions.silent(110.0)) == {1, 3}
    sessions.excuse(5.0)
    assert sessions.silent(110.0) == []
    assert sessions.is_valid(2, 110.0) and not sessions.is_valid(7, 110.0)
    sessions.heard(1, 1, 110.0, 60)
    sessions.heard(3, 1, 110.0, 59)
    sessions.begin_shutdown(2, 60)
    assert not sessions.all_know_of_shutdown(2, [1, 3])
    sessions.heard(3, 1, 111.0, 60)
    assert sessions.all_know_of_shutdown(2, [1, 3])


def test_a_fenced_broker_that_does_not_know_it_yet_has_not_caught_up() -> None:
    """It came back with metadata from before, in which it led what others had led since."""
    image = three(isr=[1], leader=1, fenced=(3,))
    broker = image.brokers[1]
    sessions = Sessions(9.0)
    sessions.begin(image.brokers.values(), 100.0, offset=70)
    assert sessions.has_caught_up(broker, broker.epoch)
    assert not sessions.has_caught_up(image.brokers[3], 69), "it is not known when it was fenced"
    assert sessions.has_caught_up(image.brokers[3], 70)
    sessions.heard(1, broker.epoch, 101.0, 80)
    sessions.fenced(1, 90)
    assert not sessions.is_valid(1, 101.0)
    assert not sessions.has_caught_up(broker, 89)
    assert sessions.has_caught_up(broker, 90)


def test_a_fenced_broker_is_back_with_what_waited_for_it() -> None:
    image = three(isr=[1], leader=1, fenced=(1,))
    assert image.topics_by_name["orders"].partitions[0].leader == -1
    image = after(image, unfence_broker(image, 1))
    assert image.topics_by_name["orders"].partitions[0].leader == 1


def test_the_silence_of_the_former_leader_counts_for_the_next() -> None:
    """Who lost the active controller and a broker in one node waited for an election and a whole session."""
    image = three(isr=[1], leader=1)
    sessions = Sessions(9.0, 2.0)
    sessions.begin(image.brokers.values(), 100.0, (1, 97.5))
    assert sessions.silent(106.4) == []
    assert sessions.silent(106.6) == [1]
    sessions.begin(image.brokers.values(), 100.0, (1, 20.0))
    assert sessions.silent(104.4) == [], "half a session is left however long it was silent"
    assert sessions.silent(104.6) == [1]
    sessions.begin(image.brokers.values(), 100.0, (7, 20.0))
    assert sessions.silent(109.0) == []


def test_a_short_session_still_has_room_for_a_lost_heartbeat() -> None:
    assert least_session(9.0, 2.0) == 4.5
    assert least_session(3.0, 1.0) == 2.0
    assert least_session(3.0, 2.0) == 3.0
