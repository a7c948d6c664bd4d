"""Which module answers which API key, in which versions. ApiVersions advertises exactly this table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.wire.api_messages import response_class
from broadsheet_broker.wire.errors import KafkaError

Handler = Callable[[Services, Request[Any]], Awaitable[None] | None]
Refuse = Callable[[Any, int, KafkaError], Any | None]
"""Builds the answer to a request that is refused as a whole, from its body and version. The error code is where clients
of that API expect it. None if no answer can carry it; then the connection is closed."""


@dataclass(frozen=True, slots=True)
class Api:
    """One API as this broker serves it."""

    key: int
    name: str
    """Name of the message without `Request`, as Kafka has it: `Produce`."""
    lowest: int
    highest: int
    lowest_advertised: int
    """What ApiVersions says, where it differs from what is served (Produce: KAFKA-18659)."""
    handler: Handler
    refuse: Refuse
    without: str = ""
    """What Kafka does in this API and this broker does not, for the reference; empty when that is nothing."""


REGISTRY: dict[int, Api] = {}


def serves(
    key: int,
    name: str,
    versions: tuple[int, int],
    *,
    advertise_from: int | None = None,
    refuse: Refuse | None = None,
    without: str = "",
) -> Callable[[Handler], Handler]:
    """Register a handler for an API key; `versions` is the closed range served.

    `refuse` is needed where the answer has no error code of its own, or not in every version.
    """

    def register(handler: Handler) -> Handler:
        lowest, highest = versions
        advertised = lowest if advertise_from is None else advertise_from
        refusal = _at_the_top(key) if refuse is None else refuse
        REGISTRY[key] = Api(key, name, lowest, highest, advertised, handler, refusal, without)
        return handler

    return register


def _at_the_top(key: int) -> Refuse:
    """For answers with a top-level error code, and perhaps a message."""
    answer: type[Any] = response_class(key)
    fields = {field.name for field in answer.FIELDS}
    if "error_code" not in fields:
        raise TypeError(f"{answer.__name__} has no error code of its own: give @serves({key}, ...) a `refuse`")

    def refuse(body: Any, version: int, error: KafkaError) -> Any:
        response = answer(error_code=error.code)
        if "error_message" in fields:
            response.error_message = error.message
        return response

    return refuse
