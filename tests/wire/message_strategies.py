"""Hypothesis strategies for Kafka messages of any class and version, and the list of all message classes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import Any

from hypothesis import strategies as st

from broadsheet_broker.wire import messages
from broadsheet_broker.wire.compiler import version_of
from broadsheet_broker.wire.schema import Field, Message, Struct

INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
}
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.integers(*limits) for name, limits in INTEGERS.items()},
    "bool": st.booleans(),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "uuid": st.uuids(),
    # Long enough to need a varint of two bytes now and then.
    "string": st.one_of(st.text(max_size=8), st.just("long" * 40)),
    "bytes": st.one_of(st.binary(max_size=8), st.just(b"long" * 40)),
    "records": st.one_of(st.binary(max_size=8), st.just(b"long" * 4096)),
}


def message_class(module: str) -> type[Message]:
    """The message class of a module of `wire.messages`."""
    content = vars(importlib.import_module(f"broadsheet_broker.wire.messages.{module}"))
    (cls,) = [
        item
        for item in content.values()
        if isinstance(item, type) and issubclass(item, Message) and item is not Message
    ]
    return cls


@cache
def all_message_classes() -> tuple[type[Message], ...]:
    return tuple(message_class(module.name) for module in pkgutil.iter_modules(messages.__path__))


def versions(cls: type[Message]) -> range:
    return range(cls.LOWEST_VERSION, cls.HIGHEST_VERSION + 1)


def all_versions() -> Iterator[tuple[type[Message], int]]:
    for cls in all_message_classes():
        for version in versions(cls):
            yield cls, version


@cache
def structs(cls: type[Struct], version: int, peer: Any = None) -> st.SearchStrategy[Any]:
    """Instances with every field that the version has set to something, and the others left at their defaults.

    `peer` is the class that another library has for the same struct: values keep to what it can hold.
    """
    from tests.wire.kio_peer import peer_field, peer_struct, peer_values

    fields = {}
    for field in cls.FIELDS:
        if not version_of(field, version):
            continue
        theirs = None if peer is None else peer_field(peer, field.name)
        if isinstance(field.type, str):
            narrowed = peer_values(theirs)
            one = PRIMITIVES[field.type] if narrowed is None else narrowed
        else:
            one = structs(field.type, version, None if theirs is None else peer_struct(theirs))
        fields[field.name] = _field_values(field, version, one)
    return st.builds(cls, **fields)


def _field_values(field: Field, version: int, one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    values = st.lists(one, max_size=3) if field.array else one
    # A tagged field that is null in a version where that is not its default is not written by every library.
    if version in field.nullable and version not in field.tagged:
        values = st.one_of(st.none(), values)
    return values
