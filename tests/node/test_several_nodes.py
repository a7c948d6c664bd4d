"""Several nodes: orders find the active controller, brokers come, go and die."""

from __future__ import annotations

import asyncio
import errno
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.metadata.image import PartitionImage
from broadsheet_broker.node.registration import broker_message
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.alter_partition_reassignments_request import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from broadsheet_broker.wire.messages.alter_partition_reassignments_response import AlterPartitionReassignmentsResponse
from broadsheet_broker.wire.messages.create_topics_request import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreateTopicsRequest,
)
from broadsheet_broker.wire.messages.create_topics_response import CreateTopicsResponse
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.unregister_broker_request import UnregisterBrokerRequest
from broadsheet_broker.wire.messages.unregister_broker_response import UnregisterBrokerResponse
from tests.node.support import FakeController, start
from tests.support.waiting import until

Nodes = dict[int, FakeController]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    asyncio.run(bounded())


async def create(node: FakeController, name: str, *replicas: int, seconds: float = 10) -> int:
    rows = [CreatableReplicaAssignment(partition_index=0, broker_ids=list(replicas))]
    topic = CreatableTopic(name=name, num_partitions=-1, replication_factor=-1, assignments=rows)
    request = CreateTopicsRequest(topics=[topic], timeout_ms=int(seconds * 1000))
    return (await node.order(request, CreateTopicsResponse)).topics[0].error_code


def partition(node: FakeController, name: str = "orders") -> PartitionImage:
    return node.cache.image.topics_by_name[name].partitions[0]


def test_orders_are_carried_out_wherever_they_are_given() -> None:
    async def test() -> None:
        _, nodes = await start(3)
        assert await create(nodes[3], "orders", 1, 2, 3) == 0
        assert "orders" in nodes[3].cache.image.topics_by_name
        assert await create(nodes[2], "orders", 1, 2, 3) == ErrorCode.TOPIC_ALREADY_EXISTS
        for node in nodes.values():
            await until(lambda node=node: "orders" in node.cache.image.topics_by_name)  # type: ignore[misc]
            assert node.cache.image.controller_id == 1
        blocks = await asyncio.gather(*(node.producer_ids.allocate() for node in nodes.values()))
        assert len({first for first, _ in blocks}) == 3
        names = DeleteTopicsRequest(topic_names=["orders"], timeout_ms=1000)
        assert (await nodes[2].order(names, DeleteTopicsResponse)).responses[0].error_code == 0
        assert "orders" not in nodes[2].cache.image.topics_by_name

    run(test)


def test_an_order_waits_for_the_next_leader() -> None:
    async def test() -> None:
        quorum, nodes = await start(3)
        quorum.elect(None)
        order = asyncio.ensure_future(create(nodes[3], "orders", 1, 2, 3))
        await asyncio.sleep(0.1)
        assert not order.done()
        quorum.elect(2)
        assert await order == 0
        await until(lambda: nodes[1].cache.image.controller_id == 2)
        with pytest.raises(KafkaError) as caught:
            _ = nodes[1].active
        assert caught.value.code is ErrorCode.NOT_CONTROLLER

    run(test)


def test_an_order_that_waits_for_a_deposed_leader_is_served_by_the_next() -> None:
    async def test() -> None:
        quorum, nodes = await start(3)
        quorum.stuck = True
        orders = [asyncio.ensure_future(create(node, f"t{id}", 1)) for id, node in nodes.items()]
        await asyncio.sleep(0.05)
        quorum.stuck = False
        quorum.elect(3)
        results = await asyncio.gather(*orders)
        assert set(results) <= {0, ErrorCode.TOPIC_ALREADY_EXISTS}
        await until(lambda: len(nodes[2].cache.image.topics_by_name) == 3)

    run(test)


def test_a_dead_process_is_fenced_long_before_its_session_ends() -> None:
    async def test() -> None:
        quorum, nodes = await start(3, broker_session_timeout_ms="60000")
        await create(nodes[1], "orders", 3, 1, 2)
        loop = asyncio.get_running_loop()
        quorum.kill(3)
        began = loop.time()
        await until(lambda: partition(nodes[2]).leader == 1)
        assert loop.time() - began < 1.0
        assert partition(nodes[2]).isr == (1, 2) and nodes[2].cache.image.brokers[3].fenced

    run(test)


def test_the_next_leader_notices_that_the_former_died() -> None:
    async def test() -> None:
        quorum, nodes = await start(3, broker_session_timeout_ms="60000")
        await create(nodes[2], "orders", 1, 2, 3)
        quorum.kill(1)
        quorum.elect(2)
        await until(lambda: partition(nodes[3]).leader == 2, 2.0)

    run(test)


