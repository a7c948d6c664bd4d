"""A broker of a few lines for tests of the generator: it answers as it is told, on a loopback port."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from broadsheet_broker.wire.messages.produce_response import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from e2e.bench.core.frames import PRODUCE_VERSION

Answering = Callable[[int, int], bytes | None]
"""From the number of a request and its correlation id to what is sent back; None: the connection is closed."""


class FakeBroker:
    """Serves one connection at a time. What `answering` returns is sent as it is; it may be empty."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.requests = 0

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as stream:
                    self._answer(connection, stream)
        except OSError:
            return  # the test is over

    def _answer(self, connection: socket.socket, stream: Any) -> None:
        while len(size := stream.read(4)) == 4:
            frame = stream.read(int.from_bytes(size, "big"))
            answer = self._answering(self.requests, int.from_bytes(frame[4:8], "big"))
            self.requests += 1
            if answer is None:
                return
            connection.sendall(answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def produced(topic: str, correlation_id: int, code: int = 0, message: str | None = None) -> bytes:
    """An answer to a Produce of one partition, with its size in front."""
    row = PartitionProduceResponse(index=0, error_code=code, log_start_offset=0, error_message=message)
    answer = ProduceResponse(responses=[TopicProduceResponse(name=topic, partition_responses=[row])])
    return framed(correlation_id, b"".join(bytes(part) for part in answer.encode(PRODUCE_VERSION)))


def framed(correlation_id: int, body: bytes) -> bytes:
    return struct.pack(">iix", 5 + len(body), correlation_id) + body
