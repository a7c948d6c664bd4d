"""The two ends of a simulated connection, and the bytes between them."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.simulated_loop import SimulatedLoop
    from tests.support.simulated_network import Network

_WINDOW = 256 * 1024
"""Bytes that may be on their way or unread at the receiver; more wait at the sender."""


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
            network.touches(loop.host)
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
