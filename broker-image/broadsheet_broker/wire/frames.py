"""Headers of requests and responses.

A frame is four bytes of length (big endian, signed) and that many bytes; the connection cuts them. It contains a header
and a body. The header's version follows from the API key and the body's version: clients send the nullable
client id always (header 1), and tagged fields after it (header 2) when the body is flexible (KIP-482). The response
header has tagged fields (header 1) when the body is flexible, except that ApiVersions always answers with header 0, so
that a client can read the answer before it knows what the broker speaks (KIP-511).
"""

from __future__ import annotations

import struct

from broadsheet_broker.wire.api_messages import flexible_from
from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.primitives import skip_tagged_fields

API_VERSIONS = 18

MINIMUM_REQUEST_SIZE = 10
"""Bytes of API key, version, correlation id and client id's length: no request is shorter."""

_FIXED = struct.Struct(">hhih")
_CORRELATION_ID = struct.Struct(">i")
_CORRELATION_ID_AND_NO_TAGS = struct.Struct(">ix")


def decode_request_header(view: memoryview) -> tuple[int, int, int, str | None, int]:
    """API key, version, correlation id, client id and the offset of the body; `view` is a frame without its length.

    ProtocolError when it is not a header, or when Kafka has no such API key. The version need not be one that
    exists: ApiVersions answers a version of the future too, and for any other API the reader of the body refuses it.
    """
    end = len(view)
    if end < MINIMUM_REQUEST_SIZE:
        raise ProtocolError(f"a request of {end} bytes has no room for its header")
    api_key, version, correlation_id, length = _FIXED.unpack_from(view)
    flexible = version >= flexible_from(api_key)
    if length < 0:
        client_id, position = None, 10
    else:
        position = 10 + length
        if position > end:
            raise ProtocolError("client id is longer than its request")
        try:
            client_id = str(view[10:position], "utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("client id is not UTF-8") from None
    if flexible:
        try:
            if view[position]:
                position = skip_tagged_fields(view, position, end)
            else:
                position += 1
        except IndexError:
            raise ProtocolError("request header ends too early") from None
    return api_key, version, correlation_id, client_id, position


def encode_response_header(api_key: int, version: int, correlation_id: int) -> bytes:
    """The header of an answer to a request of that API key and version."""
    if version >= flexible_from(api_key) and api_key != API_VERSIONS:
        return _CORRELATION_ID_AND_NO_TAGS.pack(correlation_id)
    return _CORRELATION_ID.pack(correlation_id)
