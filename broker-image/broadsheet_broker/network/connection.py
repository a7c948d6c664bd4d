"""One client's connection: bytes in, requests to their handlers, answers out in the order of the requests.

**Turns.** A connection handles requests for a slice of time, then others have their turn (see `turns`); what arrived
meanwhile stays in its buffer (see `receiving`), and reading stops when that is full. Requests of a client that is gone
are not handled.

**Order.** Handlers may answer at any time; a completed answer waits until all earlier ones of its connection are out.
Answers completed while one read is parsed leave in one write at its end; answers completed at other times when no
request of the connection is left unanswered, or else in one write at the end of the loop's turn.

**Holding.** While a request is held, later ones of its connection are not handled (see `Request.hold`).

**Back-pressure.** Reading pauses while too many requests, or too many bytes of requests, of this connection are
unanswered, while the peer does not read its answers (the transport's high-water mark), or while the whole server holds
too many bytes of requests, or of answers of which some are this connection's; it resumes by itself (see `sending`).
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from broadsheet_broker.network.admission import LARGE
from broadsheet_broker.network.pending import PendingRequest, client_id, observe_sent
from broadsheet_broker.network.receiving import SIZE, Received
from broadsheet_broker.network.sending import IN_A_ROW, IN_ONE_WRITE, PLAIN, CutShortError, Pieces, held_bytes
from broadsheet_broker.network.turns import REQUEST_SECONDS, SLICE_SECONDS
from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.primitives import skip_tagged_fields

if TYPE_CHECKING:
    from broadsheet_broker.network.dispatch import ServedApi
    from broadsheet_broker.network.server import Server
    from broadsheet_broker.seams import Buffer
    from broadsheet_broker.seams.files import StoredBytes
    from broadsheet_broker.seams.metrics import RequestTimes

logger = logging.getLogger(__name__)

_MOST_OF_A_SLICE: Final = 100
"""Requests of a connection that are handled in a row; where time passes, `SLICE_SECONDS` ends it first."""

_JOIN: Final = 16 * 1024
"""Answers up to this size are joined into one buffer; larger ones go out as they are."""

_WRITE_EARLY: Final = 256 * 1024
"""Bytes of answers that are written before the rest of what was read is parsed."""

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes in the transport of a slow reader above which it gets no more, and the reader's requests are left unread."""

MOST_UNSENT: Final = 256 * 1024
"""Bytes of answers that the transport has not got, above which the requests of this connection are left unread."""

_HEADER: Final = struct.Struct(">hhih")


