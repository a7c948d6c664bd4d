"""The client for other nodes: one connection per node and lane, requests pipelined, answers matched in order."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from broadsheet_broker.seams.buffers import BufferPool
from broadsheet_broker.wire.api_messages import flexible_from, response_class, response_header_version
from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.peers import Address, Kind, OnAnswer, PeerError
from broadsheet_broker.wire.primitives import skip_tagged_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broadsheet_broker.seams import Buffer, Environment
    from broadsheet_broker.wire.schema import Message

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.02
"""Pause after a first failure to connect; doubles with every further one (reconnect.backoff.ms)."""
BACKOFF_MAX_SECONDS = 1.0
"""reconnect.backoff.max.ms"""
CONNECT_TIMEOUT_SECONDS = 2.0
"""After this, a connection attempt to a silent machine is given up and retried."""

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""A longer answer is rejected: the other side does not speak Kafka's protocol."""

MOST_WAITING = 1_000
"""Requests of one lane without an answer. Nodes keep a few in flight; more than this means that orders of clients pile
up for a node that does not answer, and the next one fails at once."""

_CHUNK = 16 * 1024
"""Bytes read at a time while it is unknown how long the next answer is."""

_STREAM = 1
"""socket.SOCK_STREAM."""

_SIZE = struct.Struct(">i")
_HEADER = struct.Struct(">ihhih")
_NOTHING = memoryview(b"")


