"""Many clients that pipeline, and one that does not: whose request is handled next, counted in turns of the loop.

The timer stands still unless a handler moves it, so what is counted does not depend on the machine.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network import Server
from broadsheet_broker.network.connection import KafkaConnection
from broadsheet_broker.network.turns import REQUEST_SECONDS, SLICE_SECONDS, TURN_SECONDS, Turns
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from tests.network.support import HEARTBEAT
from tests.support.network import api, frame, make_config, make_server

CHEAP = 1
"""The generation of a request that takes little time."""


class Loop:
    """Callbacks, by turns."""

    def __init__(self) -> None:
        self.due: deque[Callable[[], None]] = deque()

    def turn(self) -> None:
        for _ in range(len(self.due)):
            self.due.popleft()()


class Customer:
    """Something to serve: each of its slices takes `seconds`, `slices` are left."""

    def __init__(self, turns: Turns, name: str, seconds: float, slices: int, served: list[str]) -> None:
        self.closed = False
        self.queued = False
        self.virtual_time = 0.0
        self._turns = turns
        self._name = name
        self._seconds = seconds
        self.slices = slices
        self._served = served

    def serve(self) -> None:
        self._served.append(self._name)
        self._turns.charge(self, self._seconds)
        self.slices -= 1
        if self.slices:
            self._turns.add(self)


def test_who_has_had_less_is_next() -> None:
    loop = Loop()
    turns = Turns(loop.due.append)
    served: list[str] = []
    for number in range(20):
        turns.add(Customer(turns, f"greedy-{number}", 0.015, 100, served))
    for _ in range(60):
        loop.turn()
    assert len(served) == 60  # each turn of the loop has one: a slice is longer than a turn
    assert set(Counter(served).values()) == {3}
    turns.add(Customer(turns, "modest", 0.001, 1, served))
    loop.turn()
    assert served[60] == "modest"


def test_one_that_was_away_has_saved_nothing_up() -> None:
    loop = Loop()
    turns = Turns(loop.due.append)
    served: list[str] = []
    turns.add(Customer(turns, "first", 0.004, 1000, served))
    for _ in range(500):
        loop.turn()
    turns.add(Customer(turns, "second", 0.004, 1000, served))
    for _ in range(100):
        loop.turn()
    assert 48 <= Counter(served)["second"] <= 53


def test_a_turn_is_bounded_by_cost_and_nothing_is_forgotten() -> None:
    loop = Loop()
    turns = Turns(loop.due.append)
    served: list[str] = []
    customers = [Customer(turns, str(number), SLICE_SECONDS, 10, served) for number in range(50)]
    for customer in customers:
        turns.add(customer)
        turns.add(customer)  # it is in the queue once
    before = 0
    while loop.due:
        loop.turn()
        assert len(served) - before <= TURN_SECONDS / SLICE_SECONDS + 1
        before = len(served)
    assert len(served) == 500
    assert not len(turns)


def test_connections_that_are_gone_are_not_served() -> None:
    loop = Loop()
    turns = Turns(loop.due.append)
    served: list[str] = []
    gone = Customer(turns, "gone", 0.001, 5, served)
    turns.add(gone)
    gone.closed = True
    turns.add(Customer(turns, "here", 0.001, 1, served))
    loop.turn()
    assert served == ["here"]


class Transport:
    """A socket that takes everything."""

    def __init__(self) -> None:
        self.answers = 0
        self.reading = True
        self.host = "10.0.0.1"

    def get_extra_info(self, name: str) -> Any:
        return (self.host, 5000) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        return

    def write(self, data: bytes) -> None:
        self.answers += 1

    def writelines(self, buffers: Any) -> None:
        self.answers += 1

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        return

    abort = close


class Bench:
    """A server whose handler takes a given time of the timer, and connections without sockets."""

    def __init__(self, seconds: float) -> None:
        self.time = 100.0
        self.seconds = seconds
        self.handled: list[KafkaConnection] = []
        self.loop = asyncio.new_event_loop()
        environment = Environment(self.loop, timer=lambda: self.time)
        config = make_config("broadsheet.connection.max.requests=100000")
        self.server: Server = make_server(environment, [api(HEARTBEAT, self._handle)], config)

    def _handle(self, services: Any, request: Request[HeartbeatRequest]) -> None:
        connection = request.connection
        assert isinstance(connection, KafkaConnection)
        self.handled.append(connection)
        self.time += 0.0001 if request.body.generation_id == CHEAP else self.seconds
        request.answer(HeartbeatResponse())

    def connect(self) -> tuple[KafkaConnection, Transport]:
        connection, transport = KafkaConnection(self.server, "PLAINTEXT"), Transport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport

    def send(self, connection: KafkaConnection, requests: int, kind: int = 0) -> None:
        data = frame(HEARTBEAT, 4, 1, HeartbeatRequest(generation_id=kind)) * requests
        while data:
            buffer = connection.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            del buffer
            data = data[size:]
            connection.buffer_updated(size)

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(0.015)
    yield bench
    bench.loop.close()


def test_twenty_that_pipeline_a_hundred_requests_keep_nobody_waiting(bench: Bench) -> None:
    """They once had all two thousand handled before anybody else's first."""
    greedy = [bench.connect()[0] for _ in range(20)]
    modest, transport = bench.connect()
    for connection in greedy:
        bench.send(connection, 100)
    assert len(bench.handled) <= 2  # the rest of this turn of the loop is for others
    for _ in range(20):  # each of them has had something
        bench.turn()
    for _ in range(30):
        before, answers = len(bench.handled), transport.answers
        bench.send(modest, 1, CHEAP)
        for _ in range(2):
            bench.turn()
        assert transport.answers == answers + 1
        assert len(bench.handled) - before <= 3
    shares = Counter(bench.handled)
    assert max(shares[connection] for connection in greedy) - min(shares[connection] for connection in greedy) <= 1
    while len(bench.server.turns):
        bench.turn()
    assert len(bench.handled) == 20 * 100 + 30


