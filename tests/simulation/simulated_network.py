"""A network in memory: streams between hosts, with delays, and with faults on request.

It behaves as TCP does, as far as a program can tell: bytes arrive in order or not at all, cut into reads at random;
a peer that does not read makes the writer wait; a partition stops bytes without a sign, and those sent meanwhile come
when it heals, unless the connection was given up; a dead process resets its connections; a host without power is
silent. Chance comes from the simulation's seed.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.simulated_loop import Host, SimulatedLoop, Simulation

_WINDOW = 256 * 1024
"""Bytes that may be on their way or unread at the receiver; more wait at the sender."""

_CONNECT_TIMEOUT = 127.0
"""Seconds after which the system gives up on a host that does not answer."""

_RETRANSMISSION = (0.2, 1.0)
"""Seconds that bytes stuck in a partition take to arrive after it heals."""

_OWN = (None, "", "localhost", "127.0.0.1", "0.0.0.0", "::", "::1")
"""Addresses that mean the host itself."""


class Network:
    """Who can reach whom, how fast, and all listeners and connections."""

    def __init__(self, simulation: Simulation, wire: SimulatedLoop) -> None:
        self._simulation = simulation
        self.wire = wire
        """Runs what happens between the hosts."""
        self.latency = (0.0001, 0.002)
        """Seconds one way, between which each chunk's delay is chosen."""
        self.fragmentation = 0.1
        """Share of deliveries that are cut into several reads."""
        self._cut: set[tuple[str, str]] = set()
        self._silent: set[str] = set()
        self._servers: dict[tuple[str, int], SimulatedServer] = {}
        self._connections: list[tuple[SimulatedTransport, SimulatedTransport]] = []
        self._next_port = 40_000

    # -- faults --------------------------------------------------------------------------------------------------

    def partition(self, *groups: list[Host]) -> None:
        """Hosts of different groups no longer reach each other; hosts in no group reach everybody."""
        for group in groups:
            for other in groups:
                if other is not group:
                    self._cut |= {(a.name, b.name) for a in group for b in other}

    def cut(self, sender: Host, receiver: Host) -> None:
        """Bytes in this one direction no longer arrive."""
        self._cut.add((sender.name, receiver.name))

    def heal(self) -> None:
        """End all partitions, and let what was on its way arrive."""
        self._cut.clear()
        for pair in self._connections:
            for transport in pair:
                transport.inbox.pump(self._simulation.random.uniform(*_RETRANSMISSION))

    def drop_connections(self, a: Host, b: Host) -> None:
        """Reset every connection between two hosts."""
        for one, other in list(self._connections):
            if {one.loop.host, other.loop.host} == {a, b}:
                one.reset()
                other.reset()

    def reachable(self, sender: Host, receiver: Host) -> bool:
        return (sender.name, receiver.name) not in self._cut and receiver.name not in self._silent

    def delay(self) -> float:
        return self._simulation.random.uniform(*self.latency)

    def host_died(self, host: Host, *, silently: bool) -> None:
        """The process on a host is gone: its listeners and, unless silently, its connections."""
        self._servers = {key: server for key, server in self._servers.items() if key[0] != host.address}
        if silently:
            self._silent.add(host.name)
        for pair in list(self._connections):
            for one, other in (pair, pair[::-1]):
                if one.loop.host is host and one.loop.dead:
                    one.closed = True
                    self._forget(pair)
                    if not silently:
                        other.inbox.reset_after(self.delay())

    def power_on(self, host: Host) -> None:
        """A host that died silently is there again; what others still hold open to it gets reset."""
        self._silent.discard(host.name)

    # -- what the loops ask --------------------------------------------------------------------------------------------

    def resolve(self, host: Host, name: Any) -> str:
        if name in _OWN:
            return host.address
        for other in self._simulation.hosts.values():
            if name in (other.name, other.address):
                return other.address
        raise OSError(errno.ENOENT, f"no such host: {name}")

    def listen(
        self, loop: SimulatedLoop, factory: Callable[[], asyncio.BaseProtocol], name: Any, port: int
    ) -> SimulatedServer:
        address = self.resolve(loop.host, name)
        if address != loop.host.address:
            raise OSError(errno.EADDRNOTAVAIL, f"cannot assign requested address {name}")
        if not port:
            port = self._take_port()
        if (address, port) in self._servers:
            raise OSError(errno.EADDRINUSE, f"address already in use: {address}:{port}")
        server = self._servers[address, port] = SimulatedServer(self, loop, factory, address, port)
        return server

    def _take_port(self) -> int:
        self._next_port += 1
        return self._next_port

    def close_server(self, server: SimulatedServer) -> None:
        if self._servers.get((server.address, server.port)) is server:
            del self._servers[server.address, server.port]

    async def connect(
        self, loop: SimulatedLoop, factory: Callable[[], asyncio.BaseProtocol], name: Any, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        address = self.resolve(loop.host, name)
        target = next(host for host in self._simulation.hosts.values() if host.address == address)
        await asyncio.sleep(self.delay())
        if not (self.reachable(loop.host, target) and self.reachable(target, loop.host)):
            await asyncio.sleep(_CONNECT_TIMEOUT)
            raise TimeoutError(errno.ETIMEDOUT, f"connection to {name}:{port} timed out")
        server = self._servers.get((address, port))
        if server is None or not server.serving or server.loop.dead:
            await asyncio.sleep(self.delay())
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"connection to {name}:{port} refused")
        own = (loop.host.address, self._take_port())
        client = SimulatedTransport(self, loop, own, (address, port))
        remote = SimulatedTransport(self, server.loop, (address, port), own)
        client.inbox, remote.inbox = Inbox(remote, client), Inbox(client, remote)
        self._connections.append((client, remote))
        server.loop.call_soon(remote.accept, server.factory)
        try:
            await asyncio.sleep(self.delay())
        except asyncio.CancelledError:
            client.abort()
            raise
        protocol = client.attach(factory)
        return client, protocol

    def _forget(self, pair: tuple[SimulatedTransport, SimulatedTransport]) -> None:
        if pair in self._connections:
            self._connections.remove(pair)

    def ended(self, transport: SimulatedTransport) -> None:
        """One side is through; the connection is forgotten when both are."""
        for pair in self._connections:
            if transport in pair and all(side.closed for side in pair):
                self._forget(pair)
                return

    def chance(self, probability: float) -> bool:
        return self._simulation.random.random() < probability

    def piece(self, size: int) -> int:
        return self._simulation.random.randint(1, size)


