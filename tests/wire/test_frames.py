"""Headers of requests and responses, against our own classes of Kafka's header messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.wire import api_messages
from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.frames import decode_request_header, encode_response_header
from broadsheet_broker.wire.messages.request_header import RequestHeader
from broadsheet_broker.wire.messages.response_header import ResponseHeader

KEYS_AND_VERSIONS = [
    (key, version)
    for key in api_messages.APIS
    for cls in [api_messages.request_class(key)]
    for version in range(cls.LOWEST_VERSION, cls.HIGHEST_VERSION + 1)
]


def request_header(key: int, version: int, correlation_id: int, client_id: str | None) -> bytes:
    header = RequestHeader(
        request_api_key=key, request_api_version=version, correlation_id=correlation_id, client_id=client_id
    )
    return b"".join(header.encode(api_messages.request_header_version(key, version)))


@given(
    which=st.sampled_from(KEYS_AND_VERSIONS),
    correlation_id=st.integers(-(2**31), 2**31 - 1),
    client_id=st.none() | st.text(max_size=300),
    body=st.binary(max_size=4),
)
def test_request_headers(which: tuple[int, int], correlation_id: int, client_id: str | None, body: bytes) -> None:
    key, version = which
    header = request_header(key, version, correlation_id, client_id)
    read = decode_request_header(memoryview(header + body))
    assert read == (key, version, correlation_id, client_id, len(header))


@pytest.mark.parametrize(("key", "version"), KEYS_AND_VERSIONS)
def test_response_headers(key: int, version: int) -> None:
    expected = ResponseHeader(correlation_id=7).encode(api_messages.response_header_version(key, version))
    assert encode_response_header(key, version, 7) == b"".join(expected)


def test_the_response_header_of_api_versions_never_has_tagged_fields() -> None:
    assert encode_response_header(18, 4, 7) == b"\0\0\0\7"
    assert encode_response_header(3, 13, 7) == b"\0\0\0\7\0"


def test_api_versions_of_the_future_has_a_header_that_can_be_read() -> None:
    header = b"\0\x12\x01\0\0\0\0\x07\0\1c\0"
    assert decode_request_header(memoryview(header)) == (18, 256, 7, "c", 12)


def test_unknown_tagged_fields_of_a_header_are_skipped() -> None:
    header = request_header(3, 13, 7, "c")[:-1] + b"\1\5\2ab"
    assert decode_request_header(memoryview(header))[-1] == len(header)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_a_protocol_error(data: bytes) -> None:
    try:
        offset = decode_request_header(memoryview(data))[-1]
    except ProtocolError:
        return
    assert offset <= len(data)


@pytest.mark.parametrize("cut", range(15))
def test_headers_that_are_cut_short_are_refused(cut: int) -> None:
    header = request_header(3, 13, 7, "name")
    assert len(header) == 15
    with pytest.raises(ProtocolError):
        decode_request_header(memoryview(header)[:cut])


def test_api_keys_that_kafka_does_not_have_are_refused() -> None:
    with pytest.raises(ProtocolError, match="API key 4711 does not exist"):
        decode_request_header(memoryview(request_header(3, 0, 7, None).replace(b"\0\3", b"\x12\x67", 1)))
    with pytest.raises(ProtocolError):
        api_messages.request_class(4)


def test_names_of_apis() -> None:
    assert api_messages.api_name(0) == "Produce"
    assert api_messages.request_class(18).__name__ == "ApiVersionsRequest"
    assert api_messages.response_class(75).__name__ == "DescribeTopicPartitionsResponse"
