"""How a message class says what it looks like on the wire.

A message class is one line per field: name, Python type, and the field's facts. The modules in `wire.messages` hold
nothing else:

    class PartitionProduceData(Struct):
        index: int = int32("0+")
        records: Buffers | None = records("0+", nullable="0+")

The metaclass takes the facts out of the class body and makes a slotted class of it. Constructors, decoders and encoders
are compiled when they are first used (`wire.compiler`): a broker that never sees Fetch version 4 never pays for it.

Versions are written as Kafka writes them: `0+` (from 0 on), `1-3`, `2`, and empty for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, dataclass_transform
from uuid import UUID

from broadsheet_broker.wire.primitives import ZERO_UUID

Buffer = bytes | bytearray | memoryview
Buffers = Buffer | list[Buffer]
"""Record batches. Decoded they are one memoryview of the request; to encode, any buffer or a list of buffers does."""

Codec = Callable[..., Any]

NO_TAG = -1
_LAST = 32767


def version_range(text: str) -> range:
    """`1-3` -> range(1, 4); `2+` -> from 2 on; an empty text -> no version."""
    if not text:
        return range(0)
    first, dash, last = text.removesuffix("+").partition("-")
    if text.endswith("+"):
        return range(int(first), _LAST + 1)
    return range(int(first), int(last if dash else first) + 1)


class Field:
    """The facts of one field, as Kafka's description of its message has them."""

    __slots__ = ("array", "default", "flexible", "ignorable", "name", "nullable", "tag", "tagged", "type", "versions")

    name: str
    """Snake case of Kafka's name; set by the metaclass."""

    def __init__(
        self,
        type: str | type[Struct],
        versions: str,
        default: Any,
        *,
        array: bool = False,
        nullable: str = "",
        ignorable: bool = False,
        tag: int = NO_TAG,
        tagged: str = "",
        flexible: bool = True,
    ) -> None:
        self.type = type
        """A primitive type of the protocol, or the class of a struct. Of arrays: the type of the elements."""
        self.array = array
        self.versions = version_range(versions)
        """The versions that have the field."""
        self.default = default
        """An immutable default; None of a nullable field; for arrays `()`, which stands for a new empty list."""
        self.nullable = version_range(nullable)
        """The versions in which the field may be null."""
        self.ignorable = ignorable
        """Whether a value may be dropped silently in a version that lacks the field."""
        self.tag = tag
        self.tagged = version_range(tagged)
        """The versions in which the field is a tagged field (KIP-482), with `tag`."""
        self.flexible = flexible
        """False for the one field with the old encoding in flexible versions (client id of the request header)."""


