"""One request in flight, and the services that may answer it.

A handler is a function `handle(services, request) -> None`. It may call `request.answer(...)` before it returns or at
any later time (a delayed fetch, a join that waits for its group); the connection keeps the answers in the order of the
requests. A handler may also be a coroutine function, for paths that are not hot. An exception in a handler is logged
and answered with UNKNOWN_SERVER_ERROR, in the shape of that API's answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from broadsheet_broker.apis.notices import Notices

if TYPE_CHECKING:
    from broadsheet_broker.config import BrokerConfig
    from broadsheet_broker.coordinators import GroupCoordinator
    from broadsheet_broker.metadata import MetadataCache
    from broadsheet_broker.node import MetadataNode
    from broadsheet_broker.replication import ReplicaManager
    from broadsheet_broker.seams import Environment

Body = TypeVar("Body")

AT_WORK = -1.0
"""A value of `Request.waits_since`."""


class Connection(Protocol):
    """What a handler may know of the connection that a request came on."""

    id: int
    """Unique within the process: the key of fetch sessions and quotas."""
    listener: str
    """Name of the listener, for example `PLAINTEXT`: Metadata answers with the addresses of that listener."""
    host: str
    """The client's address, without port."""
    principal: str
    """`User:ANONYMOUS` until authentication is built."""
    closed: bool
    """True once the client is gone: a parked request may be dropped."""

    @property
    def keeps_up(self) -> bool:
        """Whether the client has taken nearly all answers so far: a large one need not wait in memory."""
        ...


class Request(Generic[Body]):
    """A decoded request. Subclassed by the network, which knows how to send."""

    __slots__ = (
        "api_key",
        "body",
        "client_id",
        "connection",
        "correlation_id",
        "on_gone",
        "received",
        "throttle_ms",
        "version",
        "waits_since",
    )

    def __init__(
        self,
        api_key: int,
        version: int,
        correlation_id: int,
        client_id: str,
        body: Body,
        connection: Connection,
        received: float,
    ) -> None:
        self.api_key = api_key
        self.version = version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.body = body
        self.connection = connection
        self.received = received
        """Environment.timer() (seconds) when the last byte arrived."""
        self.waits_since = 0.0
        """When the request began to wait for something else, which is what its time is counted as from then on. 0: when
        its handler returned without an answer. Negative (`AT_WORK`): not yet, although its handler has returned."""
        self.throttle_ms = 0
        """How long the client is asked to pause: its answer carries this, whatever the API (KIP-219)."""
        self.on_gone: Callable[[], None] | None = None
        """Called once if the connection ends before the request is answered. Set by handlers that park a request for a
        time chosen by the client, so that nothing waits for a client that is gone."""

    def hold(self) -> None:
        """Let no later request of this connection be handled before `release` or an answer.

        For a handler that cannot carry its request out in one turn of the loop, where the order of requests matters (an
        append that is validated in steps). What has arrived stays in the connection's buffer, and reading pauses when a
        whole request waits there. Holding twice is holding once; after the answer it does nothing. Kafka mutes the
        channel of each request in the same way.
        """
        raise NotImplementedError

    def release(self) -> None:
        """End `hold`: later requests are handled from the next callback of the loop on, also when this one waits."""
        raise NotImplementedError

    def answer(self, message: Any) -> None:
        """Send the response message, encoded in the request's version. Call exactly once, now or later."""
        raise NotImplementedError

    def answer_nothing(self) -> None:
        """Complete a request that has no answer (produce with acks=0)."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """Close the connection (Kafka does so when a produce with acks=0 fails)."""
        raise NotImplementedError


@dataclass(slots=True)
class Services:
    """What handlers call: the parts of one broker. Built in broker.py only."""

    environment: Environment
    config: BrokerConfig
    metadata: MetadataCache
    node: MetadataNode
    replicas: ReplicaManager
    groups: GroupCoordinator
    notices: Notices = field(default_factory=Notices)
    """For log lines that clients can cause at will."""