class SimulatedServer(asyncio.AbstractServer):
    """A listener."""

    def __init__(
        self,
        network: Network,
        loop: SimulatedLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        address: str,
        port: int,
    ) -> None:
        self._network = network
        self.loop = loop
        self.factory = factory
        self.address = address
        self.port = port
        self.serving = False
        self.sockets = (self,)

    def getsockname(self) -> tuple[str, int]:
        return self.address, self.port

    def close(self) -> None:
        self.serving = False
        self._network.close_server(self)

    async def start_serving(self) -> None:
        self.serving = True

    async def wait_closed(self) -> None:
        return

    def is_serving(self) -> bool:
        return self.serving

    def get_loop(self) -> Any:
        return self.loop


class Inbox:
    """One direction of a connection: bytes on their way to a transport, and those it has not read yet."""

    def __init__(self, sender: SimulatedTransport, receiver: SimulatedTransport) -> None:
        self._sender = sender
        self._receiver = receiver
        self._chunks: deque[tuple[float, bytes | None]] = deque()
        """Time of arrival and bytes; None is the end of the stream."""
        self.size = 0
        self._last_arrival = 0.0
        self._horizon = -1.0
        """What was to arrive until then has arrived."""
        self._reset = False

    @property
    def sender(self) -> SimulatedTransport:
        return self._sender

    def send(self, data: bytes | None) -> None:
        self.size += len(data or b"")
        self._chunks.append((self._schedule(self._sender.network.delay()), data))

    def _schedule(self, delay: float) -> float:
        wire = self._sender.network.wire  # not a process's loop: what is under way arrives whoever dies
        self._last_arrival = max(self._last_arrival, wire.time() + delay)
        wire.call_at(self._last_arrival, self._arrive)
        return self._last_arrival

    def _arrive(self) -> None:
        network, loop = self._sender.network, self._receiver.loop
        if network.reachable(self._sender.loop.host, loop.host):  # else pump() tries again when the partition heals
            self._horizon = network.wire.time()
            if loop.dead:
                self._receiver.closed = True
            with loop.running():
                self.deliver()

    def pump(self, delay: float) -> None:
        if self._chunks or self._reset:
            self._schedule(delay)

    def reset_after(self, delay: float) -> None:
        self._reset = True
        self._schedule(delay)

    def deliver(self) -> None:
        """Give the receiver what has arrived, as long as it reads."""
        receiver = self._receiver
        while self._chunks and self._chunks[0][0] <= self._horizon and receiver.may_receive():
            arrival, chunk = self._chunks.popleft()
            if chunk is None:
                receiver.receive_end()
                return
            size = len(chunk)
            if size > 1 and receiver.network.chance(receiver.network.fragmentation):
                size = receiver.network.piece(size)
            size = receiver.receive(chunk[:size])
            self.size -= size
            if size < len(chunk):
                self._chunks.appendleft((arrival, chunk[size:]))
            self._sender.window_opened()
        if self._reset and not receiver.closed and self._last_arrival <= self._horizon:
            receiver.lose(ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))
        elif receiver.closed and any(chunk for _, chunk in self._chunks):
            self._chunks.clear()
            if not self._sender.closed:
                self._sender.inbox.reset_after(self._sender.network.delay())


