"""Git repositories over smart HTTP: `gitserver.py FOLDER PORT [ADDRESS]` serves the bare repositories in a folder.

Read only; `git http-backend` does the work. Only the standard library is imported: the interpreter of the machine runs
it, beside the control plane.
"""

from __future__ import annotations

import http.server
import os
import subprocess
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """Each request is one run of the CGI program, with the variables of RFC 3875."""

    protocol_version = "HTTP/1.1"
    folder = ""

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        variables = {
            "GIT_PROJECT_ROOT": self.folder,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            # The repository may belong to another user than the one that serves it.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env={**os.environ, **variables}, stdout=subprocess.PIPE, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _serve

    def log_message(self, *_: object) -> None:
        """Git asks often; only its errors are of interest, and they are on standard error."""


def main() -> None:
    folder, port, *address = sys.argv[1:]
    Handler.folder = folder
    http.server.ThreadingHTTPServer((address[0] if address else "127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
