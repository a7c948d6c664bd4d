"""The few primitive types that messages and records share: varints, UUIDs.

Fixed-size numbers need nothing of their own: compiled message code and record batches use `struct` directly.
"""

from __future__ import annotations

import base64
from binascii import Error as Base64Error
from typing import Final
from uuid import UUID

from broadsheet_broker.wire.errors import ProtocolError

ZERO_UUID: Final = UUID(int=0)
"""Kafka's "no id" (Uuid.ZERO_UUID)."""

Buffer = bytes | bytearray | memoryview

UVARINT_BYTES: Final = tuple(bytes((value,)) for value in range(128))
"""Unsigned varints of one byte, ready made."""

_MAX_INT32: Final = 0x7FFFFFFF


def encode_uvarint(value: int) -> bytes:
    """An unsigned varint: seven bits a byte, lowest first, the high bit set on all but the last."""
    if value < 128:
        return UVARINT_BYTES[value]
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    result.append(value)
    return bytes(result)


def decode_uvarint(view: Buffer, position: int) -> tuple[int, int]:
    """An unsigned varint of 32 bits and the position after it. IndexError when the bytes end inside it."""
    value = view[position] & 127
    shift = 7
    while view[position] > 127:
        position += 1
        if shift > 28:
            raise ProtocolError("varint is longer than 5 bytes")
        value |= (view[position] & 127) << shift
        shift += 7
    if value > _MAX_INT32:
        # Every unsigned varint of a message is a length, a count or a tag: signed 32 bit integers in Kafka.
        raise ProtocolError(f"varint {value} does not fit 31 bits")
    return value, position + 1


def encode_varint(value: int) -> bytes:
    """A signed (zigzag) varint of up to 64 bits, as record fields are."""
    return encode_uvarint((value << 1) ^ (value >> 63))


def decode_varint(view: Buffer, position: int) -> tuple[int, int]:
    """A signed (zigzag) varint of up to 64 bits and the position after it. IndexError when the bytes end inside it."""
    value = 0
    shift = 0
    while True:
        byte = view[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > 63:
            raise ProtocolError("varint is longer than 10 bytes")


def skip_tagged_fields(view: Buffer, position: int, end: int) -> int:
    """The position after a section of tagged fields of which none is known."""
    count, position = decode_uvarint(view, position)
    for _ in range(count):
        _, position = decode_uvarint(view, position)
        size, position = decode_uvarint(view, position)
        position += size
        if position > end:
            raise ProtocolError("tagged field is longer than its message")
    return position


_uuids: dict[bytes, UUID] = {bytes(16): ZERO_UUID}
_UUID_CACHE_SIZE: Final = 16384


def uuid_from_bytes(data: bytes) -> UUID:
    """The UUID of 16 bytes. Topic ids come again in each request, and making a UUID costs a microsecond: remembered."""
    value = _uuids.get(data)
    if value is None:
        if len(_uuids) >= _UUID_CACHE_SIZE:
            _uuids.clear()
            _uuids[bytes(16)] = ZERO_UUID
        value = _uuids[data] = UUID(bytes=data)
    return value


def uuid_text(value: UUID) -> str:
    """Kafka's text form of an id: 22 characters of unpadded base64url, as in meta.properties and in tools."""
    return base64.urlsafe_b64encode(value.bytes)[:22].decode()


def parse_uuid_text(text: str) -> UUID:
    """The id of its text form; ValueError when it is none."""
    try:
        # Python takes the characters of plain base64 as well, even when others are given.
        data = b"" if "+" in text or "/" in text else base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (Base64Error, ValueError) as error:
        raise ValueError(f"{text!r} is not an id in unpadded base64url") from error
    if len(data) != 16:
        raise ValueError(f"{text!r} holds {len(data)} bytes, an id has 16")
    return UUID(bytes=data)
