"""What the event loop calls: an `asyncio.BufferedProtocol` whose methods are those of the connection behind it.

A class that inherits from one of Python's is an ordinary one when it is compiled, with its fields in dictionaries. So
the connection inherits from nothing, and the loop gets its methods by this object, with no call between them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadsheet_broker.network.connection import KafkaConnection


class KafkaProtocol(asyncio.BufferedProtocol):
    """Passes everything on to a connection."""

    __slots__ = (
        "buffer_updated",
        "connection_lost",
        "connection_made",
        "eof_received",
        "get_buffer",
        "pause_writing",
        "resume_writing",
    )

    def __init__(self, connection: KafkaConnection) -> None:
        self.connection_made = connection.connection_made  # type: ignore[method-assign]
        self.connection_lost = connection.connection_lost  # type: ignore[assignment, method-assign]
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]
        self.get_buffer = connection.get_buffer  # type: ignore[method-assign]
        self.buffer_updated = connection.buffer_updated  # type: ignore[method-assign]
        self.eof_received = connection.eof_received  # type: ignore[method-assign]
