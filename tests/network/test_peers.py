"""The client for other nodes, on real sockets and on simulated ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from broadsheet_broker.network.peers import NodePeers
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.messages.fetch_request import FetchRequest
from broadsheet_broker.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, PartitionData
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from broadsheet_broker.wire.peers import Address, PeerError
from tests.support.network import api, make_config, make_server
from tests.support.simulated_loop import Simulation
from tests.support.waiting import until

HEARTBEAT, FETCH = 12, 1

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(work, 20))

    return run


class Answers:
    """Collects what comes back, in order."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._more = asyncio.Event()

    def __call__(self, answer: Any, error: PeerError | None) -> None:
        assert (answer is None) != (error is None)
        self.found.append(answer if error is None else error)
        self._more.set()

    async def wait(self, count: int) -> list[Any]:
        async with asyncio.timeout(20):
            while len(self.found) < count:
                self._more.clear()
                await self._more.wait()
        return self.found

    @property
    def kinds(self) -> list[str]:
        return [item.kind if isinstance(item, PeerError) else "answer" for item in self.found]


def echo(services: Any, request: Any) -> None:
    request.answer(HeartbeatResponse(throttle_time_ms=request.body.generation_id))


def large(services: Any, request: Any) -> None:
    size = request.body.max_bytes
    row = PartitionData(records=bytes([size % 251]) * size)
    request.answer(FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=[row])]))


def ask(number: int = 1) -> HeartbeatRequest:
    return HeartbeatRequest(group_id="g", generation_id=number, member_id="m")


async def start(environment: Environment, handler: Any = echo, *, host: str = "127.0.0.1", port: int = 0) -> Any:
    server = make_server(environment, [api(HEARTBEAT, handler), api(FETCH, large)], make_config(host=host, port=port))
    await server.start()
    return server, Address(host, server.bound_ports["PLAINTEXT"])


def test_answers_come_back_in_order_and_never_inside_the_call(run: Run) -> None:
    async def story() -> None:
        environment = Environment(asyncio.get_running_loop())
        server, address = await start(environment)
        peers, answers = NodePeers(environment, "broker-1"), Answers()
        for number in range(100):
            peers.send(2, address, ask(number), 4, answers, timeout=5)
        assert answers.found == []
        found = await answers.wait(100)
        assert [answer.throttle_time_ms for answer in found] == list(range(100))
        assert len(server.connections) == 1
        peers.send(2, address, ask(), 4, answers, timeout=5, lane="fetch-0")
        await answers.wait(101)
        assert len(server.connections) == 2
        await peers.close()
        await server.stop()

    run(story())


@pytest.mark.parametrize("sizes", [[10, 20_000, 3, 1_000_000, 16_300, 16_384, 5]])
def test_long_and_short_answers_keep_their_memory(run: Run, sizes: list[int]) -> None:
    async def story() -> None:
        environment = Environment(asyncio.get_running_loop())
        server, address = await start(environment)
        peers, answers = NodePeers(environment, "broker-1"), Answers()
        for size in sizes:
            peers.send(2, address, FetchRequest(max_bytes=size), 11, answers, timeout=5)
        for size, answer in zip(sizes, await answers.wait(len(sizes)), strict=True):
            assert bytes(answer.responses[0].partitions[0].records) == bytes([size % 251]) * size
        await peers.close()
        await server.stop()

    run(story())


def test_nobody_listens(run: Run) -> None:
    async def story() -> None:
        environment = Environment(asyncio.get_running_loop())
        server, address = await start(environment)
        await server.stop()
        peers, answers = NodePeers(environment, "broker-1"), Answers()
        peers.send(2, Address("localhost", address.port), ask(), 4, answers, timeout=5)
        peers.send(3, Address("no-such-host.invalid", 9092), ask(), 4, answers, timeout=5)
        await answers.wait(2)
        assert sorted(answers.kinds) == ["refused", "timeout"]
        await peers.close()

    run(story())


def test_a_request_that_is_not_answered_in_time_takes_those_behind_it_along(run: Run) -> None:
    async def story() -> None:
        environment = Environment(asyncio.get_running_loop())
        silent = True

        def handler(services: Any, request: Any) -> None:
            if not silent:
                echo(services, request)

        server, address = await start(environment, handler)
        peers, answers = NodePeers(environment, "broker-1"), Answers()
        peers.send(2, address, ask(), 4, answers, timeout=0.05)
        peers.send(2, address, ask(), 4, answers, timeout=60)
        await answers.wait(2)
        assert answers.kinds == ["timeout", "closed"]
        silent = False
        peers.send(2, address, ask(), 4, answers, timeout=5)
        await answers.wait(3)
        assert answers.kinds[2] == "answer"
        await peers.close()
        await server.stop()

    run(story())


