"""Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`; nothing else.

A server for probes and Prometheus, on the broker's own loop. It supports the part of HTTP/1.1 that they need: GET and
HEAD without a body, persistent connections, one request at a time. A malformed request gets 400 and ends the
connection; a request has `_PATIENCE` seconds and 8 KiB for its head; there are at most `_MOST` connections.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from broadsheet_broker.network.prometheus import CONTENT_TYPE, render_in_steps
from broadsheet_broker.network.server import bind

if TYPE_CHECKING:
    from broadsheet_broker.config import Listener
    from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
_LARGEST_HEAD = 8192
_MOST = 64

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

Complaints = Callable[[], list[str]]
"""Returns what is wrong, as readable messages; an empty list when nothing is."""


class HttpEndpoint:
    """Serves health and metrics on `broadsheet.http.listener`."""

    def __init__(self, environment: Environment, listener: Listener, *, healthy: Complaints, ready: Complaints) -> None:
        """`healthy` says why the process should be restarted, `ready` why it should not get clients yet."""
        self.loop = environment.loop
        self.connections: set[HttpConnection] = set()
        self.port = 0
        """The port listened on, once started."""
        self._metrics = environment.metrics
        self._listener = listener
        self._healthy = healthy
        self._ready = ready
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self) -> None:
        """Raises ListenError."""
        key = "broadsheet.http.listener"
        self._servers, self.port = await bind(self.loop, self._listener, lambda: HttpConnection(self), key=key)
        for server in self._servers:
            await server.start_serving()

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def scrape(self) -> Iterator[bytes | None]:
        """The body of /metrics in parts, and None where there is none yet."""
        return render_in_steps(self._metrics.families_in_steps())

    def respond(self, path: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body of a GET of anything but /metrics."""
        if path in (b"/healthz", b"/readyz"):
            complaints = self._healthy() if path == b"/healthz" else self._ready()
            text = "\n".join(complaints or ["ok"]) + "\n"
            return 503 if complaints else 200, "text/plain; charset=utf-8", text.encode()
        return 404, "text/plain; charset=utf-8", b"there are /healthz, /readyz and /metrics\n"


class HttpConnection(asyncio.Protocol):
    """One connection of a probe or a scraper."""

    __slots__ = ("_data", "_endpoint", "_parts", "_scrape", "_timer", "_transport")

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._data = b""
        self._scrape: Iterator[bytes | None] | None = None
        """The answer that is being made. Requests behind it wait."""
        self._parts: list[bytes] = []
        """What there is of it."""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._endpoint.connections) >= _MOST:
            self._transport.abort()
            return
        self._endpoint.connections.add(self)
        self._wait(_PATIENCE)

    def connection_lost(self, error: Exception | None) -> None:
        self._endpoint.connections.discard(self)
        self._transport = None
        self._scrape = None
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._scrape is None:
            self._answer_all()
        elif len(self._data) > _LARGEST_HEAD:
            self.abort()

    def _answer_all(self) -> None:
        while self._transport is not None and not self._transport.is_closing() and self._scrape is None:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                if len(self._data) > _LARGEST_HEAD:
                    self._refuse(400)
                return
            self._data = rest
            if len(head) > _LARGEST_HEAD:
                self._refuse(400)
            else:
                self._answer(head)

    def _answer(self, head: bytes) -> None:
        line, *fields = head.split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        headers = {}
        for field in fields:
            parsed = _FIELD.fullmatch(field)
            if parsed is None:
                self._refuse(400)
                return
            headers[parsed[1].lower()] = parsed[2].lower()
        if match is None or headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
            self._refuse(400)
            return
        method, target, minor = match.groups()
        if minor == b"1" and b"host" not in headers:
            self._refuse(400)
            return
        if method not in (b"GET", b"HEAD"):
            self._refuse(405)
            return
        option = headers.get(b"connection", b"")
        keep = option != b"close" if minor == b"1" else option == b"keep-alive"
        path = target.split(b"?")[0]
        try:
            if path == b"/metrics":
                self._scrape = self._endpoint.scrape()
                self._go_on(keep, method == b"GET")
                return
            status, kind, body = self._endpoint.respond(path)
        except Exception:
            status, kind, body = self._failed(path)
        self._send(status, kind, body, keep=keep, with_body=method == b"GET")

    def _go_on(self, keep: bool, with_body: bool) -> None:
        """Make some more of the answer to a scrape, and send it when it is whole."""
        if self._scrape is None:
            return  # the client is gone
        status, kind, body = 200, CONTENT_TYPE, b""
        try:
            part = next(self._scrape, b"")
            if part is None or part:
                if part:
                    self._parts.append(part)
                self._endpoint.loop.call_soon(self._go_on, keep, with_body)
                return
            body = b"".join(self._parts)
        except Exception:
            status, kind, body = self._failed(b"/metrics")
        self._scrape = None
        self._parts = []
        self._send(status, kind, body, keep=keep, with_body=with_body)
        self._answer_all()

    def _failed(self, path: bytes) -> tuple[int, str, bytes]:
        logger.exception("cannot answer %s", path.decode("latin-1"))
        return 503, "text/plain; charset=utf-8", b"failed; the log of the broker has the reason\n"

    def _refuse(self, status: int) -> None:
        self._send(status, "text/plain; charset=utf-8", f"{_REASONS[status]}\n".encode(), keep=False, with_body=True)

    def _send(self, status: int, kind: str, body: bytes, *, keep: bool, with_body: bool) -> None:
        assert self._transport is not None
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\nConnection: {'keep-alive' if keep else 'close'}\r\n"
            + ("Allow: GET, HEAD\r\n" if status == 405 else "")
            + "\r\n"
        )
        self._transport.write(head.encode() + (body if with_body else b""))
        if keep:
            self._wait(120.0)
        else:
            self._transport.close()
            self._wait(_PATIENCE)

    def _wait(self, seconds: float) -> None:
        """Close the connection if no request is complete by then."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._endpoint.loop.call_later(seconds, self.abort)
