"""API keys and the classes of their messages.

The modules of messages are imported when their class is first asked for.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from broadsheet_broker.wire.api_table import APIS
from broadsheet_broker.wire.errors import ProtocolError

if TYPE_CHECKING:
    from broadsheet_broker.wire.schema import Message


def api_name(api_key: int) -> str:
    """Kafka's name of an API: `Produce`."""
    return _entry(api_key)[0]


def flexible_from(api_key: int) -> int:
    """The first flexible version of an API's messages: it decides the version of their headers."""
    return _entry(api_key)[2]


@lru_cache(None)
def request_class(api_key: int) -> type[Message]:
    """The class of the request; ProtocolError for an API key that Kafka does not have."""
    return _load(api_key, "Request")


@lru_cache(None)
def response_class(api_key: int) -> type[Message]:
    """The class of the response; ProtocolError for an API key that Kafka does not have."""
    return _load(api_key, "Response")


def request_header_version(api_key: int, version: int) -> int:
    """2 for flexible versions, else 1."""
    return 2 if version >= flexible_from(api_key) else 1


def response_header_version(api_key: int, version: int) -> int:
    """1 for flexible versions, else 0; ApiVersions always 0 (KIP-511)."""
    return 1 if version >= flexible_from(api_key) and api_key != 18 else 0


def _entry(api_key: int) -> tuple[str, str, int]:
    try:
        return APIS[api_key]
    except KeyError:
        raise ProtocolError(f"API key {api_key} does not exist") from None


def _load(api_key: int, kind: str) -> type[Message]:
    name, module, _ = _entry(api_key)
    messages = import_module(f"broadsheet_broker.wire.messages.{module}_{kind.lower()}")
    message: type[Message] = getattr(messages, name + kind)
    return message