def test_a_connection_that_ends_has_none_of_its_further_requests_handled(bench: Bench) -> None:
    connection, _ = bench.connect()
    bench.send(connection, 1000)
    bench.turn()
    handled = len(bench.handled)
    assert handled < 10
    connection.connection_lost(None)
    for _ in range(10):
        bench.turn()
    assert len(bench.handled) == handled
    assert bench.server.queued_bytes == 0


def test_requests_that_take_no_time_are_handled_at_once_up_to_a_number() -> None:
    """In a simulation no time passes within a turn, which would make it endless."""
    bench = Bench(0.0)
    connection, _ = bench.connect()
    bench.send(connection, 1500)
    before = len(bench.handled)
    assert 50 <= before < 1500
    turns = 0
    while len(bench.handled) < 1500:
        bench.turn()
        turns += 1
        assert len(bench.handled) - before <= TURN_SECONDS / REQUEST_SECONDS + 100
        before = len(bench.handled)
    assert turns >= 3
    bench.loop.close()


def test_what_a_queued_connection_sends_is_bounded_by_its_buffer(bench: Bench) -> None:
    connection, transport = bench.connect()
    size = len(frame(HEARTBEAT, 4, 1, HeartbeatRequest()))
    data = frame(HEARTBEAT, 4, 1, HeartbeatRequest()) * 10_000
    while transport.reading:
        buffer = connection.get_buffer(-1)
        piece = min(len(buffer), len(data))
        buffer[:piece] = data[:piece]
        del buffer
        data = data[piece:]
        connection.buffer_updated(piece)
    while len(bench.server.turns):
        bench.turn()
    assert transport.reading  # and goes on when the buffer is worked off
    assert len(bench.handled) == (10_000 * size - len(data)) // size
