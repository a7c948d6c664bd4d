"""Writes the encoder of one message in one version."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from broadsheet_broker.wire.compiler.writer import FIXED, Writer, default_of, pack_function, version_of
from broadsheet_broker.wire.primitives import UVARINT_BYTES, encode_uvarint

if TYPE_CHECKING:
    from broadsheet_broker.wire.schema import Codec, Field, Message, Struct

_SHORT = 16
"""Arrays of numbers with fewer elements than this are packed, with their length, by a `Struct` made in advance."""

_COPIED = 1024
"""Record batches of fewer bytes are joined with what surrounds them: a copy is cheaper than a buffer of its own."""


@lru_cache(None)
def _short_array_packers(length_format: str, format: str) -> tuple[Codec, ...]:
    return tuple(pack_function(f"{length_format}{count}{format}") for count in range(_SHORT))


class EncoderWriter(Writer):
    """Collects a run of fixed-size values, and writes it as one call when something of another size follows.

    `x` in a run is a zero byte: the section of tagged fields of a struct that has none.
    """

    def __init__(self, cls: type[Message], version: int) -> None:
        super().__init__(cls, version)
        self.namespace |= {"to_uvarint": encode_uvarint, "uvarint_bytes": UVARINT_BYTES, "join": b"".join}
        self._formats = ""
        self._values: list[str] = []
        self._has_records = False

    def write(self) -> None:
        self.line("def encode(m0):")
        self.deeper()
        self.line("parts = []")
        self.line("add = parts.append")
        self.line("")
        before = len(self.lines) - 1
        self._struct(self.cls, "m0")
        self._flush()
        if self._has_records:
            self.lines[before] = self.indent + "out = []"
            self.line("if parts:")
            self.line("    out.append(join(parts))")
            self.line("return out")
        else:
            self.line("return [join(parts)]")

    def _fixed(self, format: str, value: str = "") -> None:
        self._formats += format
        if value:
            self._values.append(value)

    def _take(self, extra: str = "") -> tuple[str, str]:
        """The pending run and its values as the name of a pack function and its arguments."""
        formats = self._formats + extra
        return self.constant(f"pack_{formats.replace('?', 'o')}", pack_function(formats)), ", ".join(self._values)

    def _flush(self) -> None:
        if self._formats:
            if self._formats.strip("x"):
                self.line("add({}({}))".format(*self._take()))
            else:
                self.line(f"add({bytes(len(self._formats))!r})")
            self._formats, self._values = "", []

    def _uvarint(self, variable: str) -> None:
        """A variable's value as an unsigned varint, in the same call as the run before it when it is one byte."""
        if not self._formats:
            self.line(f"add(uvarint_bytes[{variable}] if {variable} < 128 else to_uvarint({variable}))")
            return
        fused, values = self._take("B")
        alone, _ = self._take()
        values = values and values + ", "
        self.line(f"if {variable} < 128:")
        self.line(f"    add({fused}({values}{variable}))")
        self.line("else:")
        self.line(f"    add({alone}({values}))")
        self.line(f"    add(to_uvarint({variable}))")
        self._formats, self._values = "", []

    def _struct(self, cls: type[Struct], variable: str) -> None:
        plain, tagged, absent = self.present(cls)
        for field in absent:
            if not field.ignorable:
                self._refuse_unless_default(cls, field, variable)
        for field in plain:
            self._field(field, f"{variable}.{field.name}")
        if self.flexible:
            if tagged:
                self._tagged_fields(tagged, variable)
            else:
                self._fixed("x")

    def _refuse_unless_default(self, cls: type[Struct], field: Field, variable: str) -> None:
        self.line(f"if {self._differs(field, f'{variable}.{field.name}')}:")
        self.line(f"    raise ValueError('{cls.__name__}.{field.name} is set, and version {self.version} lacks it')")

    def _differs(self, field: Field, value: str) -> str:
        """An expression that tells whether a value is not the default."""
        default = default_of(field)
        if default is None:
            return f"{value} is not None"
        if field.array or default == "" or default == b"" or default is False:
            # An empty array is the default; so is null, where Kafka treats both as nothing to write.
            return f"{value}" if version_of(field, self.version) is False else f"{value} or {value} is None"
        if type(default) in (bool, int, str, bytes, float):
            return f"{value} != {default!r}"
        name = self.constant(f"default_{field.name}", default)
        return f"{value} is not {name} and {value} != {name}"

    def _tagged_fields(self, tagged: list[Field], variable: str) -> None:
        self._flush()
        conditions = [f"({self._differs(field, f'{variable}.{field.name}')})" for field in tagged]
        self.line(f"if {' or '.join(conditions)}:")
        self.deeper()
        body, outer = self.fresh("tagged"), self.fresh("parts")
        self.line(f"{body} = []")
        self.line(f"{outer} = parts")
        for field, condition in zip(tagged, conditions, strict=True):
            self.line(f"if {condition[1:-1]}:")
            self.deeper()
            self.line("parts = []")
            self.line("add = parts.append")
            self._field(field, f"{variable}.{field.name}")
            self._flush()
            self.line(f"{body}.append(({field.tag}, join(parts)))")
            self.back()
        self.line(f"parts = {outer}")
        self.line("add = parts.append")
        self.line(f"add(to_uvarint(len({body})))")
        self.line(f"for tag, data in {body}:")
        self.line("    parts += (to_uvarint(tag), to_uvarint(len(data)), data)")
        self.back()
        self.line("else:")
        self.line("    add(b'\\0')")

    def _field(self, field: Field, value: str) -> None:
        nullable = self.version in field.nullable
        if field.array:
            self._array(field, value, nullable)
        elif isinstance(field.type, str):
            self._value(field.type, value, nullable, self.flexible and field.flexible)
        elif nullable:
            self._nullable_struct(field.type, value)
        else:
            variable = self.fresh("m")
            self.line(f"{variable} = {value}")
            self._struct(field.type, variable)

    def _nullable_struct(self, cls: type[Struct], value: str) -> None:
        self._flush()
        variable = self.fresh("m")
        self.line(f"{variable} = {value}")
        self.line(f"if {variable} is None:")
        self.line("    add(b'\\xff')")
        self.line("else:")
        self.deeper()
        self._fixed("b", "1")
        self._struct(cls, variable)
        self._flush()
        self.back()

    def _value(self, type: str, value: str, nullable: bool, compact: bool) -> None:
        """One value of a primitive type."""
        if type in FIXED:
            self._fixed(FIXED[type][0], f"{value}.bytes" if type == "uuid" else value)
        elif type == "records":
            self._records(value, nullable, compact)
        else:
            variable = self.fresh("s")
            self.line(f"{variable} = {value}")
            short = type == "string"
            if nullable:
                self._null_branch(variable, compact, b"\xff\xff" if short else b"\xff\xff\xff\xff")
            if short:
                self.line(f"{variable} = {variable}.encode()")
            self._length(f"len({variable})", compact, "h" if short else "i")
            self.line(f"add({variable})")
            if nullable:
                self.back()

    def _null_branch(self, variable: str, compact: bool, null: bytes) -> None:
        """Write null; what follows is in the else branch."""
        self._flush()
        self.line(f"if {variable} is None:")
        self.line(f"    add({bytes(1) if compact else null!r})")
        self.line("else:")
        self.deeper()

    def _length(self, length: str, compact: bool, format: str) -> None:
        if compact:
            variable = self.fresh("n")
            self.line(f"{variable} = {length} + 1")
            self._uvarint(variable)
        else:
            self._fixed(format, length)
            self._flush()

    def _records(self, value: str, nullable: bool, compact: bool) -> None:
        self._has_records = True
        variable = self.fresh("r")
        self.line(f"{variable} = {value}")
        if nullable:
            self._null_branch(variable, compact, b"\xff\xff\xff\xff")
        self.line(f"if type({variable}) is list:")
        self.line(f"    n = sum(map(len, {variable}))")
        self.line("else:")
        self.line(f"    n = len({variable})")
        self.line(f"    {variable} = ({variable},)")
        self._length("n", compact, "i")
        self.line(f"if n < {_COPIED}:")
        self.line(f"    parts += {variable}")
        self.line("else:")
        self.line("    if parts:")
        self.line("        out.append(join(parts))")
        self.line("        parts.clear()")
        self.line(f"    out += {variable}")
        if nullable:
            self.back()

    def _array(self, field: Field, value: str, nullable: bool) -> None:
        variable = self.fresh("a")
        self.line(f"{variable} = {value}")
        if nullable:
            self._null_branch(variable, self.flexible, b"\xff\xff\xff\xff")
        if field.type in FIXED and field.type != "uuid":
            self._numbers(FIXED[field.type][0], variable)
        else:
            self._length(f"len({variable})", self.flexible, "i")
            self._elements(field.type, variable)
        if nullable:
            self.back()

    def _numbers(self, format: str, variable: str) -> None:
        """An array of numbers, length and all in one call when it is short."""
        self._flush()
        pack = self.constant("pack", struct.pack)
        count = self.fresh("n")
        if self.flexible:
            length_format, length, long_length = "B", f"{count} + 1", f"to_uvarint({count} + 1)"
        else:
            length_format, length, long_length = "i", count, f"{pack}('>i', {count})"
        name = f"short_{length_format}{format.replace('?', 'o')}"
        short = self.constant(name, _short_array_packers(length_format, format))
        self.line(f"{count} = len({variable})")
        self.line(f"if {count} < {_SHORT}:")
        self.line(f"    add({short}[{count}]({length}, *{variable}))")
        self.line("else:")
        self.line(f"    add({long_length})")
        self.line(f"    add({pack}(f'>{{{count}}}{format}', *{variable}))")

    def _elements(self, type: str | type[Struct], variable: str) -> None:
        element = self.fresh("m")
        self.line(f"for {element} in {variable}:")
        self.deeper()
        if isinstance(type, str):
            self._value(type, element, False, self.flexible)
        else:
            self._struct(type, element)
        self._flush()
        self.back()
