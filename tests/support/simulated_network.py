"""A network in memory: streams between hosts, with delays, and with faults on request.

It behaves as TCP does, as far as a program can tell: bytes arrive in order or not at all, cut into reads at random;
a peer that does not read makes the writer wait; a partition stops bytes without a sign, and those sent meanwhile come
when it heals, unless the connection was given up; a dead process resets its connections; a host without power is
silent. Chance comes from the simulation's seed.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support.simulated_transport import Inbox, SimulatedTransport

if TYPE_CHECKING:
    from tests.support.simulated_loop import Host, SimulatedLoop, Simulation

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
        self._cut: dict[tuple[str, str], list[object]] = {}
        """Sender and receiver, and why: whatever ends, the other reasons stay."""
        self._silent: set[str] = set()
        self._servers: dict[tuple[str, int], SimulatedServer] = {}
        self._connections: list[tuple[SimulatedTransport, SimulatedTransport]] = []
        self._next_port = 40_000

    # -- faults --------------------------------------------------------------------------------------------------

    def partition(self, *groups: list[Host], reason: object = None) -> None:
        """Hosts of different groups no longer reach each other; hosts in no group reach everybody."""
        for group in groups:
            for other in groups:
                if other is not group:
                    for sender in group:
                        for receiver in other:
                            self.cut(sender, receiver, reason=reason)

    def cut(self, sender: Host, receiver: Host, *, reason: object = None) -> None:
        """Bytes in this one direction no longer arrive."""
        self._cut.setdefault((sender.name, receiver.name), []).append(reason)

    def heal(self, reason: object = None) -> None:
        """End all partitions, or those with one reason, and let what was on its way arrive."""
        if reason is None:
            self._cut.clear()
        for pair in list(self._cut):
            self._cut[pair] = [other for other in self._cut[pair] if other is not reason]
            if not self._cut[pair]:
                del self._cut[pair]
        for pair in self._connections:
            for transport in pair:
                transport.inbox.pump(self._simulation.random.uniform(*_RETRANSMISSION))

    def resumed(self, host: Host) -> None:
        """A paused process goes on: it finds in its sockets what arrived meanwhile."""
        for pair in self._connections:
            for transport in pair:
                if transport.loop.host is host:
                    transport.inbox.pump(0.0)

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

    def touches(self, host: Host) -> None:
        """A process on the host is handed what has arrived."""
        self._simulation.touched = host

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
