"""A server with handlers made for tests, and a client that speaks in frames."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from broadsheet_broker.apis import load
from broadsheet_broker.apis.registry import Api, Handler
from broadsheet_broker.config import BrokerConfig, load_config
from broadsheet_broker.network import Server
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.api_messages import (
    api_name,
    flexible_from,
    request_class,
    response_class,
    response_header_version,
)


def make_config(*overrides: str, port: int = 0, host: str = "127.0.0.1") -> BrokerConfig:
    listeners = f"listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:0"
    return load_config(None, [listeners, "broadsheet.memory.target=0", *overrides])


def api(key: int, handler: Handler, versions: tuple[int, int] | None = None) -> Api:
    message = request_class(key)
    lowest, highest = versions or (message.LOWEST_VERSION, message.HIGHEST_VERSION)
    return Api(key, api_name(key), lowest, highest, lowest, handler, load()[key].refuse)


def make_services(config: BrokerConfig) -> Any:
    image = SimpleNamespace(offset=7, features={"metadata.version": 30})
    return SimpleNamespace(config=config, metadata=SimpleNamespace(image=image))


def make_server(environment: Environment, apis: Iterable[Api], config: BrokerConfig | None = None) -> Server:
    config = config or make_config()
    return Server(environment, config, make_services(config), {item.key: item for item in apis})


def frame(key: int, version: int, correlation_id: int, body: Any, client_id: str | None = "tests") -> bytes:
    """A whole request, with its length."""
    header = struct.pack(">hhi", key, version, correlation_id)
    if client_id is None:
        header += struct.pack(">h", -1)
    else:
        header += struct.pack(">h", len(client_id)) + client_id.encode()
    if version >= flexible_from(key):
        header += b"\0"
    payload = header + (body if isinstance(body, bytes) else b"".join(map(bytes, body.encode(version))))
    return struct.pack(">i", len(payload)) + payload


class Client:
    """A connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> Client:
        return cls(*await asyncio.open_connection(host, port, limit=2**26))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> bytes:
        """The next answer, without its length."""
        (size,) = struct.unpack(">i", await self.reader.readexactly(4))
        return await self.reader.readexactly(size)

    async def receive_message(self, key: int, version: int) -> tuple[int, Any]:
        """Correlation id and body of the next answer."""
        data = await self.receive()
        start = 4 + response_header_version(key, version)
        message, end = response_class(key).decode(memoryview(data), version, start)
        assert end == len(data)
        return int.from_bytes(data[:4], "big"), message

    async def call(self, key: int, version: int, body: Any) -> Any:
        self.send(frame(key, version, 1, body))
        return (await self.receive_message(key, version))[1]

    async def ended(self) -> bool:
        """Wait until the server closes; True when nothing came before."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True
        finally:
            await self.close()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return