class KafkaConnection:
    """The server's side of a connection that speaks Kafka's protocol; the event loop calls it by a `KafkaProtocol`."""

    __slots__ = (
        "_apis",
        "_client",
        "_client_bytes",
        "_flush_due",
        "_held_bytes",
        "_holds",
        "_out",
        "_out_bytes",
        "_parsing",
        "_paused",
        "_pending",
        "_pending_bytes",
        "_pieces",
        "_received",
        "_server",
        "_stopped",
        "_stored_out",
        "_transport",
        "_turns",
        "_unsent",
        "_unsent_bytes",
        "_write_paused",
        "closed",
        "host",
        "id",
        "last_active",
        "listener",
        "now",
        "principal",
        "queued",
        "virtual_time",
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
        self._received = Received(server.pool)
        self._turns = server.turns
        self.queued = False
        self.virtual_time = 0.0
        """See `turns`."""
        self._pending: deque[PendingRequest] = deque()
        """Requests whose answers are not out, in order of arrival."""
        self._pending_bytes = 0
        self._out: list[Buffer | StoredBytes] = []
        """Answers whose turn has come, to be handed to the transport."""
        self._out_bytes = 0
        self._unsent: list[tuple[RequestTimes, float, float, float, float]] = []
        """For each answer in `_out`, the arguments of `RequestTimes.observe` but the last; not the request, which holds
        the received bytes."""
        self._unsent_bytes = 0
        """Bytes of all answers that are completed and not handed to the transport."""
        self._held_bytes = 0  # of them, those that are in memory and not in files
        self._stored_out = False
        self._pieces: Pieces | None = None
        """Answers that are handed over piece by piece; made when the first one comes."""
        self._flush_due = False
        self._holds = 0
        """Requests of this connection that are held."""
        self._parsing = False
        self._paused = False
        self._stopped = False
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
        self._server.forget(self, self._pending_bytes, self._held_bytes)
        pending, self._pending = self._pending, deque()
        self._pending_bytes = 0
        for request in pending:
            self._server.abandon(request)
        self._out.clear()
        self._unsent.clear()
        if self._pieces is not None:
            self._server.stuck_bytes -= self._pieces.moving()
            self._pieces.clear()
        self._received.drop()
        self._transport = None

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._pieces is not None:
            self._server.stuck_bytes += self._pieces.stuck()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._pieces is not None:
            self._server.stuck_bytes -= self._pieces.moving()
        self.flush()

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._received.room()

    def buffer_updated(self, nbytes: int) -> None:
        received = self._received
        received.end += nbytes
        self.last_active = now = self.now()
        if self._paused:
            return
        if not self.queued and self._turns.may_serve_now():
            self._parse(now)
            return
        self._turns.add(self)
        received.lend_tail()
        if received.full:
            self._stop_reading()

    def serve(self) -> None:
        """Handle what has arrived, as the scheduler allows."""
        if not self._paused:
            self._parse(self.now())
            self._read_on()

    # -- cutting and dispatching requests ----------------------------------------------------------------------------

    def _parse(self, begun: float) -> None:
        """Handle requests for a slice of time. `begun` is now."""
        received = self._received
        view = received.view
        if view is None:
            return
        self._parsing = True
        slice_begun = begun
        handled = 0
        more = False
        start, end = received.start, received.end
        largest = self._server.largest_request
        try:
            while end - start >= 4:
                (size,) = SIZE.unpack_from(view, start)
                if not 0 <= size <= largest:
                    raise ProtocolError(f"a request of {size} bytes is announced; the most is {largest}")
                stop = start + 4 + size
                if stop > end:
                    break
                if not self._may_read():
                    self._pause()
                    break
                if handled:
                    begun = self.now()
                    if begun - slice_begun >= SLICE_SECONDS or handled >= _MOST_OF_A_SLICE:
                        more = True
                        break
                received.start = stop
                handled += 1
                self._receive(view[start + 4 : stop], size, begun)
                if size > LARGE:
                    self._server.large_request_ended(self)
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
        if not self._paused:
            announced = received.announced_large
            if announced and not self._server.admit_large_request(self, announced):
                self._pause()
            else:
                received.keep_rest()
        elif received.start == received.end:
            received.drop()
        if self._unsent:
            self.flush()
        if handled:
            self._turns.charge(self, max(self.now() - slice_begun, handled * REQUEST_SECONDS))
        if more:
            self._turns.add(self)
            if received.full:
                self._stop_reading()

    def _receive(self, frame: memoryview, size: int, begun: float) -> None:
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
                self._client = client_id(client_bytes, length)
                self._client_bytes = bytes(client_bytes)
        elif self._client_bytes:
            self._client_bytes, self._client = b"", ""
        if version >= api.flexible_from:
            try:
                position = position + 1 if frame[position] == 0 else skip_tagged_fields(frame, position, size)
            except IndexError:
                raise ProtocolError("the header of a request ends too early") from None
        body, _ = api.message.decode(frame, version, position)
        request = PendingRequest(api, version, correlation_id, self._client, body, self, self.last_active, begun, size)
        self._pending.append(request)
        self._pending_bytes += size
        self._server.queued_bytes += size
        self._server.call(api, request)

    def _refuse_version(self, api: ServedApi, version: int, correlation_id: int) -> None:
        """ApiVersions answers a newer client with what is served (KIP-511); any other API ends the connection."""
        answer = self._server.version_answer(api)
        if answer is None:
            raise ProtocolError(f"{api.name} version {version} is not served, only {api.lowest} to {api.highest}")
        request = PendingRequest(api, 0, correlation_id, self._client, None, self, self.last_active, self.now(), 0)
        self._pending.append(request)
        request.answer(answer)

    def shrink(self) -> None:
        """Called now and then for connections on which nothing arrives."""
        if not self._paused and not self.queued:
            self._received.shrink()

    # -- back-pressure ------------------------------------------------------------------------------------------------

    def _may_read(self) -> bool:
        server = self._server
        return (
            not self._holds
            and len(self._pending) < server.most_pending
            and self._pending_bytes < server.most_pending_bytes
            and not self._write_paused
            and self._unsent_bytes < MOST_UNSENT
            and server.queued_bytes < server.most_queued_bytes
            and (server.unsent_bytes < server.most_unsent_bytes or not self._unsent_bytes)
            and not (server.pressure and (self._pending or self._unsent_bytes))
        )

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._server.paused[self] = None
            self._stop_reading()

    def _stop_reading(self) -> None:
        if not self._stopped and self._transport is not None:
            self._stopped = True
            self._transport.pause_reading()

    def _read_on(self) -> None:
        may_read = not (self._paused or self.closed or (self.queued and self._received.full))
        if self._stopped and may_read and self._transport is not None:
            self._stopped = False
            self._transport.resume_reading()

    def resume(self) -> None:
        """Handle requests again, when it is this connection's turn, if no limit forbids it."""
        if self._paused and not self.closed and self._may_read():
            self._paused = False
            self._server.paused.pop(self, None)
            self._turns.add(self)

    @property
    def keeps_up(self) -> bool:
        """See `apis.request.Connection`."""
        return self._held_bytes < MOST_UNSENT and not self._write_paused

    @property
    def held_bytes(self) -> int:
        """Memory that ends with this connection, about: what it has sent and what it does not take."""
        transport = self._transport
        in_transport = 0 if transport is None else transport.get_write_buffer_size()
        return self._received.buffer_bytes + self._pending_bytes + self._held_bytes + in_transport

    def hold(self) -> None:
        """Handle no further request before `release` was called as often as this."""
        self._holds += 1

    def release(self) -> None:
        """Take one `hold` back. The next request is handled in a later callback of the loop, not in this one."""
        self._holds -= 1
        if not self._holds:
            self.resume()

    # -- answers ------------------------------------------------------------------------------------------------------

    def complete(
        self, request: PendingRequest, buffers: list[Buffer | StoredBytes], size: int, request_size: int
    ) -> None:
        """A request got its answer: send it as soon as those before it are sent."""
        if self.closed:
            return
        server = self._server
        self._pending_bytes -= request_size
        server.queued_bytes -= request_size
        self._unsent_bytes += size
        held = size if size < PLAIN else held_bytes(buffers)
        if held != size:
            self._stored_out = True
        self._held_bytes += held
        server.unsent_bytes += held
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

    def flush_due(self) -> None:
        """Called in the turn after `Server.flush_later`."""
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        """Hand the answers that are ready to the transport, but no more large ones in this turn if it had its share."""
        if self.closed or self._transport is None:
            return
        if not self._write_paused:
            pieces = self._pieces
            if self._out:
                out, size = self._out, self._out_bytes
                self._out = []
                self._out_bytes = 0
                if self._stored_out or size > IN_ONE_WRITE or (pieces is not None and pieces.left):
                    self._stored_out = False
                    if pieces is None:
                        pieces = self._pieces = Pieces()
                    pieces.add(out, size)
                else:
                    self._handed_over(size, size)
                    if len(out) == 1:
                        self._transport.write(cast(bytes, out[0]))
                    elif size <= _JOIN:
                        self._transport.write(b"".join(cast(list[bytes], out)))
                    else:
                        self._transport.writelines(cast(list[bytes], out))
            if pieces is not None and pieces.left and not self._flush_due and not self._send_pieces(pieces):
                return
        if self._unsent and not self._out and (self._pieces is None or not self._pieces.left):
            unsent, self._unsent = self._unsent, []
            observe_sent(unsent, self.now())
        if self._server.paused:
            self._server.resume_paused(self)

    def _handed_over(self, size: int, held: int) -> None:
        self._unsent_bytes -= size
        self._held_bytes -= held
        self._server.unsent_bytes -= held

    def _send_pieces(self, pieces: Pieces) -> bool:
        """Hand pieces over while the client keeps up, for a part of this turn; False if the connection has ended."""
        assert self._transport is not None
        sent = 0
        while pieces.left and not self._write_paused:
            if sent >= IN_A_ROW:
                self._flush_due = True
                self._server.flush_later(self)
                break
            try:
                buffers, size, held = pieces.take(self._server.stuck_bytes)
            except (CutShortError, OSError) as error:
                self._server.end_unreadable(self, error)
                return False
            self._handed_over(size, held)
            sent += size
            self._transport.writelines(buffers)
        return True

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
        self.flush()
        self.closed = True
        self._transport.close()
