"""Orders for the active controller, wherever it is: carried out here, or sent to the node that leads the quorum.

A caller does not see where its order runs. While the quorum has no leader, or elects another one, the order waits and
is retried until its time is over, as Kafka's brokers do (KIP-590). An order that was sent and not answered may be
carried out all the same: when it is sent again, the topic exists already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.peers import Address, PeerError, Peers
from broadsheet_broker.wire.schema import Message

ATTEMPT_SECONDS: Final = 10.0
"""How long one attempt waits for an answer before another one is made."""
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.25

Answer = TypeVar("Answer", bound=Message)


class Call(Protocol):
    """Has a request of this node carried out by the active controller: in a version, within some seconds. Requests of
    one lane go in order. Raises KafkaError when all of it is refused, or REQUEST_TIMED_OUT."""

    async def __call__(
        self, request: Message, answer: type[Answer], version: int, seconds: float, lane: str | None = None
    ) -> Answer: ...


class GiveOrder(Protocol):
    """Has an order carried out by the active controller, as a client's: see `metadata_node.MetadataNode.order`."""

    async def __call__(self, request: Message, answer: type[Answer]) -> Answer: ...


class Leader(NamedTuple):
    """The active controller on another node."""

    node_id: int
    address: Address


class _Unanswered(Exception):
    """The connection ended, or the leader changed while an order was with the former one."""


class Forwarder:
    """Sends requests to the active controller. Call `news` at each change of leader."""

    def __init__(
        self, environment: Environment, peers: Peers | None, leader: Callable[[], Leader | None], lane: str = "control"
    ) -> None:
        self._environment = environment
        self._peers = peers
        self._leader = leader
        self._lane = lane
        self._changed: asyncio.Future[None] | None = None
        self._sent: dict[asyncio.Future[Any], int] = {}

    def news(self) -> None:
        """The leader changed: orders that wait for a leader, or for an answer of the former one, are retried."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        leader = self._leader()
        for answer, node_id in list(self._sent.items()):
            if not answer.done() and (leader is None or leader.node_id != node_id):
                answer.set_result(None)

    async def call(
        self,
        request: Message,
        version: int,
        here: Callable[[], Any],
        seconds: float,
        *,
        attempt: float = ATTEMPT_SECONDS,
        lane: str | None = None,
    ) -> Any:
        """The answer to an order. `here()` gives a coroutine that carries it out on this node, or None when this node
        is not the active controller. Raises KafkaError(REQUEST_TIMED_OUT) when the seconds are over."""
        deadline = self._environment.monotonic() + seconds
        pause = 0.0
        while True:
            left = deadline - self._environment.monotonic()
            if left <= 0:
                raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "The active controller did not answer in time.")
            try:
                async with asyncio.timeout(left):
                    return await self._attempt(request, version, here, min(attempt, left), lane or self._lane)
            except TimeoutError:
                continue
            except KafkaError as error:
                if error.code is not ErrorCode.NOT_CONTROLLER:
                    raise
            except _Unanswered:
                pass
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            await self._wait_for_news(min(pause, max(deadline - self._environment.monotonic(), 0)))

    async def _attempt(self, request: Message, version: int, here: Callable[[], Any], seconds: float, lane: str) -> Any:
        own = here()
        if own is not None:
            return await own
        leader = self._leader()
        if leader is None or self._peers is None:
            raise KafkaError(ErrorCode.NOT_CONTROLLER)
        answer: asyncio.Future[Any] = self._environment.loop.create_future()

        def answered(message: Any, error: PeerError | None) -> None:
            if not answer.done():
                answer.set_result(message)  # None with an error; set as one, it would hold this frame and its request

        self._sent[answer] = leader.node_id
        try:
            self._peers.send(leader.node_id, leader.address, request, version, answered, timeout=seconds, lane=lane)
            message = await answer
        finally:
            del self._sent[answer]
        if message is None:
            raise _Unanswered
        if first_error(message) == ErrorCode.NOT_CONTROLLER:
            raise KafkaError(ErrorCode.NOT_CONTROLLER)
        return message

    async def _wait_for_news(self, seconds: float) -> None:
        """Pause, but not beyond the next change of leader."""
        if self._changed is None or self._changed.done():
            self._changed = self._environment.loop.create_future()
        await asyncio.wait([self._changed], timeout=seconds)


def expect(message: object, answer: type[Answer]) -> Answer:
    """The message, if it is the answer that was expected; else KafkaError(UNKNOWN_SERVER_ERROR)."""
    if not isinstance(message, answer):
        found = type(message).__name__
        raise KafkaError(
            ErrorCode.UNKNOWN_SERVER_ERROR, f"The active controller answered with {found} instead of {answer.__name__}."
        )
    return message


_CODES: Final = {int(code): code for code in ErrorCode}


def error_code(number: int) -> ErrorCode:
    """The code in an answer."""
    return _CODES.get(number, ErrorCode.UNKNOWN_SERVER_ERROR)


def first_error(message: Any) -> int:
    """The first error code in an answer: a node that is not the active controller answers so for every item."""
    code = getattr(message, "error_code", None)
    if code:
        return int(code)
    for name in getattr(type(message), "__slots__", ()):
        value = getattr(message, name, None)
        if isinstance(value, list) and value and not isinstance(value[0], int | str | bytes):
            found = first_error(value[0])
            if found:
                return found
    return 0
