"""The canary's HTTP endpoint: /healthz, /readyz, /metrics, and /status, which the operator reads."""

from __future__ import annotations

import errno
import re
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

Page = Callable[[], tuple[int, str, bytes]]
"""Makes an answer: HTTP status, content type and body."""
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
REQUEST_SECONDS = 5.0
"""How long a client may take to send a request."""
ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([^\s:\[\]]*)):([0-9]{1,5})")
ADDRESS_HELP = "HOST:PORT with a port up to 65535, as in localhost:9404, [::1]:9404, or [::]:9404 for all addresses"
ALL = "::"
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


class Address(NamedTuple):
    """Where to listen: a name or an address, `::` for all addresses of IPv4 and IPv6."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Out of `host:port`, with an IPv6 address in brackets. ValueError says what is allowed."""
        found = ADDRESS.fullmatch(text)
        if not found or int(found[3]) > 65535:
            raise ValueError(f"write {ADDRESS_HELP}")
        return cls(found[1] or found[2] or "localhost", int(found[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Endpoint:
    """Serves pages from threads of its own."""

    def __init__(self, address: Address, pages: Mapping[str, Page]) -> None:
        """Listens at once. OSError when it cannot."""
        self._server = _listen(address, _handler(pages))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, family: int, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AddressFamily(family)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self.server_address[0] != ALL))
        super().server_bind()


def _listen(address: Address, handler: type[BaseHTTPRequestHandler]) -> _Server:
    """On both families for `::`, on IPv4 alone where the kernel has no IPv6; a name's IPv4 address goes first."""
    host, port = address
    if host == ALL:
        try:
            return _Server(socket.AF_INET6, (host, port), handler)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
            return _Server(socket.AF_INET, ("0.0.0.0", port), handler)
    places = sorted((place[0], str(place[4][0])) for place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    for family, found in places[:-1]:
        try:
            return _Server(family, (found, port), handler)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    family, found = places[-1]
    return _Server(family, (found, port), handler)


def _handler(pages: Mapping[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version, sys_version = "broadsheet-canary", ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, body = page() if page else (404, TEXT, b"pages: " + " ".join(pages).encode() + b"\n")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged per request."""

    return Handler
