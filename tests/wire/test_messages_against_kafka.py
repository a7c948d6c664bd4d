"""Bytes that Apache Kafka's own classes wrote: we read the same fields in them, and write the same bytes."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.wire.compiler import version_of
from broadsheet_broker.wire.primitives import uuid_text
from broadsheet_broker.wire.schema import Field, Message, Struct
from tests.wire.message_strategies import all_message_classes

FIXTURES = Path(__file__).parent / "fixtures"


@cache
def _classes() -> dict[str, type[Message]]:
    return {cls.__name__: cls for cls in all_message_classes()}


def _cases() -> list[Any]:
    cases = []
    for path in sorted(FIXTURES.glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines()):
            case = json.loads(line)
            name, version = case["message"], case["version"]
            # Kafka's classes of requests and responses are called MetadataRequestData and so on.
            name = name if name in _classes() else name.removesuffix("Data")
            data = bytes.fromhex(case["bytes"])
            cases.append(pytest.param(name, version, data, case["fields"], id=f"{name}-{version}-{number % 2}"))
    return cases


CASES = _cases()


@pytest.mark.parametrize(("name", "version", "data", "fields"), CASES)
def test_reads_and_writes_what_kafka_wrote(name: str, version: int, data: bytes, fields: dict[str, Any]) -> None:
    cls = _classes()[name]
    message, end = cls.decode(memoryview(data), version)
    assert end == len(data)
    assert_fields(message, fields, version)
    assert b"".join(message.encode(version)) == data


@pytest.mark.parametrize("name", sorted({case.values[0] for case in CASES}))
def test_kafka_has_the_versions_that_we_have(name: str) -> None:
    cls = _classes()[name]
    theirs = {case.values[1] for case in CASES if case.values[0] == name}
    assert theirs == set(range(cls.LOWEST_VERSION, cls.HIGHEST_VERSION + 1))


def test_every_message_that_is_no_request_or_response_is_compared() -> None:
    exchanged = ("Request", "Response", "RequestHeader", "ResponseHeader")
    records = {name for name in _classes() if not name.endswith(exchanged)}
    assert records <= {case.values[0] for case in CASES}


def assert_fields(struct: Struct, fields: dict[str, Any], version: int) -> None:
    """The fields of a message are those of Kafka's JSON form of it."""
    theirs = {name.lower(): value for name, value in fields.items()}
    for field in struct.FIELDS:
        if not version_of(field, version):
            continue
        value = getattr(struct, field.name)
        name = field.name.replace("_", "")
        if field.type == "records" and value is not None:
            # The JSON form shows an empty string; that they are the same bytes is seen when they are written again.
            theirs.pop(name)
            continue
        if name not in theirs:
            # Only a tagged field is left out of the JSON form, and only at its default.
            assert version in field.tagged
            assert value == getattr(type(struct)(), field.name)
            continue
        assert_value(field, value, theirs.pop(name), version)
    assert not theirs


def assert_value(field: Field, value: Any, theirs: Any, version: int) -> None:
    if theirs is None:
        assert value is None
    elif field.array:
        assert len(value) == len(theirs)
        for ours, one in zip(value, theirs, strict=True):
            assert_one(field, ours, one, version)
    else:
        assert_one(field, value, theirs, version)


def assert_one(field: Field, value: Any, theirs: Any, version: int) -> None:
    match field.type:
        case "uuid":
            assert uuid_text(value) == theirs
        case "bytes":
            assert value == base64.b64decode(theirs)
        case str():
            assert value == theirs
        case _:
            assert_fields(value, theirs, version)
