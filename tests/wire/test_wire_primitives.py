"""Varints, ids and their text form."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.primitives import (
    ZERO_UUID,
    decode_uvarint,
    decode_varint,
    encode_uvarint,
    encode_varint,
    parse_uuid_text,
    skip_tagged_fields,
    uuid_from_bytes,
    uuid_text,
)


@given(st.integers(0, 2**31 - 1))
def test_unsigned_varints(value: int) -> None:
    data = encode_uvarint(value)
    assert decode_uvarint(b"x" + data + b"y", 1) == (value, len(data) + 1)


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_varints(value: int) -> None:
    data = encode_varint(value)
    assert decode_varint(data, 0) == (value, len(data))


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**31 - 1, "ffffffff07")],
)
def test_unsigned_varints_as_protocol_buffers_has_them(value: int, data: str) -> None:
    assert encode_uvarint(value).hex() == data


@pytest.mark.parametrize(("value", "data"), [(0, "00"), (-1, "01"), (1, "02"), (-64, "7f"), (64, "8001")])
def test_signed_varints_are_zigzag(value: int, data: str) -> None:
    assert encode_varint(value).hex() == data


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\xff\x00", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f"])
def test_unsigned_varints_beyond_31_bits_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_uvarint(data, 0)


def test_signed_varints_of_more_than_ten_bytes_are_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_varint(b"\xff" * 11, 0)


def test_tagged_fields_longer_than_their_message_are_refused() -> None:
    assert skip_tagged_fields(b"\x01\x00\x02ab", 0, 5) == 5
    with pytest.raises(ProtocolError):
        skip_tagged_fields(b"\x01\x00\x03ab", 0, 5)


@given(st.uuids())
def test_ids_and_their_text(value: uuid.UUID) -> None:
    text = uuid_text(value)
    assert len(text) == 22
    assert parse_uuid_text(text) == value
    assert uuid_from_bytes(value.bytes) == value


def test_the_text_of_an_id_is_kafkas() -> None:
    assert uuid_text(ZERO_UUID) == "AAAAAAAAAAAAAAAAAAAAAA"
    assert uuid_text(uuid.UUID("fffefdfc-fbfa-f9f8-f7f6-f5f4f3f2f1f0")) == "__79_Pv6-fj39vX08_Lx8A"


@pytest.mark.parametrize("text", ["", "abc", "AAAAAAAAAAAAAAAAAAAAA", "A" * 23, "AAAA+AAAAAAAAAAAAAAAAA", "é" * 22])
def test_text_that_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="id"):
        parse_uuid_text(text)
