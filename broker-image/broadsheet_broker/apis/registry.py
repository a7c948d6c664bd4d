"""Which module answers which API key, in which versions. ApiVersions advertises exactly this table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from broadsheet_broker.apis.request import Request, Services

Handler = Callable[[Services, Request[Any]], Awaitable[None] | None]


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


REGISTRY: dict[int, Api] = {}


def serves(
    key: int, name: str, versions: tuple[int, int], *, advertise_from: int | None = None
) -> Callable[[Handler], Handler]:
    """Register a handler for an API key; `versions` is the closed range served."""

    def register(handler: Handler) -> Handler:
        lowest, highest = versions
        REGISTRY[key] = Api(key, name, lowest, highest, lowest if advertise_from is None else advertise_from, handler)
        return handler

    return register
