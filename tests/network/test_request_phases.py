"""Where the time of a request goes, from its last byte to its answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from broadsheet_broker.apis.request import AT_WORK, Request
from broadsheet_broker.network import Server
from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.metrics import RequestTimes
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from tests.network.support import Run
from tests.support.network import Client, api, frame, make_config, make_server
from tests.support.waiting import until

HEARTBEAT, VERSION = 12, 4


TICK = 1 / 16384
"""Seconds between two looks at the timer: few enough for the requests of one read to share a slice."""


class Ticks:
    """A timer by which every look at it takes `TICK`."""

    def __init__(self) -> None:
        self._seconds: Iterator[int] = itertools.count(1)
        self.last = 0.0

    def __call__(self) -> float:
        self.last = next(self._seconds) * TICK
        return self.last


async def serve(handler: Any) -> tuple[Server, Client, RequestTimes, Ticks]:
    ticks = Ticks()
    environment = Environment(asyncio.get_running_loop(), timer=ticks)
    server = make_server(environment, [api(HEARTBEAT, handler)], make_config("connections.max.idle.ms=100000000"))
    await server.start()
    client = await Client.connect(server.bound_ports["PLAINTEXT"])
    return server, client, environment.metrics.request_times("Heartbeat"), ticks


def sums(times: RequestTimes) -> dict[str, float]:
    return {phase: latency.sum / TICK for phase, latency in times.phases()}


async def ask(client: Client, requests: int = 1) -> None:
    client.send(b"".join(frame(HEARTBEAT, VERSION, number, HeartbeatRequest()) for number in range(requests)))
    for _ in range(requests):
        await client.receive_message(HEARTBEAT, VERSION)


def test_a_request_that_is_answered_by_its_handler_waits_for_nothing(run: Run) -> None:
    def handle(services: Any, request: Request[HeartbeatRequest]) -> None:
        request.answer(HeartbeatResponse())

    async def work() -> None:
        server, client, times, _ = await serve(handle)
        await ask(client)
        # One look each: received and handled, ready, sent.
        assert sums(times) == {"queue": 0, "local": 1, "remote": 0, "response": 1}
        assert times.total.sum == 2 * TICK
        assert {phase: latency.count for phase, latency in times.phases()} == dict.fromkeys(sums(times), 1)
        await client.close()
        await server.stop()

    run(work())


def test_requests_of_one_read_queue_for_each_other(run: Run) -> None:
    def handle(services: Any, request: Request[HeartbeatRequest]) -> None:
        request.answer(HeartbeatResponse())

    async def work() -> None:
        server, client, times, _ = await serve(handle)
        await ask(client, 3)
        # Received at 0; handled at 0, 2, 4; ready at 1, 3, 5; sent together at 6.
        assert sums(times) == {"queue": 0 + 2 + 4, "local": 3, "remote": 0, "response": 5 + 3 + 1}
        await client.close()
        await server.stop()

    run(work())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_request_waits_from_the_return_of_its_handler(run: Run, asynchronous: bool) -> None:
    waiting: list[Request[HeartbeatRequest]] = []
    go_on = asyncio.Event()

    async def later(request: Request[HeartbeatRequest]) -> None:
        await go_on.wait()
        request.answer(HeartbeatResponse())

    def handle(services: Any, request: Request[HeartbeatRequest]) -> Any:
        waiting.append(request)
        return later(request) if asynchronous else None

    async def work() -> None:
        server, client, times, ticks = await serve(handle)
        asking = asyncio.ensure_future(ask(client))
        await until(lambda: bool(waiting))
        begun_to_wait = ticks.last - TICK  # the last look was at what the slice had cost
        for _ in range(10):
            ticks()
        if asynchronous:
            go_on.set()
        else:
            waiting[0].answer(HeartbeatResponse())
        await asking
        assert waiting[0].waits_since == begun_to_wait
        assert sums(times) == {"queue": 0, "local": 1, "remote": 12, "response": 1}
        await client.close()
        await server.stop()

    run(work())


def test_a_handler_that_works_on_after_its_return_does_not_wait(run: Run) -> None:
    waiting: list[Request[HeartbeatRequest]] = []

    def handle(services: Any, request: Request[HeartbeatRequest]) -> None:
        request.waits_since = AT_WORK
        waiting.append(request)

    async def work() -> None:
        server, client, times, ticks = await serve(handle)
        asking = asyncio.ensure_future(ask(client))
        await until(lambda: bool(waiting))
        ticks()
        waiting[0].answer(HeartbeatResponse())
        await asking
        assert sums(times) == {"queue": 0, "local": 3, "remote": 0, "response": 1}
        await client.close()
        await server.stop()

    run(work())