class SimulatedTransport(asyncio.Transport):
    """One end of a connection."""

    inbox: Inbox
    """What comes in here."""

    def __init__(self, network: Network, loop: SimulatedLoop, own: tuple[str, int], peer: tuple[str, int]) -> None:
        super().__init__({"sockname": own, "peername": peer})
        self.network = network
        self.loop = loop
        self.closed = False
        self._protocol: Any = None
        self._outbox: deque[bytes | None] = deque()
        self._outbox_size = 0
        self._reading = True
        self._closing = False
        self._writing_paused = False
        self._high, self._low = 64 * 1024, 16 * 1024

    def attach(self, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.BaseProtocol:
        if self.closed:
            raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
        self._protocol = protocol = factory()
        protocol.connection_made(self)
        self.inbox.deliver()
        return protocol

    def accept(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        if not self.closed:
            self.attach(factory)

    @property
    def _peer_inbox(self) -> Inbox:
        return self.inbox.sender.inbox

    # -- receiving --------------------------------------------------------------------------------------------------

    def may_receive(self) -> bool:
        return self._reading and not self.closed and not self._closing and self._protocol is not None

    def receive(self, data: bytes) -> int:
        """Hand bytes to the protocol; returns how many it took."""
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            buffer = memoryview(self._protocol.get_buffer(-1))
            size = min(len(buffer), len(data))
            assert size, "get_buffer returned an empty buffer"
            buffer[:size] = data[:size]
            del buffer
            self._protocol.buffer_updated(size)
            return size
        self._protocol.data_received(data)
        return len(data)

    def receive_end(self) -> None:
        if not self._protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.loop.call_soon(self.inbox.deliver)

    def is_reading(self) -> bool:
        return self._reading

    # -- sending --------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_closing() or not len(data):
            return
        self._outbox.append(bytes(data))
        self._outbox_size += len(data)
        self._send()
        if self._outbox_size > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(bytes(data) for data in list_of_data))

    def _send(self) -> None:
        """Put on the wire what fits the receiver's window."""
        inbox = self._peer_inbox
        while self._outbox:
            data = self._outbox[0]
            if data is None:
                self._outbox.popleft()
                inbox.send(None)
                if self._closing:
                    self.loop.call_soon(self.lose, None)
                continue
            room = _WINDOW - inbox.size
            if room <= 0:
                return
            self._outbox.popleft()
            if len(data) > room:
                self._outbox.appendleft(data[room:])
                data = data[:room]
            self._outbox_size -= len(data)
            inbox.send(data)

    def window_opened(self) -> None:
        if self.closed or self.loop.dead:
            return
        self._send()
        if self._writing_paused and self._outbox_size <= self._low:
            self._writing_paused = False
            self.loop.call_soon(self._protocol.resume_writing)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._outbox_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._outbox.append(None)
        self._send()

    # -- the end --------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing or self.closed or self.loop.dead

    def close(self) -> None:
        if not self.is_closing():
            self._closing = True
            self._outbox.append(None)
            self._send()

    def abort(self) -> None:
        self.reset()
        if not self.closed:
            self._peer_inbox.reset_after(self.network.delay())

    def reset(self) -> None:
        """This side is gone at once."""
        if not self.closed:
            self._closing = True
            self._outbox.clear()
            self.loop.call_soon(self.lose, None)

    def lose(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        self.network.ended(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