class NodePeers:
    """Implements `wire.peers.Peers` on an event loop."""

    def __init__(self, environment: Environment, client_id: str) -> None:
        self.environment = environment
        self.loop = environment.loop
        self.client_id = client_id.encode()
        self._lanes: dict[tuple[int, str], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.pool = BufferPool(environment.on_buffer)

    def send(
        self,
        node_id: int,
        address: Address,
        request: Message,
        version: int,
        on_answer: OnAnswer,
        *,
        timeout: float,
        lane: str = "",
    ) -> None:
        """See `wire.peers.Peers`."""
        waiting = _Waiting(request, version, on_answer)
        if self._closed:
            self.loop.call_soon(self.finish, waiting, None, PeerError("closed", "this node is stopping"))
            return
        found = self._lanes.get((node_id, lane))
        if found is None:
            found = self._lanes[node_id, lane] = _Lane(self, node_id, lane, address)
        if found.waiting >= MOST_WAITING:
            error = PeerError("closed", f"{found}: {MOST_WAITING} earlier requests wait for an answer")
            self.loop.call_soon(self.finish, waiting, None, error)
            return
        waiting.timer = self.loop.call_later(timeout, found.timed_out, waiting, timeout)
        found.send(address, waiting)

    def disconnect(self, node_id: int) -> None:
        for key in [key for key in self._lanes if key[0] == node_id]:
            self._lanes.pop(key).close()

    async def close(self) -> None:
        self._closed = True
        for lane in list(self._lanes.values()):
            lane.close()
        self._lanes.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def finish(self, waiting: _Waiting, answer: Message | None, error: PeerError | None) -> None:
        """Call back, once. A bug in one caller must not affect others on this connection."""
        if waiting.done:
            return
        waiting.done = True
        if waiting.timer is not None:
            waiting.timer.cancel()
        try:
            waiting.on_answer(answer, error)
        except Exception as failure:
            self.loop.call_exception_handler(
                {"message": f"the answer to a {type(waiting.request).__name__} was not handled", "exception": failure}
            )


class _Waiting:
    """A request without its answer."""

    __slots__ = ("correlation_id", "done", "on_answer", "request", "timer", "version")

    def __init__(self, request: Message, version: int, on_answer: OnAnswer) -> None:
        self.request = request
        self.version = version
        self.on_answer = on_answer
        self.correlation_id = 0
        self.timer: asyncio.TimerHandle | None = None
        self.done = False


class _Lane:
    """What goes to one node in one order: at most one connection at a time."""

    def __init__(self, peers: NodePeers, node_id: int, name: str, address: Address) -> None:
        self._peers = peers
        self._node_id = node_id
        self._name = name
        self._address = address
        self._unsent: deque[_Waiting] = deque()
        """Requests that wait for a connection; with those in flight, at most `MOST_WAITING`."""
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failures = 0
        """Connection attempts in a row that failed."""

    def __str__(self) -> str:
        return f"node {self._node_id} at {self._address.host}:{self._address.port}"

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._unsent) + (0 if self._connection is None else self._connection.waiting)

    def send(self, address: Address, waiting: _Waiting) -> None:
        if address != self._address:
            self._hang_up("closed", "the node has another address now")
            self._address, self._failures = address, 0
        if self._connection is not None:
            self._connection.send(waiting)
            return
        self._unsent.append(waiting)
        if self._connecting is None:
            self._connecting = self._peers.start(self._connect())

    def timed_out(self, waiting: _Waiting, timeout: float) -> None:
        if waiting.done:
            return
        error = PeerError("timeout", f"{self} did not answer a {type(waiting.request).__name__} within {timeout:g} s")
        if waiting in self._unsent:
            self._unsent.remove(waiting)
            self._peers.finish(waiting, None, error)
            return
        # Answers come in order: everything behind this one would wait in vain.
        self._peers.finish(waiting, None, error)
        self._hang_up("closed", "an earlier request was not answered in time")

    def close(self) -> None:
        self._hang_up("closed", "this node hung up")
        unsent, self._unsent = self._unsent, deque()
        self._fail(unsent, "closed", "this node hung up")

    def _hang_up(self, kind: Kind, reason: str) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
            if self._unsent:
                self._peers.loop.call_soon(self._reconnect)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
            self._fail(connection.take_all(), kind, reason)

    def _reconnect(self) -> None:
        if self._unsent and self._connecting is None and self._connection is None:
            self._connecting = self._peers.start(self._connect())

    def _fail(self, many: Iterable[_Waiting], kind: Kind, reason: str) -> None:
        for waiting in many:
            error = PeerError(kind, f"{self}: {reason}")
            self._peers.loop.call_soon(self._peers.finish, waiting, None, error)

    async def _connect(self) -> None:
        if self._failures:
            longest = min(BACKOFF_SECONDS * 2 ** (self._failures - 1), BACKOFF_MAX_SECONDS)
            await asyncio.sleep(longest * (0.8 + 0.4 * self._peers.environment.random.random()))
        kind: Kind
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._try_addresses()
            self._connecting = None
            return
        except ConnectionRefusedError as error:
            kind, reason = "refused", str(error)
        except ConnectionResetError as error:
            kind, reason = "reset", str(error)
        except OSError as error:  # asyncio's TimeoutError is one, and so is an unknown host
            kind, reason = "timeout", str(error) or "no connection in time"
        self._connecting = None
        self._failures += 1
        unsent, self._unsent = self._unsent, deque()
        self._fail(unsent, kind, reason)

    async def _try_addresses(self) -> None:
        """Connect to the first address of the host that accepts; raises the error of the last one."""
        loop, (host, port) = self._peers.loop, self._address
        found = await loop.getaddrinfo(host, port, type=_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        for address in addresses:
            try:
                _, protocol = await loop.create_connection(lambda: _Connection(self._peers, self), address, port)
            except OSError:
                if address == addresses[-1]:
                    raise
                continue
            connection = protocol
            if connection.lost:
                raise ConnectionResetError("the connection ended as soon as it was made")
            self._connection = connection
            unsent, self._unsent = self._unsent, deque()
            for waiting in unsent:
                connection.send(waiting)
            return
        raise OSError(f"{host} has no address")

    def answered(self) -> None:
        self._failures = 0

    def connection_lost(self, connection: _Connection, reason: str) -> None:
        if self._connection is connection:
            self._connection = None
            waiting = connection.take_all()
            if waiting and not self._failures:
                self._failures = 1  # pause before asking again a node that accepts and hangs up
            self._fail(waiting, "reset", reason)

    def bad_answer(self, connection: _Connection, reason: str) -> None:
        logger.warning("%s does not speak Kafka's protocol: %s", self, reason)
        if self._connection is connection:
            self._failures += 1
            self._hang_up("protocol", reason)
        else:
            connection.abort()


class _Connection(asyncio.BufferedProtocol):
    """One connection: encodes requests, cuts the stream into answers.

    Answers that fit the chunk are copied out of it; what is longer is read straight into memory of its own size.
    """

    __slots__ = (
        "_answer",
        "_buffer",
        "_chunk",
        "_end",
        "_filled",
        "_in_flight",
        "_lane",
        "_next_id",
        "_peers",
        "_transport",
        "lost",
    )

    def __init__(self, peers: NodePeers, lane: _Lane) -> None:
        self._peers = peers
        self._lane = lane
        self._in_flight: deque[_Waiting] = deque()
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self.lost = False
        self._chunk = bytearray(_CHUNK)
        self._end = 0
        """Bytes of the chunk that hold the beginning of an answer."""
        self._answer: memoryview = _NOTHING
        """A long answer that is being read, without its length."""
        self._buffer = bytearray()
        """The buffer that it is read into."""
        self._filled = 0

    def send(self, waiting: _Waiting) -> None:
        request, version, client_id = waiting.request, waiting.version, self._peers.client_id
        key = type(request).API_KEY
        try:
            buffers: list[Buffer] = request.encode(version)
        except Exception as error:  # a field that this version lacks: a bug that affects this request only
            self._peers.loop.call_soon(self._peers.finish, waiting, None, PeerError("protocol", str(error)))
            return
        self._next_id = waiting.correlation_id = self._next_id + 1 & 0x7FFFFFFF
        tags = b"\0" if version >= flexible_from(key) else b""
        size = 10 + len(client_id) + len(tags) + sum(map(len, buffers))
        head = _HEADER.pack(size, key, version, waiting.correlation_id, len(client_id)) + client_id + tags
        self._in_flight.append(waiting)
        if self._transport is not None:
            self._transport.writelines([head, *buffers])

    @property
    def waiting(self) -> int:
        """Requests in flight."""
        return len(self._in_flight)

    def take_all(self) -> list[_Waiting]:
        """Remove and return every request without an answer; the caller takes care of them."""
        waiting = list(self._in_flight)
        self._in_flight.clear()
        return waiting

    def abort(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._transport = None
        self._lane.connection_lost(self, "the connection ended" if error is None else str(error))

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._answer:
            return self._answer[self._filled :]
        return memoryview(self._chunk)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if self._answer:
                self._filled += nbytes
                if self._filled == len(self._answer):
                    answer, self._answer = self._answer, _NOTHING
                    self._take(answer)
                    self._peers.pool.release(self._buffer)  # reused once its views are gone
            else:
                self._end += nbytes
                self._cut()
        except ProtocolError as error:
            self._answer, self._end = _NOTHING, 0
            self._lane.bad_answer(self, str(error))

    def _cut(self) -> None:
        """Take the answers that are in the chunk, and make room for the rest of the last one."""
        start, end = 0, self._end
        while end - start >= 4 and not self.lost:
            (size,) = _SIZE.unpack_from(self._chunk, start)
            if not 4 <= size <= MAX_ANSWER_BYTES:
                raise ProtocolError(f"an answer announces {size} bytes; allowed are 4 to {MAX_ANSWER_BYTES}")
            have = end - start - 4
            if have < size:
                if size + 4 > _CHUNK:
                    self._buffer = self._peers.pool.acquire(size)
                    answer = memoryview(self._buffer)[:size]
                    answer[:have] = memoryview(self._chunk)[start + 4 : end]
                    self._answer, self._filled, self._end = answer, have, 0
                    return
                break
            start += 4 + size
            self._take(memoryview(bytes(memoryview(self._chunk)[start - size : start])))
        if start:
            self._chunk[: end - start] = self._chunk[start:end]
        self._end = end - start

    def _take(self, view: memoryview) -> None:
        if self.lost:
            return
        if not self._in_flight:
            raise ProtocolError("an answer came without a request")
        waiting = self._in_flight[0]
        (correlation_id,) = _SIZE.unpack_from(view)
        if correlation_id != waiting.correlation_id:
            raise ProtocolError(f"an answer to request {correlation_id} instead of {waiting.correlation_id}")
        key, version, position = type(waiting.request).API_KEY, waiting.version, 4
        try:
            if response_header_version(key, version):
                position = skip_tagged_fields(view, position, len(view))
            answer, _ = response_class(key).decode(view, version, position)
        except IndexError:
            raise ProtocolError("an answer ends within its header") from None
        self._in_flight.popleft()
        self._lane.answered()
        self._peers.finish(waiting, answer, None)
