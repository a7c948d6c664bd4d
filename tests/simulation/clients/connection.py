"""What every simulated client stands on: connections that pipeline requests, and a view of the cluster."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Any, NamedTuple
from uuid import UUID

from broadsheet_broker.wire.api_messages import flexible_from, response_class, response_header_version
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.metadata_response import MetadataResponse
from tests.support.simulated_loop import Host

REQUEST_TIMEOUT = 10.0
"""Seconds after which a client gives a connection up."""

PROBLEMS = (ConnectionError, TimeoutError, OSError)
"""What a client meets when a broker is not there."""

_LENGTH = struct.Struct(">i")
_HEADER = struct.Struct(">hhih")


class BrokerError(Exception):
    """An error code in an answer."""

    def __init__(self, code: int) -> None:
        self.code = ErrorCode(code)
        super().__init__(self.code.name)


class Connection(asyncio.Protocol):
    """One connection: requests go out at once, answers come in the same order."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id.encode()
        self._transport: Any = None
        self._buffer = bytearray()
        self._waiting: deque[tuple[int, int, int, asyncio.Future[Any]]] = deque()
        self._sent = 0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, message: Any, version: int, *, answered: bool = True) -> asyncio.Future[Any]:
        """Send a request; the future is its answer's body, or ConnectionError."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.lost or self._transport.is_closing():
            future.set_exception(ConnectionResetError("the connection is lost"))
            future.exception()  # a batch that is sent behind another is looked at only when its turn comes
            return future
        key = message.API_KEY
        self._sent += 1
        header = _HEADER.pack(key, version, self._sent, len(self._client_id)) + self._client_id
        if version >= flexible_from(key):
            header += b"\0"
        body = [bytes(part) for part in message.encode(version)]
        size = len(header) + sum(map(len, body))
        self._transport.write(b"".join((_LENGTH.pack(size), header, *body)))
        if answered:
            self._waiting.append((self._sent, key, version, future))
        else:
            future.set_result(None)
        return future

    async def call(self, message: Any, version: int, limit: float = REQUEST_TIMEOUT) -> Any:
        """The answer. Without one in `limit` seconds the connection is given up."""
        future = self.send(message, version)
        try:
            async with asyncio.timeout(limit):
                return await future
        except TimeoutError:
            self.close()
            raise

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if len(buffer) - start < 4 + size:
                break
            self._answer(bytes(buffer[start + 4 : start + 4 + size]))
            start += 4 + size
        if start:
            del buffer[:start]

    def _answer(self, frame: bytes) -> None:
        correlation_id, key, version, future = self._waiting.popleft()
        assert frame[:4] == _LENGTH.pack(correlation_id), "answers come in the order of the requests"
        body, end = response_class(key).decode(memoryview(frame), version, 4 + response_header_version(key, version))
        assert end == len(frame), "an answer has nothing after its end"
        if not future.done():
            future.set_result(body)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        while self._waiting:
            future = self._waiting.popleft()[3]
            if not future.done():
                future.set_exception(ConnectionResetError("the connection was lost"))
                future.exception()  # nobody need be waiting for it any more

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)


class Leader(NamedTuple):
    broker_id: int
    epoch: int


class ClusterView:
    """What one client knows of the cluster, and its connections to the brokers."""

    def __init__(self, host: Host, client_id: str, bootstrap: list[tuple[str, int]]) -> None:
        self.client_id = client_id
        self.random = host.simulation.random
        self._host = host
        self._bootstrap = bootstrap
        self.brokers: dict[int, tuple[str, int]] = {}
        self.leaders: dict[tuple[str, int], Leader] = {}
        self.topic_ids: dict[str, UUID] = {}
        self.controller_id = -1
        self._connections: dict[tuple[str, int, str], Connection] = {}

    def time(self) -> float:
        """Virtual seconds."""
        return self._host.simulation.time

    async def connect(self, address: tuple[str, int], purpose: str = "") -> Connection:
        """The connection to an address for one purpose (long polls keep one of their own); made when needed."""
        key = (*address, purpose)
        found = self._connections.get(key)
        if found is None or found.lost:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(REQUEST_TIMEOUT):
                _, protocol = await loop.create_connection(lambda: Connection(self.client_id), *address)
            assert isinstance(protocol, Connection)
            found = self._connections[key] = protocol
        return found

    async def broker(self, broker_id: int, purpose: str = "") -> Connection:
        address = self.brokers.get(broker_id)
        if address is None:
            raise ConnectionRefusedError(f"broker {broker_id} is not known")
        return await self.connect(address, purpose)

    async def anybody(self) -> Connection:
        """A connection to some broker that is there."""
        addresses = list(dict.fromkeys([*self.brokers.values(), *self._bootstrap]))
        self.random.shuffle(addresses)
        for address in addresses:
            try:
                return await self.connect(address)
            except PROBLEMS:
                continue
        raise ConnectionRefusedError("no broker can be reached")

    async def refresh(self, topics: list[str]) -> bool:
        """Ask who leads; False when nobody could tell."""
        body = MetadataRequest(
            topics=[MetadataRequestTopic(name=name) for name in topics], allow_auto_topic_creation=False
        )
        try:
            answer: MetadataResponse = await (await self.anybody()).call(body, 12)
        except PROBLEMS:
            return False
        self.brokers = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        self.controller_id = answer.controller_id
        for topic in answer.topics:
            if topic.error_code or topic.name is None:
                continue
            self.topic_ids[topic.name] = topic.topic_id
            for partition in topic.partitions:
                key = (topic.name, partition.partition_index)
                known = self.leaders.get(key)
                if known is None or partition.leader_epoch >= known.epoch:  # an old answer says nothing new (KIP-320)
                    self.leaders[key] = Leader(partition.leader_id, partition.leader_epoch)
        return True

    async def leader(self, partition: tuple[str, int], purpose: str = "") -> tuple[Connection, Leader]:
        """A connection to who leads a partition, as far as known; raises ConnectionError when nobody does."""
        leader = self.leaders.get(partition)
        if leader is None or leader.broker_id < 0:
            await self.refresh([partition[0]])
            leader = self.leaders.get(partition)
            if leader is None or leader.broker_id < 0:
                raise ConnectionRefusedError(f"{partition[0]}-{partition[1]} has no leader")
        return await self.broker(leader.broker_id, purpose), leader

    async def rest(self, least: float = 0.02, most: float = 0.2) -> None:
        """Wait before trying again, not in step with the others (virtual seconds)."""
        await asyncio.sleep(self.random.uniform(least, most))

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
