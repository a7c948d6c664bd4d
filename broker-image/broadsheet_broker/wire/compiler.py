"""Compiles constructors, decoders and encoders of message classes: straight-line Python for one message in one version.

The text of a function is put together from the fields' facts, then compiled by Python itself. Decoding the partition
of a produce request (version 9) becomes this, for example:

    m3 = new(PartitionProduceData)
    m3.index, = unpack_1(view, p)
    p += 4
    n = view[p]
    p += 1
    ...

What makes it fast: neighbouring fields of fixed size are one `struct` call, lengths of one byte are read and written
without a call, nothing is looked up per field. `source_of_decoder` and `source_of_encoder` give the text to read.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.primitives import (
    UVARINT_BYTES,
    decode_uvarint,
    encode_uvarint,
    skip_tagged_fields,
    uuid_from_bytes,
)

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

_UNSET: Any = object()


@lru_cache(None)
def _unpack(format: str) -> Codec:
    return struct.Struct(">" + format).unpack_from


@lru_cache(None)
def _pack(format: str) -> Codec:
    return struct.Struct(">" + format).pack


_SHORT = 16
"""Arrays of numbers with fewer elements than this are packed, with their length, by a `Struct` made in advance."""


@lru_cache(None)
def _short_array_packers(length_format: str, format: str) -> tuple[Codec, ...]:
    return tuple(_pack(f"{length_format}{count}{format}") for count in range(_SHORT))


def compile_constructor(cls: type[Struct]) -> Codec:
    """`__init__` with one parameter per field."""
    namespace: dict[str, Any] = {"unset": _UNSET}
    parameters = []
    body = []
    for field in cls.FIELDS:
        name = field.name
        if field.array and field.default == ():
            parameters.append(f"{name}=unset")
            body.append(f"self.{name} = [] if {name} is unset else {name}")
            continue
        namespace[f"default_{name}"] = default_of(field)
        parameters.append(f"{name}=default_{name}")
        body.append(f"self.{name} = {name}")
    source = f"def __init__(self, {', '.join(parameters)}):\n    " + "\n    ".join(body or ["pass"])
    return _compile(source, "__init__", f"{cls.__name__}.__init__", namespace)


def compile_decoder(cls: type[Message], version: int) -> Codec:
    source, namespace = source_of_decoder(cls, version)
    return _compile(source, "decode", f"{cls.__name__}.decode, version {version}", namespace)


def compile_encoder(cls: type[Message], version: int) -> Codec:
    source, namespace = source_of_encoder(cls, version)
    return _compile(source, "encode", f"{cls.__name__}.encode, version {version}", namespace)


def source_of_decoder(cls: type[Message], version: int) -> tuple[str, dict[str, Any]]:
    writer = _DecoderWriter(cls, version)
    writer.write()
    return "\n".join(writer.lines), writer.namespace


def source_of_encoder(cls: type[Message], version: int) -> tuple[str, dict[str, Any]]:
    writer = _EncoderWriter(cls, version)
    writer.write()
    return "\n".join(writer.lines), writer.namespace


def _compile(source: str, name: str, title: str, namespace: dict[str, Any]) -> Codec:
    exec(compile(source, f"<{title}>", "exec", dont_inherit=True), namespace)
    codec: Codec = namespace[name]
    return codec


def default_of(field: Field) -> Any:
    """The value of a field that is not set; for arrays a new list."""
    if field.array and field.default == ():
        return []
    if field.default is ...:
        return field.type.shared_default()  # type: ignore[union-attr]
    return field.default


def minimum_size(cls: type[Struct], version: int, flexible: bool) -> int:
    """The fewest bytes that a struct takes: bounds how many elements an array of so many bytes can have."""
    size = 1 if flexible else 0
    for field in cls.FIELDS:
        if version in field.versions and version not in field.tagged:
            size += _minimum_field_size(field, version, flexible)
    return size


def _minimum_field_size(field: Field, version: int, flexible: bool) -> int:
    compact = flexible and field.flexible
    if field.array or field.type in ("bytes", "records"):
        return 1 if compact else 4
    if field.type == "string":
        return 1 if compact else 2
    if isinstance(field.type, str):
        return FIXED[field.type][1]
    if version in field.nullable:
        return 1
    return minimum_size(field.type, version, flexible)


class _Writer:
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
        self.namespace: dict[str, Any] = {
            "new": object.__new__,
            "uvarint": decode_uvarint,
            "to_uvarint": encode_uvarint,
            "uvarint_bytes": UVARINT_BYTES,
            "skip_tagged_fields": skip_tagged_fields,
            "uuid_from_bytes": uuid_from_bytes,
            "ProtocolError": ProtocolError,
            "struct_error": struct.error,
        }
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


def version_of(field: Field, version: int) -> bool:
    """Whether a version has a field."""
    return version in field.versions or version in field.tagged


class _DecoderWriter(_Writer):
    def __init__(self, cls: type[Message], version: int) -> None:
        super().__init__(cls, version)
        # A run of fixed-size fields, read by one call: formats, targets, bytes, and lines that must follow the call.
        self._formats = ""
        self._targets: list[str] = []
        self._size = 0
        self._after: list[str] = []

    def write(self) -> None:
        self.line("def decode(view, p):")
        self.deeper()
        self.line("end = len(view)")
        self.line("try:")
        self.deeper()
        self._struct(self.cls, "m0")
        self._flush()
        self.line("return m0, p")
        self.back()
        self.line("except (IndexError, struct_error):")
        title = f"{self.cls.__name__} version {self.version}"
        self.line(f"    raise ProtocolError('{title} ends too early') from None")
        self.line("except UnicodeDecodeError:")
        self.line(f"    raise ProtocolError('{title} has a string that is not UTF-8') from None")

    def _fixed(self, format: str, size: int, target: str, after: str = "") -> None:
        self._formats += format
        self._targets.append(target)
        self._size += size
        if after:
            self._after.append(after)

    def _flush(self) -> None:
        if not self._formats:
            return
        unpack = self.constant(f"unpack_{self._formats.replace('?', 'o')}", _unpack(self._formats))
        self.line(f"{', '.join(self._targets)}, = {unpack}(view, p)")
        self.line(f"p += {self._size}")
        for text in self._after:
            self.line(text)
        self._formats, self._targets, self._size, self._after = "", [], 0, []

    def _struct(self, cls: type[Struct], variable: str) -> None:
        plain, tagged, absent = self.present(cls)
        self.line(f"{variable} = new({self.constant(cls.__name__, cls)})")
        for field in absent + tagged:
            self._default(field, f"{variable}.{field.name}")
        for field in plain:
            self._field(field, f"{variable}.{field.name}")
        if self.flexible:
            self._tagged_fields(tagged, variable)

    def _default(self, field: Field, target: str) -> None:
        value = default_of(field)
        if value == [] and field.array:
            self.line(f"{target} = []")
        elif value is None or type(value) in (bool, int, str, bytes):
            self.line(f"{target} = {value!r}")
        else:
            self.line(f"{target} = {self.constant(f'default_{field.name}', value)}")

    def _tagged_fields(self, tagged: list[Field], variable: str) -> None:
        self._flush()
        if not tagged:
            self.line("if view[p]:")
            self.line("    p = skip_tagged_fields(view, p, end)")
            self.line("else:")
            self.line("    p += 1")
            return
        count, tag, size, stop = (self.fresh(prefix) for prefix in ("count", "tag", "size", "stop"))
        self.line(f"{count} = view[p]")
        self.line("p += 1")
        self.line(f"if {count}:")
        self.deeper()
        self.line(f"{count}, p = uvarint(view, p - 1)")
        self.line(f"for _ in range({count}):")
        self.deeper()
        self.line(f"{tag}, p = uvarint(view, p)")
        self.line(f"{size}, p = uvarint(view, p)")
        self.line(f"{stop} = p + {size}")
        self.line(f"if {stop} > end:")
        self.line("    raise ProtocolError('tagged field is longer than its message')")
        for index, field in enumerate(tagged):
            self.line(f"{'elif' if index else 'if'} {tag} == {field.tag}:")
            self.deeper()
            self._field(field, f"{variable}.{field.name}")
            self._flush()
            self.line(f"if p != {stop}:")
            self.line(f"    raise ProtocolError('tagged field {field.name} has another length than it says')")
            self.back()
        self.line(f"p = {stop}")
        self.back()
        self.back()

    def _field(self, field: Field, target: str) -> None:
        nullable = self.version in field.nullable
        compact = self.flexible and field.flexible
        if field.array:
            self._array(field, target, nullable)
        elif isinstance(field.type, str):
            self._value(field.type, target, field.name, nullable, compact)
        elif nullable:
            self._nullable_struct(field.type, target)
        else:
            variable = self.fresh("m")
            self._struct(field.type, variable)
            self.line(f"{target} = {variable}")

    def _nullable_struct(self, cls: type[Struct], target: str) -> None:
        self._flush()
        self.line("if view[p] > 127:")
        self.line("    p += 1")
        self.line(f"    {target} = None")
        self.line("else:")
        self.deeper()
        self.line("p += 1")
        variable = self.fresh("m")
        self._struct(cls, variable)
        self._flush()
        self.line(f"{target} = {variable}")
        self.back()

    def _value(self, type: str, target: str, name: str, nullable: bool, compact: bool) -> None:
        """One value of a primitive type."""
        if type == "uuid":
            raw = self.fresh("id")
            self._fixed("16s", 16, raw, f"{target} = uuid_from_bytes({raw})")
        elif type in FIXED:
            self._fixed(*FIXED[type], target)
        else:
            short = type == "string"
            self._length("n", compact, "h" if short else "i", 2 if short else 4)
            self._null_or(name, target, nullable)
            self.line("q = p + n")
            self.line("if q > end:")
            self.line(f"    raise ProtocolError('{name} is longer than its message')")
            take = {"string": "str(view[p:q], 'utf-8')", "bytes": "bytes(view[p:q])", "records": "view[p:q]"}[type]
            self.line(f"{target} = {take}")
            self.line("p = q")
            if nullable:
                self.back()

    def _length(self, variable: str, compact: bool, format: str, size: int) -> None:
        """Read a length; null is below zero in both encodings."""
        if not compact:
            self._fixed(format, size, variable)
            self._flush()
            return
        self._flush()
        self.line(f"{variable} = view[p]")
        self.line(f"if {variable} < 128:")
        self.line("    p += 1")
        self.line("else:")
        self.line(f"    {variable}, p = uvarint(view, p)")
        self.line(f"{variable} -= 1")

    def _null_or(self, name: str, target: str, nullable: bool, variable: str = "n") -> None:
        """What to do with a length below zero. When the field may be null, what follows is in the else branch."""
        self.line(f"if {variable} < 0:")
        if nullable:
            self.line(f"    {target} = None")
            self.line("else:")
            self.deeper()
        else:
            self.line(f"    raise ProtocolError('{name} may not be null')")

    def _array(self, field: Field, target: str, nullable: bool) -> None:
        count = self.fresh("n")
        self._length(count, self.flexible, "i", 4)
        self._null_or(field.name, target, nullable, count)
        type = field.type
        if type in FIXED and type != "uuid":
            format, size = FIXED[type]
            self.line(f"q = p + {count} * {size}")
            self.line("if q > end:")
            self.line(f"    raise ProtocolError('{field.name} has more elements than its message has room for')")
            unpack = self.constant("unpack_from", struct.unpack_from)
            self.line(f"{target} = list({unpack}(f'>{{{count}}}{format}', view, p))")
            self.line("p = q")
        else:
            self._elements(type, field.name, target, count)
        if nullable:
            self.back()

    def _elements(self, type: str | type[Struct], name: str, target: str, count: str) -> None:
        if isinstance(type, str):
            smallest = 16 if type == "uuid" else 1 if self.flexible else 2 if type == "string" else 4
        else:
            smallest = max(1, minimum_size(type, self.version, self.flexible))
        self.line(f"if {count} * {smallest} > end - p:")
        self.line(f"    raise ProtocolError('{name} has more elements than its message has room for')")
        append, element = self.fresh("append"), self.fresh("m")
        self.line(f"{target} = elements = []")
        self.line(f"{append} = elements.append")
        self.line(f"for _ in range({count}):")
        self.deeper()
        if isinstance(type, str):
            self._value(type, element, name, False, self.flexible)
        else:
            self._struct(type, element)
        self._flush()
        self.line(f"{append}({element})")
        self.back()


class _EncoderWriter(_Writer):
    def __init__(self, cls: type[Message], version: int) -> None:
        super().__init__(cls, version)
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
        self.namespace["join"] = b"".join

    def _fixed(self, format: str, value: str = "") -> None:
        self._formats += format
        if value:
            self._values.append(value)

    def _take(self, extra: str = "") -> tuple[str, str]:
        """The pending run and its values as the name of a pack function and its arguments."""
        formats = self._formats + extra
        return self.constant(f"pack_{formats.replace('?', 'o')}", _pack(formats)), ", ".join(self._values)

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
        self.line("if parts:")
        self.line("    out.append(join(parts))")
        self.line("    parts.clear()")
        self.line(f"out += {variable}")
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