def test_a_silent_broker_is_fenced_by_its_session_and_comes_back() -> None:
    async def test() -> None:
        _, nodes = await start(3)
        await create(nodes[1], "orders", 3, 1, 2)
        await nodes[3].lifecycle.stop()
        await until(lambda: partition(nodes[2]).leader == 1)
        assert nodes[1].cache.image.brokers[3].fenced
        nodes[3].lifecycle.begin()
        await until(lambda: nodes[1].cache.image.brokers[3].is_active)
        assert partition(nodes[1]).isr == (1, 2), "it joins the ISR when its leader says so"

    run(test)


def test_a_quick_restart_does_not_wait_for_the_former_session() -> None:
    async def test() -> None:
        quorum, nodes = await start(3, broker_session_timeout_ms="60000")
        await create(nodes[1], "orders", 3, 1, 2)
        epoch = nodes[3].broker_epoch
        quorum.kill(3)
        again = FakeController(quorum, 3, broker_session_timeout_ms="60000")
        await again.start()
        await again.join()
        assert again.broker_epoch > epoch
        await until(lambda: nodes[1].cache.image.brokers[3].is_active)
        assert 3 not in partition(nodes[1]).isr

    run(test)


def test_controlled_shutdown_moves_leaderships_first() -> None:
    async def test() -> None:
        _, nodes = await start(3)
        await create(nodes[1], "orders", 3, 1, 2)
        await nodes[3].leave()
        await until(lambda: partition(nodes[1]).leader == 1)
        assert partition(nodes[1]).isr == (1, 2)
        assert nodes[1].cache.image.brokers[3].fenced
        await nodes[3].stop()

    run(test)


def test_a_broker_that_stops_while_there_is_no_controller_waits_not_for_long() -> None:
    async def test() -> None:
        quorum, nodes = await start(2)
        quorum.elect(None)
        async with asyncio.timeout(8):
            await nodes[2].leave()

    run(test)


class Member(NamedTuple):
    broker_id: int
    broker_epoch: int


class Change(NamedTuple):
    topic_id: Any
    index: int
    leader_epoch: int
    partition_epoch: int
    isr: tuple[Member, ...]
    leader_recovery_state: int = 0


def change_of(node: FakeController, isr: tuple[int, ...], name: str = "orders") -> Change:
    image = node.cache.image
    state = partition(node, name)
    members = tuple(Member(id, image.brokers[id].epoch) for id in isr)
    topic_id = image.topics_by_name[name].id
    return Change(topic_id, 0, state.leader_epoch, state.partition_epoch, members)


async def propose(node: FakeController, proposals: Any, isr: tuple[int, ...], name: str = "orders") -> Any:
    done = asyncio.get_running_loop().create_future()
    proposals.alter_partition(change_of(node, isr, name), done.set_result)
    return await done


def test_leaders_have_their_isrs_changed_across_a_change_of_controller() -> None:
    async def test() -> None:
        quorum, nodes = await start(3)
        for name in ("orders", "payments"):
            await create(nodes[1], name, 3, 1, 2)
        await until(lambda: len(nodes[3].cache.image.topics_by_name) == 2)
        proposals = nodes[3].isr_proposals(lambda *state: state)
        both = await asyncio.gather(
            propose(nodes[3], proposals, (3, 1)), propose(nodes[3], proposals, (3,), "payments")
        )
        assert [state[3] for state in both] == [(3, 1), (3,)]
        await until(lambda: partition(nodes[3], "payments").isr == (3,))
        quorum.elect(None)
        later = asyncio.ensure_future(propose(nodes[3], proposals, (3, 2), "payments"))
        await asyncio.sleep(0.05)
        quorum.elect(2)
        assert (await later)[3] == (3, 2)
        wrong = change_of(nodes[3], (3,))._replace(partition_epoch=0)
        done = asyncio.get_running_loop().create_future()
        proposals.alter_partition(wrong, done.set_result)
        assert await done == ErrorCode.INVALID_UPDATE_VERSION

    run(test)


