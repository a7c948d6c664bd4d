"""The network room as it is, in the simulation: many seeds, delays, fragments, partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network import Server
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.messages.produce_response import ProduceResponse
from tests.support.memory_files import MemoryFiles
from tests.support.network import Client, api, frame, make_config, make_server
from tests.support.simulated_loop import Host, Simulation

Simulate = Callable[[int], Simulation]

PRODUCE, HEARTBEAT = 0, 12


def start(simulation: Simulation, host: Host, *apis: Any, overrides: tuple[str, ...] = ()) -> Server:
    config = make_config(*overrides, port=9092, host="")
    server = make_server(host.environment(MemoryFiles()), apis, config)
    simulation.run(host, server.start())
    return server


@pytest.mark.parametrize("seed", range(30))
def test_pipelined_requests_are_answered_in_order_whatever_the_handlers_do(simulate: Simulate, seed: int) -> None:
    simulation = simulate(seed)
    broker = simulation.host("broker")

    async def dawdle(services: Any, request: Request[HeartbeatRequest]) -> None:
        await asyncio.sleep(simulation.random.uniform(0, 0.01))
        request.answer(HeartbeatResponse(throttle_time_ms=request.body.generation_id))

    def at_once(services: Any, request: Request[ProduceRequest]) -> None:
        records = request.body.topic_data[0].partition_data[0].records
        assert records == bytes([request.correlation_id % 256]) * (request.correlation_id * 997 % 40_000)
        request.answer(ProduceResponse())

    def body(n: int) -> tuple[int, int, Any]:
        if n % 3 == 0:
            return HEARTBEAT, 4, HeartbeatRequest(generation_id=n)
        data = [PartitionProduceData(index=0, records=bytes([n % 256]) * (n * 997 % 40_000))]
        return PRODUCE, 9, ProduceRequest(acks=1, topic_data=[TopicProduceData(name="t", partition_data=data)])

    async def talk() -> None:
        client = await Client.connect(9092, "broker")
        for n in range(100):
            key, version, message = body(n)
            client.send(frame(key, version, n, message))
        for n in range(100):
            key, version, _ = body(n)
            assert (await client.receive_message(key, version))[0] == n
        await client.close()

    server = start(simulation, broker, api(HEARTBEAT, dawdle), api(PRODUCE, at_once))
    simulation.run(simulation.host("client"), talk())
    simulation.run_for(1)
    assert not server.connections
    assert server.queued_bytes == 0


def test_an_idle_connection_ends_after_its_time_and_a_partitioned_client_is_given_up(simulate: Simulate) -> None:
    simulation = simulate(3)
    broker, client = simulation.host("broker"), simulation.host("client")

    def answer(services: Any, request: Request[Any]) -> None:
        request.answer(HeartbeatResponse())

    server = start(simulation, broker, api(HEARTBEAT, answer), overrides=("connections.max.idle.ms=600000",))

    async def connect() -> Client:
        connection = await Client.connect(9092, "broker")
        await connection.call(HEARTBEAT, 4, HeartbeatRequest())
        return connection

    connection = simulation.run(client, connect())
    simulation.network.partition([broker], [client])
    simulation.run_for(599)
    assert len(server.connections) == 1
    simulation.run_for(10)
    assert not server.connections
    simulation.network.heal()
    assert simulation.run(client, connection.ended())


def test_a_killed_broker_comes_back_on_its_port(simulate: Simulate) -> None:
    simulation = simulate(4)
    broker, client = simulation.host("broker"), simulation.host("client")

    def answer(services: Any, request: Request[Any]) -> None:
        request.answer(HeartbeatResponse())

    async def call() -> None:
        connection = await Client.connect(9092, "broker")
        await connection.call(HEARTBEAT, 4, HeartbeatRequest())
        await connection.close()

    start(simulation, broker, api(HEARTBEAT, answer))
    simulation.run(client, call())
    broker.kill()
    with pytest.raises(ConnectionRefusedError):
        simulation.run(client, call())
    start(simulation, broker, api(HEARTBEAT, answer))
    simulation.run(client, call())