class StructType(type):
    """Makes a slotted class of a body of fields."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **facts: Any) -> StructType:
        fields = []
        for key, value in list(namespace.items()):
            if type(value) is Field:
                value.name = key
                fields.append(value)
                del namespace[key]
        namespace["__slots__"] = tuple(field.name for field in fields)
        namespace["FIELDS"] = tuple(fields)
        namespace["_shared_default"] = None
        return super().__new__(mcs, name, bases, namespace, **facts)


@dataclass_transform()
class Struct(metaclass=StructType):
    """A part of a message. All fields may be given to the constructor by name, and all have defaults."""

    FIELDS: ClassVar[tuple[Field, ...]]
    _shared_default: ClassVar[Any]

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        # The real constructor is compiled when the first one is made; from then on it is called directly.
        from broadsheet_broker.wire.compiler import compile_constructor

        constructor = compile_constructor(type(self))
        type(self).__init__ = constructor  # type: ignore[method-assign]
        constructor(self, *arguments, **fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Struct) or other.FIELDS is not self.FIELDS:
            return NotImplemented
        return all(getattr(self, field.name) == getattr(other, field.name) for field in self.FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in self.FIELDS)
        return f"{type(self).__name__}({fields})"

    @classmethod
    def shared_default(cls) -> Self:
        """One instance with all defaults, shared and frozen: what a tagged struct field holds unless it is set."""
        if cls._shared_default is None:
            cls._shared_default = freeze(cls())
        default: Self = cls._shared_default
        return default


_frozen: dict[type, type] = {}


def freeze(instance: Any) -> Any:
    """The same object, whose fields can no longer be assigned."""
    cls = type(instance)
    if cls not in _frozen:

        def refuse(self: object, name: str, value: object) -> None:
            raise AttributeError(f"the default {cls.__name__} is shared: assign a new one instead of its {name}")

        def same(self: object, memo: object = None) -> object:
            return self

        body = {"__setattr__": refuse, "__copy__": same, "__deepcopy__": same, "__module__": cls.__module__}
        _frozen[cls] = StructType(cls.__name__, (cls,), body)
        _frozen[cls].FIELDS = cls.FIELDS  # type: ignore[attr-defined]
    instance.__class__ = _frozen[cls]
    return instance


class Message(Struct):
    """A message: what has versions of its own and can be decoded and encoded."""

    API_KEY: ClassVar[int]
    """Of requests and responses the API key, of metadata and coordinator records the record type; others have none."""
    LOWEST_VERSION: ClassVar[int]
    HIGHEST_VERSION: ClassVar[int]
    FLEXIBLE_FROM: ClassVar[int]
    """The first flexible version (KIP-482); 32767 when there is none."""

    _decoders: ClassVar[dict[int, Codec]]
    _encoders: ClassVar[dict[int, Codec]]

    def __init_subclass__(
        cls, *, api_key: int | None = None, versions: str | None = None, flexible_from: int = _LAST
    ) -> None:
        if versions is None:  # the frozen default of a message
            return
        valid = version_range(versions)
        if api_key is not None:
            cls.API_KEY = api_key
        cls.LOWEST_VERSION = valid.start
        cls.HIGHEST_VERSION = valid.stop - 1
        cls.FLEXIBLE_FROM = flexible_from
        cls._decoders = {}
        cls._encoders = {}

    @classmethod
    def decode(cls, view: memoryview, version: int, offset: int = 0) -> tuple[Self, int]:
        """The message at `offset` and the offset after it; ProtocolError when the bytes are not one.

        `records` fields are slices of `view`; everything else is copied.
        """
        decoder = cls._decoders.get(version)
        if decoder is None:
            from broadsheet_broker.wire.compiler import compile_decoder

            decoder = cls._decoders[version] = compile_decoder(cls, version)
        message: tuple[Self, int] = decoder(view, offset)
        return message

    def encode(self, version: int) -> list[Buffer]:
        """Buffers whose concatenation is the message. `records` fields are among them, not copied.

        ValueError when a field is set that the version lacks and that may not be ignored.
        """
        encoder = self._encoders.get(version)
        if encoder is None:
            from broadsheet_broker.wire.compiler import compile_encoder

            encoder = self._encoders[version] = compile_encoder(type(self), version)
        buffers: list[Buffer] = encoder(self)
        return buffers


def _number(type: str) -> Callable[..., Any]:
    def number(versions: str, default: int = 0, *, ignorable: bool = False, tag: int = NO_TAG, tagged: str = "") -> Any:
        return Field(type, versions, default, ignorable=ignorable, tag=tag, tagged=tagged)

    return number


int8 = _number("int8")
int16 = _number("int16")
int32 = _number("int32")
int64 = _number("int64")
uint16 = _number("uint16")
uint32 = _number("uint32")


def float64(
    versions: str, default: float = 0.0, *, ignorable: bool = False, tag: int = NO_TAG, tagged: str = ""
) -> Any:
    return Field("float64", versions, default, ignorable=ignorable, tag=tag, tagged=tagged)


def boolean(
    versions: str, default: bool = False, *, ignorable: bool = False, tag: int = NO_TAG, tagged: str = ""
) -> Any:
    return Field("bool", versions, default, ignorable=ignorable, tag=tag, tagged=tagged)


def uuid(
    versions: str, default: UUID = ZERO_UUID, *, ignorable: bool = False, tag: int = NO_TAG, tagged: str = ""
) -> Any:
    return Field("uuid", versions, default, ignorable=ignorable, tag=tag, tagged=tagged)


def string(
    versions: str,
    default: str | None = "",
    *,
    nullable: str = "",
    ignorable: bool = False,
    tag: int = NO_TAG,
    tagged: str = "",
    flexible: bool = True,
) -> Any:
    return Field(
        "string",
        versions,
        default,
        nullable=nullable,
        ignorable=ignorable,
        tag=tag,
        tagged=tagged,
        flexible=flexible,
    )


def octets(
    versions: str,
    default: bytes | None = b"",
    *,
    nullable: str = "",
    ignorable: bool = False,
    tag: int = NO_TAG,
    tagged: str = "",
) -> Any:
    """Kafka's `bytes`."""
    return Field("bytes", versions, default, nullable=nullable, ignorable=ignorable, tag=tag, tagged=tagged)


def records(versions: str, *, nullable: str = "", ignorable: bool = False) -> Any:
    """Record batches; null unless set, as in Kafka."""
    return Field("records", versions, None, nullable=nullable, ignorable=ignorable)


def struct(
    type: type[Struct],
    versions: str,
    default: object = ...,
    *,
    nullable: str = "",
    ignorable: bool = False,
    tag: int = NO_TAG,
    tagged: str = "",
) -> Any:
    """A nested struct. Its default is `None`, or else the shared default of its class."""
    return Field(type, versions, default, nullable=nullable, ignorable=ignorable, tag=tag, tagged=tagged)


def array(
    type: str | type[Struct],
    versions: str,
    default: tuple[()] | None = (),
    *,
    nullable: str = "",
    ignorable: bool = False,
    tag: int = NO_TAG,
    tagged: str = "",
) -> Any:
    return Field(type, versions, default, array=True, nullable=nullable, ignorable=ignorable, tag=tag, tagged=tagged)