def test_a_reassignment_is_done_when_the_new_replica_is_in_sync() -> None:
    async def test() -> None:
        _, nodes = await start(3)
        await create(nodes[1], "orders", 1, 2)
        rows = [ReassignablePartition(partition_index=0, replicas=[3, 2])]
        request = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name="orders", partitions=rows)])
        answer = await nodes[2].order(request, AlterPartitionReassignmentsResponse)
        assert answer.responses[0].partitions[0].error_code == 0
        await until(lambda: partition(nodes[1]).adding_replicas == (3,))
        assert partition(nodes[1]).replicas == (3, 2, 1) and partition(nodes[1]).removing_replicas == (1,)
        proposals = nodes[1].isr_proposals(lambda *state: state)
        assert await propose(nodes[1], proposals, (1, 2, 3)) == ErrorCode.NEW_LEADER_ELECTED
        assert partition(nodes[1]).replicas == (3, 2) and partition(nodes[1]).leader == 3

    run(test)


def test_a_reassignment_can_be_cancelled() -> None:
    async def test() -> None:
        _, nodes = await start(3)
        await create(nodes[1], "orders", 1, 2)
        for replicas in ([3, 2], None):
            rows = [ReassignablePartition(partition_index=0, replicas=replicas)]
            request = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name="orders", partitions=rows)])
            answer = await nodes[3].order(request, AlterPartitionReassignmentsResponse)
            assert answer.responses[0].partitions[0].error_code == 0
        await until(lambda: not partition(nodes[1]).is_reassigning)
        assert set(partition(nodes[1]).replicas) == {1, 2} and partition(nodes[1]).leader == 1

    run(test)


def test_unregistering_a_broker() -> None:
    async def test() -> None:
        quorum, nodes = await start(3, broker_session_timeout_ms="60000")
        quorum.kill(3)
        await nodes[2].order(UnregisterBrokerRequest(broker_id=3), UnregisterBrokerResponse)
        await until(lambda: set(nodes[2].cache.image.brokers) == {1, 2})

    run(test)


def test_a_broker_that_was_unregistered_while_it_lives_registers_again() -> None:
    async def test() -> None:
        _, nodes = await start(3)
        await nodes[2].order(UnregisterBrokerRequest(broker_id=3), UnregisterBrokerResponse)
        await until(lambda: 3 in nodes[1].cache.image.brokers and nodes[1].cache.image.brokers[3].is_active)

    run(test)


def test_a_broker_without_controller_role_takes_part() -> None:
    async def test() -> None:
        quorum, nodes = await start(2)
        voters = ",".join(f"{id}@node-{id}:9093" for id in (1, 2))
        broker = FakeController(
            quorum, 7, process_roles="broker", listeners="PLAINTEXT://node-7:9092", controller_quorum_voters=voters
        )
        await broker.start()
        await broker.join()
        assert await create(broker, "orders", 7, 1) == 0
        await until(lambda: partition(nodes[2]).leader == 7)
        assert set(nodes[1].cache.image.controllers) == {1, 2}

    run(test)


def test_two_brokers_with_one_id_do_not_take_turns() -> None:
    async def test() -> None:
        quorum, nodes = await start(3)
        other = broker_message(nodes[3].registration.broker(nodes[3].cache.image), nodes[3].cluster_id)
        other.incarnation_id = uuid.UUID(int=1)
        other.log_dirs = [uuid.UUID(int=2)]
        with pytest.raises(KafkaError) as caught:
            await nodes[1].active.register_broker(other)
        assert caught.value.code is ErrorCode.DUPLICATE_BROKER_REGISTRATION
        assert quorum.leader == 1

    run(test)


def test_a_metadata_log_without_room_makes_its_broker_step_aside() -> None:
    """The disk was full under nothing but the metadata log: the broker went on leading, and heard of nothing."""

    async def test() -> None:
        _, nodes = await start(3)
        await create(nodes[1], "orders", 3, 1, 2)
        nodes[3].raft.is_behind = True  # type: ignore[misc]
        assert nodes[3].may_be_replaced()
        nodes[3].handle_refusal(StorageError("no room", OSError(errno.ENOSPC, "No space left on device")))
        await until(lambda: partition(nodes[1]).leader == 1)
        assert nodes[1].cache.image.brokers[3].fenced
        nodes[3].raft.is_behind = False  # type: ignore[misc]
        assert nodes[3].may_be_replaced(), "it has asked to be fenced"

    run(test)


def test_a_broker_without_the_directory_of_its_metadata_answers_for_nothing_and_stops() -> None:
    async def test() -> None:
        _, nodes = await start(3)
        failures: list[KafkaError] = []
        nodes[3].on_failure = failures.append
        assert not nodes[3].may_be_replaced()
        nodes[3].directory_failed("/data")
        assert nodes[3].may_be_replaced()
        assert [failure.message for failure in failures] == ["its log directory /data is offline"]

    run(test)
