"""Compiles constructors, decoders and encoders of message classes: straight-line Python for one message in one version.

The text of a function is put together from the fields' facts, then compiled by Python itself. Decoding the partition
of a produce request (version 9) becomes this, for example:

    m3 = new(PartitionProduceData)
    m3.index, = unpack_i(view, p)
    p += 4
    n = view[p]
    p += 1
    ...

What makes it fast: neighbouring fields of fixed size are one `struct` call, lengths of one byte are read and written
without a call, nothing is looked up per field. `source_of_decoder` and `source_of_encoder` give the text to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadsheet_broker.wire.compiler.decoder import DecoderWriter
from broadsheet_broker.wire.compiler.encoder import EncoderWriter
from broadsheet_broker.wire.compiler.writer import default_of, version_of

if TYPE_CHECKING:
    from broadsheet_broker.wire.schema import Codec, Message, Struct

__all__ = [
    "compile_constructor",
    "compile_decoder",
    "compile_encoder",
    "source_of_decoder",
    "source_of_encoder",
    "version_of",
]

_UNSET: Any = object()


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
    writer = DecoderWriter(cls, version)
    writer.write()
    return "\n".join(writer.lines), writer.namespace


def source_of_encoder(cls: type[Message], version: int) -> tuple[str, dict[str, Any]]:
    writer = EncoderWriter(cls, version)
    writer.write()
    return "\n".join(writer.lines), writer.namespace


def _compile(source: str, name: str, title: str, namespace: dict[str, Any]) -> Codec:
    exec(compile(source, f"<{title}>", "exec", dont_inherit=True), namespace)
    codec: Codec = namespace[name]
    return codec
