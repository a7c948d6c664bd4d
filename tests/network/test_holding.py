"""Requests that hold up the later ones of their connection, and only those."""

from __future__ import annotations

import asyncio
from typing import Any

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network.connection import KafkaConnection
from broadsheet_broker.seams.buffers import CHUNK
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from tests.network.support import HEARTBEAT, Run, serve
from tests.support.network import Client, api, frame
from tests.support.waiting import until

HOLDS = 1
"""The generation of a request that is held."""


class Holding:
    """A handler that holds requests of generation 1 and answers all others at once."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.held: list[Request[HeartbeatRequest]] = []

    def __call__(self, services: Any, request: Request[HeartbeatRequest]) -> None:
        self.handled.append(request.correlation_id)
        if request.body.generation_id == HOLDS:
            request.hold()
            self.held.append(request)
        else:
            request.answer(HeartbeatResponse())


def beat(number: int, *, hold: bool = False, padding: int = 0) -> bytes:
    body = HeartbeatRequest(generation_id=HOLDS if hold else 0, group_id="g" * padding)
    return frame(HEARTBEAT, 4, number, body)


async def number_of_answer(client: Client) -> int:
    return (await client.receive_message(HEARTBEAT, 4))[0]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_held_request_keeps_those_behind_it_waiting_and_nobody_else(run: Run) -> None:
    holding = Holding()

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, holding))
        other = await Client.connect(server.bound_ports["PLAINTEXT"])
        client.send(beat(0) + beat(1, hold=True) + beat(2) + beat(3))
        assert await number_of_answer(client) == 0
        for number in range(10, 15):
            other.send(beat(number))
            assert await number_of_answer(other) == number
        assert holding.handled == [0, 1, 10, 11, 12, 13, 14]
        holding.held[0].answer(HeartbeatResponse())
        assert [await number_of_answer(client) for _ in range(3)] == [1, 2, 3]
        await client.close()
        await other.close()
        await server.stop()

    run(work())


def test_a_released_request_may_wait_for_its_answer_while_later_ones_are_handled(run: Run) -> None:
    holding = Holding()

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, holding))
        client.send(beat(1, hold=True) + beat(2, hold=True) + beat(3))
        for number in (1, 2):
            await until(lambda number=number: len(holding.held) == number)
            request = holding.held[-1]
            request.hold()  # a second time is the same
            await turns()
            assert holding.handled == [1, 2][:number]
            request.release()
            assert holding.handled == [1, 2][:number]  # never within the caller's own turn
            request.release()
        await until(lambda: holding.handled == [1, 2, 3])
        holding.held[1].answer(HeartbeatResponse())
        holding.held[0].answer(HeartbeatResponse())
        assert [await number_of_answer(client) for _ in range(3)] == [1, 2, 3]
        await client.close()
        await server.stop()

    run(work())


def test_a_request_that_is_released_at_once_holds_nothing_up(run: Run) -> None:
    handled: list[int] = []

    def blink(services: Any, request: Request[HeartbeatRequest]) -> None:
        handled.append(request.correlation_id)
        request.hold()
        request.release()
        request.answer(HeartbeatResponse())
        request.hold()  # answered: there is nothing to hold

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, blink))
        client.send(beat(0) + beat(1) + beat(2))
        assert [await number_of_answer(client) for _ in range(3)] == [0, 1, 2]
        assert not server.paused
        await client.close()
        await server.stop()

    run(work())


def test_a_handler_that_fails_while_it_holds_releases(run: Run) -> None:
    def fail(services: Any, request: Request[HeartbeatRequest]) -> None:
        if request.body.generation_id == HOLDS:
            request.hold()
            raise ValueError("rain")
        request.answer(HeartbeatResponse())

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, fail))
        client.send(beat(1, hold=True) + beat(2))
        assert [await number_of_answer(client) for _ in range(2)] == [1, 2]
        await client.close()
        await server.stop()

    run(work())


def test_what_arrives_behind_a_held_request_is_bounded_by_one_buffer(run: Run) -> None:
    holding = Holding()
    count = 4000

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, holding))
        client.send(beat(0, hold=True))
        await until(lambda: bool(holding.held))
        connection: KafkaConnection = next(iter(server.connections))
        client.send(b"".join(beat(number, padding=1000) for number in range(1, count)))
        await until(lambda: connection in server.paused)
        await turns(50)
        assert holding.handled == [0]
        assert connection._received.buffer_bytes == CHUNK
        holding.held[0].release()
        await until(lambda: len(holding.handled) >= 2)
        holding.held[0].answer(HeartbeatResponse())
        assert [await number_of_answer(client) for _ in range(count)] == list(range(count))
        await client.close()
        await server.stop()

    run(work())


def test_a_connection_that_ends_while_its_request_is_held_leaves_nothing_behind(run: Run) -> None:
    holding = Holding()

    async def work() -> None:
        server, client = await serve(api(HEARTBEAT, holding))
        client.send(beat(0, hold=True) + beat(1))
        await until(lambda: bool(holding.held and server.paused))
        next(iter(server.connections)).abort()
        await until(lambda: not server.connections)
        holding.held[0].release()
        await turns()
        holding.held[0].answer(HeartbeatResponse())
        await turns()
        assert holding.handled == [0]
        assert not server.paused and server.queued_bytes == 0
        await client.close()
        await server.stop()

    run(work())
