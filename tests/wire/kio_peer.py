"""kio's classes for Kafka messages, as another implementation to compare ours with."""

from __future__ import annotations

import dataclasses
import datetime
import io
import types
import typing
from functools import cache
from pkgutil import resolve_name
from typing import Any

from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.schema.index import schema_name_map
from kio.serial import entity_reader, entity_writer

from broadsheet_broker.wire.primitives import ZERO_UUID
from broadsheet_broker.wire.schema import Struct

_EPOCH = datetime.datetime.fromtimestamp(0, tz=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)


@cache
def peer_classes() -> dict[str, dict[int, Any]]:
    """Name of the message -> version -> kio's class."""
    result: dict[str, dict[int, Any]] = {}
    for by_version in schema_name_map.values():
        for version, paths in by_version.items():
            for path in paths.values():
                cls = resolve_name(path)
                result.setdefault(cls.__name__, {})[version] = cls
    return result


@cache
def _fields(peer: Any) -> dict[str, dataclasses.Field[Any]]:
    """Our name -> kio's field. kio puts an underscore behind names that Python has taken."""
    return {field.name.removesuffix("_"): field for field in dataclasses.fields(peer)}


def peer_field(peer: Any, name: str) -> Any:
    fields = _fields(peer)
    field = fields.get(name) or fields.get(name.removesuffix("_ms"))  # kio leaves the unit out of names of times
    return (field, typing.get_type_hints(peer)[field.name]) if field is not None else None


def peer_struct(field_and_hint: Any) -> Any:
    """The dataclass in the type of a field: `tuple[X, ...] | None` -> X."""

    def find(hint: Any) -> Any:
        if dataclasses.is_dataclass(hint):
            return hint
        return next((found for part in typing.get_args(hint) if (found := find(part))), None)

    return find(field_and_hint[1])


def peer_values(field_and_hint: Any) -> st.SearchStrategy[Any] | None:
    """The values of a field where kio's type holds fewer than Kafka's."""
    if field_and_hint is None:
        return None
    theirs, hint = field_and_hint
    optional = isinstance(hint, types.UnionType) and type(None) in hint.__args__
    match theirs.metadata["kafka_type"]:
        case "error_code":
            return st.sampled_from([code.value for code in ErrorCode])
        case "timedelta_i64":
            return st.integers(-(2**40), 2**40)
        case "datetime_i64":
            times = st.integers(0, 4_000_000_000_000)
            return st.one_of(st.just(-1), times) if optional else times
    return None


def to_plain(value: Any) -> Any:
    """One of kio's values as ours would be: milliseconds, numbers, lists; structs as a dict of their fields."""
    if dataclasses.is_dataclass(value):
        return {name: to_plain(getattr(value, field.name)) for name, field in _fields(type(value)).items()}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, ErrorCode):
        return value.value
    if isinstance(value, datetime.timedelta):
        return round(value / _MILLISECOND)
    if isinstance(value, datetime.datetime):
        return round((value - _EPOCH) / _MILLISECOND)
    return value


def ours_to_plain(value: Any, theirs: Any) -> Any:
    """Our value in the same form, with only the fields that kio's has in this version."""
    if isinstance(value, Struct) and isinstance(theirs, dict):
        ours = {name: name if hasattr(value, name) else f"{name}_ms" for name in theirs}
        return {name: ours_to_plain(getattr(value, ours[name]), item) for name, item in theirs.items()}
    if isinstance(value, list) and isinstance(theirs, list):
        assert len(value) == len(theirs)
        return [ours_to_plain(mine, item) for mine, item in zip(value, theirs, strict=True)]
    if theirs is None and value in (ZERO_UUID, -1):
        return None  # kio shows the zero id and time -1 as None
    return value


def peer_decode(peer: Any, data: bytes) -> tuple[Any, int]:
    result = entity_reader(peer)(data, 0)
    return result[0], result[1]


def peer_encode(peer: Any, value: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(peer)(buffer, value)
    return buffer.getvalue()
