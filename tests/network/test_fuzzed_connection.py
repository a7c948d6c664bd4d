"""Any bytes, in any pieces: the connection answers, waits or closes, and never raises into the loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.apis import load
from broadsheet_broker.network import Server
from broadsheet_broker.network.connection import KafkaConnection
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.api_messages import request_class
from tests.support.network import frame, make_config


class Transport:
    """What a connection needs of one; keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.1", 5000) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        return

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, buffers: Any) -> None:
        for data in buffers:
            self.written += data

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def close(self) -> None:
        self.closing = True

    abort = close


@pytest.fixture(scope="module")
def server() -> Any:
    """Every handler, with services that are empty: each fails when it uses one."""
    logging.getLogger("broadsheet_broker").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    yield Server(Environment(loop), make_config(), SimpleNamespace(), load())  # type: ignore[arg-type]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    logging.getLogger("broadsheet_broker").setLevel(logging.NOTSET)


def feed(server: Server, data: bytes, cuts: list[int]) -> Transport:
    connection, transport = KafkaConnection(server, "PLAINTEXT"), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(edges):
        rest = data[start:stop]
        while rest and not transport.closing:
            buffer = connection.get_buffer(-1)
            size = min(len(buffer), len(rest))
            assert size > 0
            buffer[:size] = rest[:size]
            connection.buffer_updated(size)
            rest = rest[size:]
    server.loop.run_until_complete(asyncio.sleep(0))
    connection.connection_lost(None)
    assert server.queued_bytes == 0
    assert not server.connections
    return transport


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.binary(max_size=300), CUTS)
def test_any_bytes(server: Server, data: bytes, cuts: list[int]) -> None:
    feed(server, data, cuts)


@given(st.data(), CUTS)
def test_any_body_of_any_api(server: Server, data: st.DataObject, cuts: list[int]) -> None:
    api = data.draw(st.sampled_from(sorted(load().values(), key=lambda api: api.key)))
    version = data.draw(st.integers(api.lowest, api.highest))
    bodies = data.draw(st.lists(st.binary(max_size=120), min_size=1, max_size=3))
    feed(server, b"".join(frame(api.key, version, 1, body) for body in bodies), cuts)


@given(st.data(), CUTS)
def test_damaged_requests_of_any_api(server: Server, data: st.DataObject, cuts: list[int]) -> None:
    api = data.draw(st.sampled_from(sorted(load().values(), key=lambda api: api.key)))
    version = data.draw(st.integers(api.lowest, api.highest))
    request = bytearray(frame(api.key, version, 1, request_class(api.key)()) * 2)
    for _ in range(data.draw(st.integers(0, 4))):
        request[data.draw(st.integers(0, len(request) - 1))] = data.draw(st.integers(0, 255))
    feed(server, bytes(request), cuts)
