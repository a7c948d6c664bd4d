"""Writes the decoder of one message in one version."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from broadsheet_broker.wire.compiler.writer import FIXED, Writer, default_of, unpack_function
from broadsheet_broker.wire.primitives import decode_uvarint, skip_tagged_fields, uuid_from_bytes

if TYPE_CHECKING:
    from broadsheet_broker.wire.schema import Field, Message, Struct


class DecoderWriter(Writer):
    """Every length is compared with the bytes that are left before anything of that length is made.

    In the text, `p` is the position, `end` the number of bytes, `n` a length and `q` the end of what is being taken.
    """

    def __init__(self, cls: type[Message], version: int) -> None:
        super().__init__(cls, version)
        self.namespace |= {
            "new": object.__new__,
            "uvarint": decode_uvarint,
            "skip_tagged_fields": skip_tagged_fields,
            "uuid_from_bytes": uuid_from_bytes,
            "struct_error": struct.error,
        }
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
        unpack = self.constant(f"unpack_{self._formats.replace('?', 'o')}", unpack_function(self._formats))
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
