"""How a node asks other nodes: what the rooms below the network know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from broadsheet_broker.wire.schema import Message


class Address(NamedTuple):
    """Where a listener of another node is reached."""

    host: str
    port: int


Kind = Literal["timeout", "refused", "reset", "closed", "protocol"]


class PeerError(Exception):
    """Why a request got no answer. Whether the other node carried it out is unknown, unless it was refused.

    * `timeout`: nothing came in time, or the node cannot be reached at all (no route, unknown host).
    * `refused`: the machine is there and nobody listens; the request never left.
    * `reset`: the connection ended before the answer. With a `refused` after it, the process is dead.
    * `closed`: this side hung up (`disconnect`, `close`), or gave the connection up for another request's sake, or too
      many requests wait for that node already.
    * `protocol`: what came back is not Kafka's protocol.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message


OnAnswer = Callable[[Any, PeerError | None], None]
"""Gets the response message and None, or None and the error. Records in the message view memory of their own."""


class Peers(Protocol):
    """The client for other nodes of the cluster."""

    def send(
        self,
        node_id: int,
        address: Address,
        request: Message,
        version: int,
        on_answer: OnAnswer,
        *,
        timeout: float,
        lane: str = "",
    ) -> None:
        """Send one request; exactly one callback follows, never inside this call. `timeout` is in seconds.

        Requests of one node and lane share a connection, in order and pipelined; so long polls need lanes of their own.
        A lane connects when it is used, with a back-off after failures. Another address than before is followed: the
        connection to the old one ends.
        """
        ...

    def disconnect(self, node_id: int) -> None:
        """End all connections to a node; what waits fails with `closed`."""
        ...

    async def close(self) -> None:
        """End everything."""
        ...
