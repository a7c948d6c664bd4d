"""A server on a real socket, and its first client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network import Server
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from tests.support.network import Client, make_config, make_server

PRODUCE, SYNC_GROUP, HEARTBEAT, API_VERSIONS, CREATE_TOPICS = 0, 14, 12, 18, 19
BROKER_HEARTBEAT = 63

Run = Callable[[Coroutine[Any, Any, None]], None]
"""Run a coroutine on a loop of its own."""


async def serve(*apis: Any, overrides: tuple[str, ...] = ()) -> tuple[Server, Client]:
    environment = Environment(asyncio.get_running_loop())
    server = make_server(environment, apis, make_config(*overrides))
    await server.start()
    return server, await Client.connect(server.bound_ports["PLAINTEXT"])


def echo_generation(services: Any, request: Request[HeartbeatRequest]) -> None:
    request.answer(HeartbeatResponse(throttle_time_ms=request.body.generation_id))
