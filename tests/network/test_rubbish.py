"""A client that sends rubbish loses its connection and nothing else, and costs bounded memory."""

from __future__ import annotations

import asyncio
import logging
import random
import struct
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network import Server
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from tests.support.network import Client, api, frame, make_config, make_server
from tests.support.waiting import until

HEARTBEAT = 12
GOOD = frame(HEARTBEAT, 4, 1, HeartbeatRequest(group_id="g", member_id="m"))


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work, 30))


def answer(services: Any, request: Request[Any]) -> None:
    request.answer(HeartbeatResponse())


async def serve(*overrides: str) -> tuple[Server, Client]:
    environment = Environment(asyncio.get_running_loop())
    server = make_server(environment, [api(HEARTBEAT, answer)], make_config(*overrides))
    await server.start()
    return server, await Client.connect(server.bound_ports["PLAINTEXT"])


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS hello
        struct.pack(">i", -1) + bytes(10),
        struct.pack(">i", 0),
        struct.pack(">i", 7) + bytes(7),
        struct.pack(">i", 8) + struct.pack(">hhi", HEARTBEAT, 4, 1),
        struct.pack(">i", 2**31 - 1) + bytes(100),
        struct.pack(">i", 104857601),
        GOOD[:12] + struct.pack(">h", 30000) + GOOD[14:],  # a client id longer than the request
        GOOD[:14] + b"\xff\xff\xff\xff\xff" + GOOD[19:],  # a client id that is not UTF-8
        GOOD[:19] + b"\xff\xff\xff\xff\x7f" + GOOD[24:],  # tagged fields without end
        GOOD[:20] + b"\xff" * (len(GOOD) - 20),
    ],
)
def test_it_loses_its_connection_and_nobody_else_does(rubbish: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        server, good = await serve()
        await good.call(HEARTBEAT, 4, HeartbeatRequest())
        bad = await Client.connect(server.bound_ports["PLAINTEXT"])
        bad.send(GOOD)
        await bad.receive()
        with caplog.at_level(logging.INFO):
            bad.send(rubbish)
            assert await bad.ended()
        assert len([record for record in caplog.records if "closing the connection" in record.message]) == 1
        await good.call(HEARTBEAT, 4, HeartbeatRequest())
        await good.close()
        await server.stop()

    run(work())


def test_random_bytes_behind_good_requests() -> None:
    chance = random.Random(4)

    async def work() -> None:
        server, good = await serve()
        for _ in range(150):
            bad = await Client.connect(server.bound_ports["PLAINTEXT"])
            data = bytearray(GOOD * 3)
            for _ in range(chance.randint(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            bad.send(bytes(data[: chance.randint(1, len(data))]))
            bad.writer.write_eof()
            await bad.reader.read()
            await bad.close()
        await good.call(HEARTBEAT, 4, HeartbeatRequest())
        await good.close()
        await until(lambda: not server.connections)
        assert server.queued_bytes == 0
        await server.stop()

    run(work())


def test_announced_sizes_cost_nothing_until_the_bytes_come() -> None:
    """A hundred clients announce 100 MB each and send a little of it."""

    async def work() -> None:
        server, good = await serve()
        dawdlers = [await Client.connect(server.bound_ports["PLAINTEXT"]) for _ in range(100)]
        for client in dawdlers:
            client.send(struct.pack(">i", 100_000_000) + bytes(5000))
        await until(lambda: sum(c._received.end > 5000 for c in server.connections) == 100)
        assert max(c._received.buffer_bytes for c in server.connections) <= 3 * 1024 * 1024
        await good.call(HEARTBEAT, 4, HeartbeatRequest())
        for client in (*dawdlers, good):
            await client.close()
        await server.stop()

    run(work())


def test_slow_clients_hold_little_memory_and_end_when_idle() -> None:
    async def work() -> None:
        server, good = await serve("connections.max.idle.ms=3000")
        dawdlers = [await Client.connect(server.bound_ports["PLAINTEXT"]) for _ in range(50)]
        for client in dawdlers:
            client.send(GOOD[:9])
        await until(lambda: sum(c._received.end == 9 for c in server.connections) == 50)
        for connection in server.connections:
            connection.shrink()
        assert all(c._received.buffer_bytes <= 1024 for c in server.connections)
        for client in dawdlers:
            client.send(GOOD[9:])
            await client.receive()
        assert all(c._received.buffer_bytes == 0 for c in server.connections)
        for client in dawdlers:
            client.send(GOOD[:9])
        for client in dawdlers:
            assert await client.ended()
        await good.close()
        await server.stop()

    run(work())
