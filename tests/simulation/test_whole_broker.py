"""A whole broker under the virtual clock: real code from sockets to files, none of them real."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest

from broadsheet_broker.broker import Broker
from broadsheet_broker.config import load_config
from broadsheet_broker.replication.reopening import INTERVAL_SECONDS
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.records import Record, build_batch, decode_records, iterate_batches
from tests.support.memory_files import MemoryFiles
from tests.support.network import Client
from tests.support.simulated_loop import Host, Simulation

Simulate = Callable[[int], Simulation]

PRODUCE, FETCH, METADATA, CREATE_TOPICS = 0, 1, 3, 19


def start(simulation: Simulation, host: Host, files: MemoryFiles, log_dirs: str = "/data") -> Broker:
    listeners = "listeners=PLAINTEXT://broker:9092,CONTROLLER://broker:9093"
    config = load_config(None, [listeners, f"log.dirs={log_dirs}"])
    broker = Broker(host.environment(files), config)
    simulation.run(host, broker.start())
    return broker


def record(value: bytes) -> Record:
    return Record(0, 1_700_000_000_000, b"customer-1", value, [])


async def produce(client: Client, value: bytes) -> int:
    """The offset of a record written with acks=all."""
    data = [PartitionProduceData(index=0, records=build_batch([record(value)]))]
    body = ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[TopicProduceData(name="orders", partition_data=data)])
    answer = await client.call(PRODUCE, 9, body)
    partition = answer.responses[0].partition_responses[0]
    assert partition.error_code == ErrorCode.NONE, ErrorCode(partition.error_code).name
    offset: int = partition.base_offset
    return offset


async def fetch(client: Client, offset: int, max_wait_ms: int = 500) -> list[bytes | None]:
    """The values of the records from an offset on."""
    partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1_000_000)
    topics = [FetchTopic(topic="orders", partitions=[partition])]
    body = FetchRequest(max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=1_000_000, topics=topics)
    answer = await client.call(FETCH, 11, body)
    data = answer.responses[0].partitions[0]
    assert data.error_code == ErrorCode.NONE
    return [
        item.value for _, batch in iterate_batches(memoryview(data.records or b"")) for item in decode_records(batch)
    ]


async def create(client: Client) -> None:
    topic = CreatableTopic(name="orders", num_partitions=1, replication_factor=1)
    answer = await client.call(CREATE_TOPICS, 5, CreateTopicsRequest(topics=[topic], timeout_ms=10_000))
    assert answer.topics[0].error_code == ErrorCode.NONE


@pytest.mark.parametrize("seed", range(5))
def test_records_go_in_and_come_out(simulate: Simulate, seed: int) -> None:
    simulation = simulate(seed)
    start(simulation, simulation.host("broker"), MemoryFiles())

    async def talk() -> None:
        client = await Client.connect(9092, "broker")
        await create(client)
        body = MetadataRequest(topics=[MetadataRequestTopic(name="orders")])
        metadata = await client.call(METADATA, 8, body)
        assert [(broker.host, broker.port) for broker in metadata.brokers] == [("broker", 9092)]
        assert metadata.topics[0].partitions[0].leader_id == 1
        for n in range(20):
            assert await produce(client, b"order %d" % n) == n
        assert await fetch(client, 0) == [b"order %d" % n for n in range(20)]
        await client.close()

    simulation.run(simulation.host("client"), talk())


def test_a_fetch_waits_in_virtual_time_until_there_is_something(simulate: Simulate) -> None:
    simulation = simulate(1)
    start(simulation, simulation.host("broker"), MemoryFiles())

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        client, other = await Client.connect(9092, "broker"), await Client.connect(9092, "broker")
        await create(client)
        began = loop.time()
        assert await fetch(client, 0, max_wait_ms=30_000) == []
        assert 30 <= loop.time() - began < 31
        waiting = loop.create_task(fetch(client, 0, max_wait_ms=30_000))
        await asyncio.sleep(10)
        await produce(other, b"at last")
        assert await waiting == [b"at last"]
        assert 40 <= loop.time() - began < 42
        await client.close()
        await other.close()

    simulation.run(simulation.host("client"), talk())


@pytest.mark.parametrize("seed", range(10))
def test_what_was_acknowledged_survives_a_kill(simulate: Simulate, seed: int) -> None:
    """The process dies at a random moment; whatever had been acknowledged is there after the restart."""
    simulation = simulate(seed)
    host, client_host, files = simulation.host("broker"), simulation.host("client"), MemoryFiles()
    acknowledged: list[bytes] = []

    async def write(life: int) -> None:
        client = await Client.connect(9092, "broker")
        if life == 0:
            await create(client)
        try:
            for n in range(10_000):
                value = b"order %d of life %d" % (n, life)
                await produce(client, value)
                acknowledged.append(value)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            await client.close()

    async def read() -> list[Any]:
        client = await Client.connect(9092, "broker")
        found: list[Any] = []
        while more := await fetch(client, len(found), max_wait_ms=0):
            found += more
        await client.close()
        return found

    for life in range(3):
        start(simulation, host, files)
        with client_host.loop.running():
            writing = client_host.loop.create_task(write(life))
        simulation.run_for(simulation.random.uniform(0.1, 0.6))
        host.kill()
        files.kill()
        simulation.run_for(1)
        assert writing.done()
        writing.result()
    start(simulation, host, files)
    found = simulation.run(client_host, read())
    assert len(acknowledged) > 20
    assert [value for value in found if value in set(acknowledged)] == acknowledged


def story(simulate: Simulate, seed: int) -> tuple[int, float, dict[str, bytes]]:
    """Steps, time and files after some work of two clients on a broker."""
    simulation, files = simulate(seed), MemoryFiles()
    start(simulation, simulation.host("broker"), files)

    async def talk(first: bool) -> None:
        client = await Client.connect(9092, "broker")
        if first:
            await create(client)
        else:
            await asyncio.sleep(1)
        for n in range(10):
            await produce(client, b"order %d" % n)
        await client.close()

    one, other = simulation.host("one"), simulation.host("other")
    with one.loop.running():
        one.loop.create_task(talk(True))
    simulation.run(other, talk(False))
    simulation.run_for(120)
    contents = {path: bytes(node.data) for path, node in files.nodes.items() if not path.endswith("meta.properties")}
    return simulation.steps, simulation.time, contents


def test_the_same_seed_gives_the_same_bytes_on_disk(simulate: Simulate) -> None:
    assert story(simulate, 11) == story(simulate, 11)
    assert story(simulate, 11)[:2] != story(simulate, 12)[:2]


def full(files: MemoryFiles, under: str) -> None:
    """From now on nothing can be written below a path: the disk is full."""
    writing = {"append", "write", "replace", "make_directory", "rename"}
    files.fault = lambda operation, path: errno.ENOSPC if operation in writing and under in path else None


def test_a_partition_that_a_full_disk_kept_from_opening_is_served_once_there_is_room(simulate: Simulate) -> None:
    """It stayed offline until the next start."""
    simulation = simulate(1)
    host, client_host, files = simulation.host("broker"), simulation.host("client"), MemoryFiles()
    start(simulation, host, files)

    async def before() -> None:
        client = await Client.connect(9092, "broker")
        await create(client)
        assert await produce(client, b"first") == 0
        await client.close()

    async def after() -> None:
        client = await Client.connect(9092, "broker")
        with pytest.raises(AssertionError, match="KAFKA_STORAGE_ERROR"):
            await produce(client, b"refused")
        await asyncio.sleep(25)
        with pytest.raises(AssertionError, match="KAFKA_STORAGE_ERROR"):
            await produce(client, b"refused")
        files.fault = None
        await asyncio.sleep(INTERVAL_SECONDS + 1)
        assert await produce(client, b"second") == 1
        assert await fetch(client, 0) == [b"first", b"second"]
        await client.close()

    simulation.run(client_host, before())
    host.kill()
    files.kill()
    full(files, "/orders-0")
    start(simulation, host, files)
    simulation.run(client_host, after())


def test_a_new_partition_for_which_there_was_no_room_is_served_once_there_is(simulate: Simulate) -> None:
    simulation, files = simulate(2), MemoryFiles()
    start(simulation, simulation.host("broker"), files)

    async def talk() -> None:
        client = await Client.connect(9092, "broker")
        full(files, "/orders-0")
        await create(client)
        with pytest.raises(AssertionError, match="KAFKA_STORAGE_ERROR"):
            await produce(client, b"refused")
        files.fault = None
        await asyncio.sleep(INTERVAL_SECONDS + 1)
        assert await produce(client, b"first") == 0
        await client.close()

    simulation.run(simulation.host("client"), talk())


def test_the_directory_of_a_partition_that_was_made_late_is_reported(simulate: Simulate) -> None:
    """It was not reported: had the directory failed, no other broker would have led the partition."""
    simulation, files = simulate(3), MemoryFiles()
    broker = start(simulation, simulation.host("broker"), files, "/data,/more")

    async def talk() -> None:
        client = await Client.connect(9092, "broker")
        full(files, "/orders-0")
        await create(client)
        files.fault = None
        await asyncio.sleep(INTERVAL_SECONDS + 1)
        assert await produce(client, b"first") == 0
        await client.close()

    simulation.run(simulation.host("client"), talk())
    node, replicas = broker.inspect()
    assert node is not None and replicas is not None
    parent = replicas.partition("orders", 0).log.directory.rpartition("/")[0]
    reported = replicas.metadata.image.partition("orders", 0)
    assert reported is not None and reported.directories == (node.identity.directories[parent],)
