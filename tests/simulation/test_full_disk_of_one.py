"""A broker whose disk is full under everything, the metadata log too, while the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages import offset_commit_request as offset_commit
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.find_coordinator_request import FindCoordinatorRequest
from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequest, OffsetFetchRequestGroup
from tests.simulation.cluster import PORT, Cluster
from tests.support.network import Client
from tests.support.simulated_loop import Simulation

TOPIC = "orders"
T = TypeVar("T")


async def commit(client: Client, group: str, offset: int) -> ErrorCode:
    rows = [offset_commit.OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)]
    topics = [offset_commit.OffsetCommitRequestTopic(name=TOPIC, partitions=rows)]
    answer = await client.call(8, 8, offset_commit.OffsetCommitRequest(group_id=group, topics=topics))
    return ErrorCode(answer.topics[0].partitions[0].error_code)


async def committed(client: Client, group: str) -> tuple[ErrorCode, int]:
    body = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])
    (found,) = (await client.call(9, 8, body)).groups
    offsets = [row.committed_offset for topic in found.topics for row in topic.partitions]
    return ErrorCode(found.error_code), offsets[0] if offsets else -1


async def coordinator(client: Client, group: str) -> int:
    """The node id, or -1."""
    answer = await client.call(10, 3, FindCoordinatorRequest(key=group))
    return -1 if answer.error_code else int(answer.node_id)


async def until(condition: Callable[[], Awaitable[T]]) -> T:
    """What the condition gives at last."""
    async with asyncio.timeout(60):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.05)


async def is_settled(cluster: Cluster) -> bool:
    return cluster.all_serving and not cluster.disagreement()


@pytest.mark.parametrize("seed", range(3))
def test_a_coordinator_with_a_full_disk_tells_no_offsets_that_another_has_replaced(seed: int) -> None:
    simulation = Simulation(seed)
    cluster = Cluster(simulation, 3, {"offsets.topic.num.partitions": "3"})

    async def talk() -> None:
        await until(lambda: is_settled(cluster))
        clients = {id: await Client.connect(PORT, f"broker-{id}") for id in cluster.nodes}
        topic = CreatableTopic(name=TOPIC, num_partitions=1, replication_factor=3)
        await clients[1].call(19, 5, CreateTopicsRequest(topics=[topic], timeout_ms=10_000))

        async def first_commit() -> tuple[str, int] | None:
            """A group whose coordinator does not lead the metadata quorum: that one would hear of its end."""
            for group in ("shipping", "billing", "parcels", "returns"):
                found = await coordinator(clients[1], group)
                leads = found > 0 and cluster.nodes[found].led_epoch(of_quorum=True) >= 0
                if found > 0 and not leads and await commit(clients[found], group, 1) is ErrorCode.NONE:
                    return group, found
            return None

        group, old = await until(first_commit)
        await until(lambda: is_settled(cluster))
        other = next(client for id, client in clients.items() if id != old)
        cluster.nodes[old].fill_disk(0)
        assert await commit(clients[old], group, 9) is not ErrorCode.NONE

        async def is_replaced() -> bool:
            found = await coordinator(other, group)
            return found not in (-1, old) and await commit(clients[found], group, 2) is ErrorCode.NONE

        await until(is_replaced)
        for _ in range(20):
            assert await committed(clients[old], group) == (ErrorCode.NOT_COORDINATOR, -1)
            assert await coordinator(clients[old], group) != old
            await asyncio.sleep(0.02)
        cluster.nodes[old].files.capacity = None
        await until(lambda: is_settled(cluster))
        found = await coordinator(clients[old], group)
        assert await committed(clients[found], group) == (ErrorCode.NONE, 2)
        for client in clients.values():
            await client.close()

    cluster.start()
    try:
        simulation.run(simulation.host("client"), talk())
    finally:
        simulation.end()


@pytest.mark.parametrize("seed", range(3))
def test_a_leader_of_the_quorum_with_a_full_disk_hands_over_and_lives(seed: int) -> None:
    """It could not write down the next epoch, and ended at every election until there was room."""
    simulation = Simulation(seed)
    cluster = Cluster(simulation, 3)

    async def talk() -> None:
        await until(lambda: is_settled(cluster))
        client = await Client.connect(PORT, "broker-1")

        async def quorum_leader() -> int:
            return next((id for id, node in cluster.nodes.items() if node.led_epoch(of_quorum=True) >= 0), 0)

        old = await until(quorum_leader)
        cluster.nodes[old].fill_disk(0)

        async def creates() -> bool:
            topic = CreatableTopic(name=TOPIC, num_partitions=1, replication_factor=2)
            answer = await client.call(19, 5, CreateTopicsRequest(topics=[topic], timeout_ms=2_000))
            return answer.topics[0].error_code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS)

        await until(creates)
        assert await quorum_leader() not in (0, old)
        await asyncio.sleep(5)
        assert cluster.nodes[old].serving and cluster.nodes[old].lives == 1
        cluster.nodes[old].files.capacity = None
        await until(lambda: is_settled(cluster))
        assert cluster.nodes[old].lives == 1
        await client.close()

    cluster.start()
    try:
        simulation.run(simulation.host("client"), talk())
    finally:
        simulation.end()
