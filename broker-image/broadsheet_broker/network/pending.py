"""A request between its arrival and its answer."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from broadsheet_broker.wire.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from broadsheet_broker.network.connection import KafkaConnection
    from broadsheet_broker.network.dispatch import ServedApi
    from broadsheet_broker.seams import Buffer
    from broadsheet_broker.seams.files import StoredBytes
    from broadsheet_broker.seams.metrics import RequestTimes

_ANSWER: Final = struct.Struct(">ii")
_FLEXIBLE_ANSWER: Final = struct.Struct(">iix")
"""Length and correlation id; for flexible versions, an empty list of tagged fields."""


def observe_sent(unsent: list[tuple[RequestTimes, float, float, float, float]], sent: float) -> None:
    """Count the times of requests whose answers were handed to the transport."""
    for times, received, begun, waited, ready in unsent:
        times.observe(received, begun, waited, ready, sent)


def client_id(client_bytes: memoryview, length: int) -> str:
    """The client id of a request's header, of which the header announces `length` bytes. Raises ProtocolError."""
    if len(client_bytes) < length:
        raise ProtocolError("the client id is longer than its request")
    try:
        return str(client_bytes, "utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("the client id is not UTF-8") from None


class PendingRequest:
    """A request that can send its answer. It has what `apis.request.Request` declares and documents, of which handlers
    know it; it inherits nothing, so that its fields are those of a struct when it is compiled."""

    __slots__ = (
        "_api",
        "_size",
        "answer_bytes",
        "answered",
        "api_key",
        "begun",
        "body",
        "buffers",
        "client_id",
        "connection",
        "correlation_id",
        "held",
        "on_gone",
        "ready",
        "received",
        "throttle_ms",
        "times",
        "version",
        "waits_since",
    )

    def __init__(
        self,
        api: ServedApi,
        version: int,
        correlation_id: int,
        client_id: str,
        body: Any,
        connection: KafkaConnection,
        received: float,
        begun: float,
        size: int,
    ) -> None:
        self.api_key = api.key
        self.version = version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.body = body
        self.connection = connection
        self.received = received
        self.begun = begun
        """When handling began."""
        self.waits_since = 0.0
        self.throttle_ms = 0
        self.on_gone: Callable[[], None] | None = None
        self._api = api
        self.times = api.times
        self._size = size
        self.answered = False
        self.held = False
        self.buffers: list[Buffer | StoredBytes] | None = None
        """The encoded answer while it waits for earlier ones."""
        self.answer_bytes = 0
        self.ready = 0.0
        """When the answer was known."""

    def hold(self) -> None:
        if not self.held and not self.answered:
            self.held = True
            self.connection.hold()

    def release(self) -> None:
        if self.held:
            self.held = False
            self.connection.release()

    def answer(self, message: Any) -> None:
        if self.answered:
            raise RuntimeError(f"{self._api.name} was answered twice")
        self.ready = self.connection.now()
        if self.throttle_ms and hasattr(message, "throttle_time_ms"):
            message.throttle_time_ms = self.throttle_ms
        buffers = message.encode(self.version)
        self.answered = True
        self.on_gone = None
        size = sum(map(len, buffers))
        if self.version >= self._api.flexible_header_from:
            header = _FLEXIBLE_ANSWER.pack(size + 5, self.correlation_id)
        else:
            header = _ANSWER.pack(size + 4, self.correlation_id)
        buffers.insert(0, header)
        self.connection.complete(self, buffers, size + len(header), self._size)
        if self.held:
            self.release()

    def answer_nothing(self) -> None:
        if self.answered:
            raise RuntimeError(f"{self._api.name} was answered twice")
        self.ready = self.connection.now()
        self.answered = True
        self.on_gone = None
        self.connection.complete(self, [], 0, self._size)
        if self.held:
            self.release()

    def hang_up(self) -> None:
        self.answered = True
        self.on_gone = None
        self.connection.close()