def test_disconnect_and_close_end_what_waits(run: Run) -> None:
    async def story() -> None:
        environment = Environment(asyncio.get_running_loop())
        arrived = asyncio.Event()
        server, address = await start(environment, lambda services, request: arrived.set())
        peers, answers = NodePeers(environment, "broker-1"), Answers()
        peers.send(2, address, ask(), 4, answers, timeout=60)
        async with asyncio.timeout(20):
            await arrived.wait()
        peers.disconnect(2)
        peers.send(3, address, ask(), 4, answers, timeout=60)
        await peers.close()
        peers.send(3, address, ask(), 4, answers, timeout=60)
        await answers.wait(3)
        assert answers.kinds == ["closed"] * 3
        await server.stop()

    run(story())


def test_something_that_does_not_speak_kafka(run: Run) -> None:
    async def story() -> None:
        environment = Environment(asyncio.get_running_loop())

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        peers, answers = NodePeers(environment, "broker-1"), Answers()
        peers.send(2, address, ask(), 4, answers, timeout=5)
        await answers.wait(1)
        assert answers.kinds == ["protocol"]
        await peers.close()
        server.close()
        await server.wait_closed()

    run(story())


def test_a_killed_process_resets_and_then_refuses() -> None:
    simulation = Simulation(4)
    one, other = simulation.host("one"), simulation.host("other")
    answers = Answers()

    async def begin() -> Any:
        return await start(one.environment(None), lambda services, request: None, host="one", port=9092)  # type: ignore[arg-type]

    simulation.run(one, begin())
    peers = NodePeers(other.environment(None), "broker-2")  # type: ignore[arg-type]

    async def first() -> None:
        peers.send(1, Address("one", 9092), ask(), 4, answers, timeout=60)
        await asyncio.sleep(1)

    async def wait(count: int) -> None:
        if count > 1:
            peers.send(1, Address("one", 9092), ask(), 4, answers, timeout=60)
        await answers.wait(count)

    simulation.run(other, first())
    one.kill()
    simulation.run(other, wait(1))
    simulation.run(other, wait(2))
    assert answers.kinds == ["reset", "refused"]
    simulation.end()


def test_a_silent_machine_is_reached_again() -> None:
    simulation = Simulation(5)
    one, other = simulation.host("one"), simulation.host("other")
    answers = Answers()

    async def begin() -> Any:
        return await start(one.environment(None), host="one", port=9092)  # type: ignore[arg-type]

    simulation.run(one, begin())
    peers = NodePeers(other.environment(None), "broker-2")  # type: ignore[arg-type]
    simulation.network.cut(one, other)

    async def call() -> None:
        count = len(answers.found) + 1
        peers.send(1, Address("one", 9092), ask(), 4, answers, timeout=10)
        await answers.wait(count)

    simulation.run(other, call())
    assert answers.kinds == ["timeout"]
    simulation.network.heal()
    simulation.run(other, call())
    assert answers.kinds == ["timeout", "answer"]
    simulation.end()


def test_requests_that_wait_for_one_node_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadsheet_broker.network.peers.MOST_WAITING", 3)
    held: list[Any] = []

    async def story() -> None:
        environment = Environment(asyncio.get_running_loop())
        server, address = await start(environment, lambda services, request: held.append(request))
        peers, answers, others = NodePeers(environment, "broker-1"), Answers(), Answers()
        for number in range(5):  # not connected yet
            peers.send(2, address, ask(number), 4, answers, timeout=5)
        found = await answers.wait(2)
        assert answers.kinds == ["closed", "closed"]
        assert "3 earlier requests wait for an answer" in str(found[0])
        await until(lambda: len(held) == 3)
        peers.send(2, address, ask(), 4, answers, timeout=5)  # all of them in flight
        await answers.wait(3)
        peers.send(2, address, ask(9), 4, others, timeout=5, lane="another")
        await until(lambda: len(held) == 4)
        for request in held:
            echo(None, request)
        await answers.wait(6)
        await others.wait(1)
        assert answers.kinds == ["closed"] * 3 + ["answer"] * 3
        await peers.close()
        await server.stop()

    run(story())
