"""The canary's HTTP endpoint: /healthz, /readyz, /metrics, and /status, which the operator reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = Callable[[], tuple[int, str, bytes]]
"""Makes an answer: HTTP status, content type and body."""
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
REQUEST_SECONDS = 5.0
"""How long a client may take to send a request."""


class Endpoint:
    """Serves pages from threads of its own."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        """Listens at once. OSError when it cannot."""
        self._server = ThreadingHTTPServer((host, port), _handler(pages))
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
