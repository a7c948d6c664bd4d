"""What the writers of decoders and encoders share: lines of text, names, and what a version has."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from broadsheet_broker.wire.errors import ProtocolError

if TYPE_CHECKING:
    from broadsheet_broker.wire.schema import Codec, Field, Message, Struct

FIXED = {
    "int8": ("b", 1),
    "int16": ("h", 2),
    "int32": ("i", 4),
    "int64": ("q", 8),
    "uint16": ("H", 2),
    "uint32": ("I", 4),
    "float64": ("d", 8),
    "bool": ("?", 1),
    "uuid": ("16s", 16),
}
"""Types of fixed size: `struct` format and bytes."""


@lru_cache(None)
def unpack_function(format: str) -> Codec:
    return struct.Struct(">" + format).unpack_from


@lru_cache(None)
def pack_function(format: str) -> Codec:
    return struct.Struct(">" + format).pack


def default_of(field: Field) -> Any:
    """The value of a field that is not set; for arrays a new list."""
    if field.array and field.default == ():
        return []
    if field.default is ...:
        return field.type.shared_default()  # type: ignore[union-attr]
    return field.default


def version_of(field: Field, version: int) -> bool:
    """Whether a version has a field."""
    return version in field.versions or version in field.tagged


class Writer:
    """Lines of a function, and the names that it uses."""

    def __init__(self, cls: type[Message], version: int) -> None:
        if not cls.LOWEST_VERSION <= version <= cls.HIGHEST_VERSION:
            raise ProtocolError(
                f"{cls.__name__} has versions {cls.LOWEST_VERSION} to {cls.HIGHEST_VERSION}, not {version}"
            )
        self.cls = cls
        self.version = version
        self.flexible = version >= cls.FLEXIBLE_FROM
        self.lines: list[str] = []
        self.namespace: dict[str, Any] = {"ProtocolError": ProtocolError}
        self.indent = ""
        self._names = 0

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    def deeper(self) -> None:
        self.indent += "    "

    def back(self) -> None:
        self.indent = self.indent[:-4]

    def fresh(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def constant(self, name: str, value: Any) -> str:
        """A name of the function's globals for a value."""
        if self.namespace.setdefault(name, value) is not value:
            return self.constant(name + "_", value)
        return name

    def present(self, struct_class: type[Struct]) -> tuple[list[Field], list[Field], list[Field]]:
        """The fields of a struct in this version: plain, tagged by tag, absent."""
        plain: list[Field] = []
        tagged: list[Field] = []
        absent: list[Field] = []
        for field in struct_class.FIELDS:
            if version_of(field, self.version):
                (tagged if self.flexible and self.version in field.tagged else plain).append(field)
            else:
                absent.append(field)
        return plain, sorted(tagged, key=lambda field: field.tag), absent
