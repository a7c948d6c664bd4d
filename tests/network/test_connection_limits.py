"""What a client can make a server hold, over real sockets: requests, answers, handlers and connections are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network import Server
from broadsheet_broker.network.connection import WRITE_HIGH_WATER
from broadsheet_broker.wire.api_messages import response_class
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse
from tests.network.support import Run, echo_generation, serve
from tests.support.network import Client, api, frame
from tests.support.waiting import until

PRODUCE, SYNC_GROUP, HEARTBEAT, API_VERSIONS, CREATE_TOPICS = 0, 14, 12, 18, 19
BROKER_HEARTBEAT = 63


def test_parked_requests_hear_that_their_client_is_gone(run: Run) -> None:
    held: list[Request[HeartbeatRequest]] = []
    gone: list[int] = []

    def park(services: Any, request: Request[HeartbeatRequest]) -> None:
        held.append(request)
        number = request.body.generation_id
        request.on_gone = lambda: gone.append(number) if number != 2 else gone.append(1 // 0)

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, park))
        client.send(b"".join(frame(HEARTBEAT, 4, n, HeartbeatRequest(generation_id=n)) for n in range(4)))
        await until(lambda: len(held) == 4)
        held[0].answer(HeartbeatResponse())
        held[3].answer(HeartbeatResponse())  # answered, and not out yet: those before it are missing
        await client.receive_message(HEARTBEAT, 4)
        await client.close()
        await until(lambda: not server.connections)
        assert gone == [1]  # the defect of request 2 harms nobody
        await server.stop()

    run(work())


def test_handlers_that_wait_are_bounded(run: Run) -> None:
    wanted = asyncio.Event()

    async def wait(services: Any, request: Request[HeartbeatRequest]) -> None:
        await wanted.wait()
        request.answer(HeartbeatResponse())

    async def work() -> None:
        server, gone = await serve(api(HEARTBEAT, wait))
        server._dispatcher.most_tasks = 3
        gone.send(b"".join(frame(HEARTBEAT, 4, n, HeartbeatRequest()) for n in range(3)))
        await until(lambda: server.queued_bytes > 0)
        await gone.close()  # its handlers still wait
        client = await Client.connect(server.bound_ports["PLAINTEXT"])
        client.send(frame(HEARTBEAT, 4, 7, HeartbeatRequest()))
        _, answer = await client.receive_message(HEARTBEAT, 4)
        assert answer.error_code == ErrorCode.REQUEST_TIMED_OUT
        wanted.set()
        while answer.error_code:  # until the handlers have ended
            client.send(frame(HEARTBEAT, 4, 8, HeartbeatRequest()))
            _, answer = await client.receive_message(HEARTBEAT, 4)
        await client.close()
        await server.stop()

    run(work())


def test_clients_that_wait_keep_no_heartbeat_of_a_broker_out(run: Run) -> None:
    async def answer(services: Any, request: Request[Any]) -> None:
        request.answer(response_class(request.api_key)())

    async def work() -> None:
        server, client = await serve(api(BROKER_HEARTBEAT, answer), api(CREATE_TOPICS, answer))
        server._dispatcher.most_tasks = 0
        controller = await Client.connect(server.bound_ports["CONTROLLER"])
        client.send(frame(CREATE_TOPICS, 7, 1, CreateTopicsRequest(topics=[CreatableTopic(name="orders")])))
        _, refused = await client.receive_message(CREATE_TOPICS, 7)
        assert refused.topics[0].error_code == ErrorCode.REQUEST_TIMED_OUT
        controller.send(frame(BROKER_HEARTBEAT, 1, 2, BrokerHeartbeatRequest()))
        _, heard = await controller.receive_message(BROKER_HEARTBEAT, 1)
        assert heard.error_code == ErrorCode.NONE
        await client.close()
        await controller.close()
        await server.stop()

    run(work())


def test_a_client_that_does_not_read_is_not_read_either(run: Run) -> None:
    """Its requests wait in its socket, and the server holds a bounded number of answers."""
    answered = 0

    def answer(services: Any, request: Request[SyncGroupRequest]) -> None:
        nonlocal answered
        answered += 1
        request.answer(SyncGroupResponse(assignment=bytes(100_000)))

    async def work() -> None:
        server, client = await serve(api(SYNC_GROUP, answer))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 2000
        client.send(b"".join(frame(SYNC_GROUP, 5, n, SyncGroupRequest()) for n in range(count)))
        connection = await only_connection(server)
        before = -1
        while answered > before:
            before = answered
            for _ in range(50):
                await asyncio.sleep(0.001)
        assert answered < count
        transport: Any = connection._transport
        assert transport.get_write_buffer_size() < WRITE_HIGH_WATER + 1_000_000
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for n in range(count):
            assert (await client.receive_message(SYNC_GROUP, 5))[0] == n
        await client.close()
        await server.stop()

    run(work())


async def only_connection(server: Server) -> Any:
    await until(lambda: bool(server.connections))
    (connection,) = server.connections
    return connection


def test_only_so_many_requests_of_a_connection_are_taken_at_a_time(run: Run) -> None:
    held: list[Request[Any]] = []

    def hold(services: Any, request: Request[Any]) -> None:
        held.append(request)

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, hold), overrides=("broadsheet.connection.max.requests=3",))
        client.send(b"".join(frame(HEARTBEAT, 4, n, HeartbeatRequest()) for n in range(10)))
        for n in range(10):
            await until(lambda n=n: len(held) >= min(n + 3, 10))
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(held) == min(n + 3, 10)
            held[n].answer(HeartbeatResponse())
            assert (await client.receive_message(HEARTBEAT, 4))[0] == n
        await client.close()
        await server.stop()

    run(work())


def test_only_so_many_bytes_of_all_connections_are_taken_at_a_time(run: Run) -> None:
    held: list[Request[Any]] = []

    def hold(services: Any, request: Request[Any]) -> None:
        held.append(request)

    async def work() -> None:
        limits = ("socket.request.max.bytes=1000", "queued.max.request.bytes=1000")
        server, first = await serve(api(HEARTBEAT, hold), overrides=limits)
        second = await Client.connect(server.bound_ports["PLAINTEXT"])
        body = HeartbeatRequest(group_id="g" * 600)
        first.send(frame(HEARTBEAT, 4, 0, body) * 2)
        await until(lambda: len(held) >= 2)
        for number in (3, 4):
            second.send(frame(HEARTBEAT, 4, 0, body))
            await until(lambda: bool(server.paused))
            assert len(held) == number - 1
            held[number - 3].answer(HeartbeatResponse())
            await until(lambda number=number: len(held) >= number)
        for request in held[2:]:
            request.answer(HeartbeatResponse())
        await second.receive()
        await second.receive()
        assert server.queued_bytes == 0
        await first.close()
        await second.close()
        await server.stop()

    run(work())


def test_connections_above_the_limits_are_closed_at_once(run: Run) -> None:
    async def work() -> None:
        server, first = await serve(api(HEARTBEAT, echo_generation), overrides=("max.connections.per.ip=2",))
        await first.call(HEARTBEAT, 4, HeartbeatRequest())
        second = await Client.connect(server.bound_ports["PLAINTEXT"])
        await second.call(HEARTBEAT, 4, HeartbeatRequest())
        third = await Client.connect(server.bound_ports["PLAINTEXT"])
        assert await third.ended()
        await second.close()
        await until(lambda: len(server.connections) <= 1)
        fourth = await Client.connect(server.bound_ports["PLAINTEXT"])
        await fourth.call(HEARTBEAT, 4, HeartbeatRequest())
        for client in (first, fourth):
            await client.close()
        await server.stop()

    run(work())


def test_many_clients_that_come_at_once_find_room_while_the_broker_is_busy(run: Run) -> None:
    """With Kafka's backlog of 50, each further connection waits until its SYN is sent again: a second, then two."""
    allowed = int(Path("/proc/sys/net/core/somaxconn").read_text())

    async def work() -> None:
        server, first = await serve()
        await first.close()
        count = min(400, allowed - 1)
        with contextlib.ExitStack() as clients:
            for _ in range(count):  # the loop has no turn meanwhile, so nothing is accepted
                address = ("127.0.0.1", server.bound_ports["PLAINTEXT"])
                clients.enter_context(socket.create_connection(address, 0.9))
            await until(lambda: len(server.connections) == count)
        await server.stop()

    run(work())


def test_idle_connections_are_closed_and_waiting_ones_are_not(run: Run) -> None:
    def hold(services: Any, request: Request[Any]) -> None:
        return

    async def work() -> None:
        server, waiting = await serve(api(HEARTBEAT, hold), overrides=("connections.max.idle.ms=200",))
        waiting.send(frame(HEARTBEAT, 4, 1, HeartbeatRequest()))
        idle = await Client.connect(server.bound_ports["PLAINTEXT"])
        assert await idle.ended()
        assert len(server.connections) == 1
        await waiting.close()
        await server.stop()

    run(work())
