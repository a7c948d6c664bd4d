"""One client's connection: bytes in, requests to their handlers, answers out in the order of the requests.

**Reading.** The event loop reads straight into a buffer of the pool (`asyncio.BufferedProtocol`); requests are views of
it. A buffer that is fully parsed returns to the pool at once, even while views of it exist (see `buffers`). When a
request is incomplete and does not fit what is left of its buffer, its beginning moves to a buffer of the size that the
request announces, but beyond the first `_TRUSTED` bytes never to more than twice what has arrived: a client gets memory
only for what it sends.

**Order.** Handlers may answer at any time; a completed answer waits until all earlier ones of its connection are out.
Answers completed while one read is parsed leave in one write at its end; answers completed at other times when no
request of the connection is left unanswered, or else in one write at the end of the loop's turn.

**Holding.** A request that is not carried out yet, and must be before the next one of its connection, is held: its
connection handles no later request until it is released (Kafka mutes the channel). What has arrived stays in the
buffer. An answer releases.

**Back-pressure.** Reading pauses while too many requests, or too many bytes of requests, of this connection are
unanswered, while the peer does not read its answers (the transport's high-water mark), or while the whole server holds
too many bytes; it resumes by itself.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from typing import TYPE_CHECKING, cast

from broadsheet_broker.network.pending import PendingRequest
from broadsheet_broker.seams.buffers import CHUNK
from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.primitives import skip_tagged_fields

if TYPE_CHECKING:
    from broadsheet_broker.network.dispatch import ServedApi
    from broadsheet_broker.network.server import Server
    from broadsheet_broker.seams.metrics import RequestTimes

logger = logging.getLogger(__name__)

_TRUSTED = 2 * 1024 * 1024
"""Bytes of buffer that an announced request gets before they have arrived."""

_SLACK = 16 * 1024
"""Bytes read beyond the end of a large request, so that the small one behind it needs no read of its own."""

_JOIN = 16 * 1024
"""Answers up to this size are joined into one buffer; larger ones go out as they are."""

_WRITE_EARLY = 256 * 1024
"""Bytes of answers that are written before the rest of what was read is parsed."""

WRITE_HIGH_WATER = 1024 * 1024
"""Bytes waiting for a slow reader above which its requests are left unread."""

_SIZE = struct.Struct(">i")
_HEADER = struct.Struct(">hhih")


class KafkaConnection(asyncio.BufferedProtocol):
    """The server's side of a connection that speaks Kafka's protocol."""

    __slots__ = (
        "_apis",
        "_buffer",
        "_client",
        "_client_bytes",
        "_end",
        "_flush_due",
        "_holds",
        "_out",
        "_out_bytes",
        "_parsing",
        "_paused",
        "_pending",
        "_pending_bytes",
        "_server",
        "_start",
        "_transport",
        "_unsent",
        "_unsent_bytes",
        "_view",
        "_write_paused",
        "closed",
        "host",
        "id",
        "last_active",
        "listener",
        "now",
        "principal",
    )

    def __init__(self, server: Server, listener: str) -> None:
        self._server = server
        self._apis = server.apis_of(listener)
        self.listener = listener
        self.id = server.next_connection_id()
        self.host = ""
        self.principal = "User:ANONYMOUS"
        self.closed = False
        self.now = server.now
        self.last_active = server.now()
        """Seconds of the environment's timer at the last byte received."""
        self._transport: asyncio.Transport | None = None
        self._buffer: bytearray | None = None
        self._view: memoryview | None = None
        self._start = 0
        """Position in the buffer of the first byte that is not parsed yet."""
        self._end = 0
        """Position in the buffer behind the last byte received."""
        self._pending: deque[PendingRequest] = deque()
        """Requests whose answers are not out, in order of arrival."""
        self._pending_bytes = 0
        self._out: list[bytes | bytearray | memoryview] = []
        """Answers whose turn has come, to be handed to the transport."""
        self._out_bytes = 0
        self._unsent: list[tuple[RequestTimes, float, float, float, float]] = []
        """For each answer in `_out`, the arguments of `RequestTimes.observe` but the last; not the request, which holds
        the received bytes."""
        self._unsent_bytes = 0
        """Bytes of all answers that are completed and not handed to the transport."""
        self._flush_due = False
        self._holds = 0
        """Requests of this connection that are held."""
        self._parsing = False
        self._paused = False
        self._write_paused = False
        self._client_bytes = b""
        self._client = ""

    # -- the transport's side ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        peer = transport.get_extra_info("peername")
        self.host = peer[0] if peer else ""
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        if not self._server.admit(self, transport):
            self.closed = True
            transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._server.forget(self, self._pending_bytes)
        pending, self._pending = self._pending, deque()
        self._pending_bytes = 0
        for request in pending:
            self._server.abandon(request)
        self._out.clear()
        self._unsent.clear()
        self._drop_buffer()
        self._transport = None

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self.flush()

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._view is None:
            self._buffer = self._server.pool.acquire(CHUNK)
            self._view = memoryview(self._buffer)
            self._start = self._end = 0
            return self._view
        if self._end - self._start >= 4:
            wanted = self._start + 4 + _SIZE.unpack_from(self._view, self._start)[0]
            if wanted > self._end:
                return self._view[self._end : wanted + _SLACK]
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        self.last_active = self.now()
        if not self._paused:
            self._parse()

    # -- cutting and dispatching requests ----------------------------------------------------------------------------

    def _parse(self) -> None:
        view = self._view
        if view is None:
            return
        self._parsing = True
        start, end = self._start, self._end
        largest = self._server.largest_request
        try:
            while end - start >= 4:
                (size,) = _SIZE.unpack_from(view, start)
                if not 0 <= size <= largest:
                    raise ProtocolError(f"a request of {size} bytes is announced; the most is {largest}")
                stop = start + 4 + size
                if stop > end:
                    break
                if not self._may_read():
                    self._pause()
                    break
                self._start = stop
                self._receive(view[start + 4 : stop], size)
                if self.closed:
                    return
                start = stop
                if self._out_bytes > _WRITE_EARLY:
                    self.flush()
        except ProtocolError as error:
            self._reject(str(error))
            return
        finally:
            self._parsing = False
        self._keep_rest()
        if self._unsent:
            self.flush()

    def _receive(self, frame: memoryview, size: int) -> None:
        """Decode one request and call its handler."""
        if size < 8:
            raise ProtocolError(f"a request of {size} bytes has no room for its header")
        if size < 10:
            frame = memoryview(
                bytes(frame) + b"\xff\xff"
            )  # header version 0 has no client id; no API that is served uses it
        api_key, version, correlation_id, length = _HEADER.unpack_from(frame)
        api = self._apis.get(api_key)
        if api is None:
            raise ProtocolError(f"API key {api_key} version {version} is not served on listener {self.listener}")
        if not api.lowest <= version <= api.highest:
            self._refuse_version(api, version, correlation_id)
            return
        position = 10
        if length >= 0:
            position += length
            client_bytes = frame[10:position]
            if client_bytes != self._client_bytes:
                self._name_client(client_bytes, length)
        elif self._client_bytes:
            self._client_bytes, self._client = b"", ""
        if version >= api.flexible_from:
            try:
                position = position + 1 if frame[position] == 0 else skip_tagged_fields(frame, position, size)
            except IndexError:
                raise ProtocolError("the header of a request ends too early") from None
        body, _ = api.message.decode(frame, version, position)
        begun = self.now()
        request = PendingRequest(api, version, correlation_id, self._client, body, self, self.last_active, begun, size)
        self._pending.append(request)
        self._pending_bytes += size
        self._server.queued_bytes += size
        self._server.call(api, request)

    def _name_client(self, client_bytes: memoryview, length: int) -> None:
        if len(client_bytes) < length:
            raise ProtocolError("the client id is longer than its request")
        try:
            self._client = str(client_bytes, "utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("the client id is not UTF-8") from None
        self._client_bytes = bytes(client_bytes)

    def _refuse_version(self, api: ServedApi, version: int, correlation_id: int) -> None:
        """ApiVersions answers a newer client with what is served (KIP-511); any other API ends the connection."""
        answer = self._server.version_answer(api)
        if answer is None:
            raise ProtocolError(f"{api.name} version {version} is not served, only {api.lowest} to {api.highest}")
        request = PendingRequest(api, 0, correlation_id, self._client, None, self, self.last_active, self.now(), 0)
        self._pending.append(request)
        request.answer(answer)

    def _keep_rest(self) -> None:
        """After parsing: let go of the buffer, or make room for the rest of an incomplete request."""
        rest = self._end - self._start
        if rest == 0:
            self._drop_buffer()
            return
        if self._paused:
            return
        buffer, view = self._buffer, self._view
        assert buffer is not None and view is not None
        need = 4 + (_SIZE.unpack_from(view, self._start)[0] if rest >= 4 else 0)
        room = len(buffer) - self._end
        if self._start + need <= len(buffer):
            if rest >= 4 or room >= _SLACK:
                return
        elif self._start == 0 and room >= _SLACK:
            return  # a large request whose buffer grows when it is full
        self._move(min(need + _SLACK, max(_TRUSTED, 2 * rest)))

    def _move(self, size: int) -> None:
        """Take the incomplete request over to another buffer."""
        old, view = self._buffer, self._view
        assert old is not None and view is not None
        rest = self._end - self._start
        buffer = self._server.pool.acquire(size)
        buffer[:rest] = view[self._start : self._end]
        self._buffer, self._view = buffer, memoryview(buffer)
        self._start, self._end = 0, rest
        del view
        self._server.pool.release(old)

    def shrink(self) -> None:
        """Called now and then: an incomplete small request of a slow client should not hold a whole chunk."""
        rest = self._end - self._start
        if self._view is None or self._buffer is None or len(self._buffer) != CHUNK or rest > 512 or self._paused:
            return
        old = self._buffer
        buffer = bytearray(1024)
        buffer[:rest] = self._view[self._start : self._end]
        self._buffer, self._view = buffer, memoryview(buffer)
        self._start, self._end = 0, rest
        self._server.pool.release(old)

    def _drop_buffer(self) -> None:
        if self._buffer is not None:
            self._view = None
            self._server.pool.release(self._buffer)
            self._buffer = None
            self._start = self._end = 0

    # -- back-pressure ------------------------------------------------------------------------------------------------

    def _may_read(self) -> bool:
        server = self._server
        return (
            not self._holds
            and len(self._pending) < server.most_pending
            and self._pending_bytes < server.most_pending_bytes
            and not self._write_paused
            and self._unsent_bytes < WRITE_HIGH_WATER
            and server.queued_bytes < server.most_queued_bytes
        )

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
            self._server.paused[self] = None

    def resume(self) -> None:
        """Read again if no limit forbids it."""
        if not self._paused or self.closed or self._transport is None or not self._may_read():
            return
        self._paused = False
        self._server.paused.pop(self, None)
        self._parse()
        self._read_on()

    def _read_on(self) -> None:
        if not self._paused and not self.closed and self._transport is not None:
            self._transport.resume_reading()

    def hold(self) -> None:
        """Handle no further request before `release` was called as often as this."""
        self._holds += 1

    def release(self) -> None:
        """Take one `hold` back. The next request is handled in a later callback of the loop, not in this one."""
        self._holds -= 1
        if not self._holds and self._paused and not self.closed:
            self._server.loop.call_soon(self.resume)

    # -- answers ------------------------------------------------------------------------------------------------------

    def complete(
        self, request: PendingRequest, buffers: list[bytes | bytearray | memoryview], size: int, request_size: int
    ) -> None:
        """A request got its answer: send it as soon as those before it are sent."""
        if self.closed:
            return
        self._pending_bytes -= request_size
        self._server.queued_bytes -= request_size
        self._unsent_bytes += size
        pending = self._pending
        if pending[0] is not request:
            request.buffers = buffers
            request.answer_bytes = size
            return
        pending.popleft()
        self._out += buffers
        self._out_bytes += size
        self._unsent.append((request.times, request.received, request.begun, request.waits_since, request.ready))
        while pending and (following := pending[0].buffers) is not None:
            request = pending.popleft()
            self._out += following
            self._out_bytes += request.answer_bytes
            self._unsent.append((request.times, request.received, request.begun, request.waits_since, request.ready))
        if self._parsing:
            return
        if not pending:
            self.flush()  # no other answer could share the write
        elif not self._flush_due:
            self._flush_due = True
            self._server.flush_later(self)

    def flush(self) -> None:
        """Hand the answers that are ready to the transport."""
        self._flush_due = False
        if self.closed or self._transport is None:
            return
        if self._out and not self._write_paused:
            out, size = self._out, self._out_bytes
            self._out = []
            self._out_bytes = 0
            self._unsent_bytes -= size
            if len(out) == 1:
                self._transport.write(out[0])
            elif size <= _JOIN:
                self._transport.write(b"".join(out))
            else:
                self._transport.writelines(out)
        if self._unsent and not self._out:
            self._count_sent()
        if self._server.paused:
            self._server.resume_paused(self)

    def _count_sent(self) -> None:
        unsent, self._unsent = self._unsent, []
        sent = self.now()
        for times, received, begun, waited, ready in unsent:
            times.observe(received, begun, waited, ready, sent)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _reject(self, reason: str) -> None:
        logger.info("closing the connection of %s on listener %s: %s", self.host, self.listener, reason)
        self._server.count_rejected()
        self.close()

    @property
    def busy(self) -> bool:
        """Whether the client waits for an answer: it is not idle then."""
        return bool(self._pending) and not self.closed

    def abort(self) -> None:
        """Close at once, with nothing more sent."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is ready and close. Requests that are not answered yet stay unanswered."""
        if self._transport is None or self.closed:
            return
        if self._out and not self._write_paused:
            self._transport.writelines(self._out)
            self._out = []
            self._count_sent()
        self.closed = True
        self._transport.close()
