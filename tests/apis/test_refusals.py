"""Every API that is served can say no, in every version, in an answer that encodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker import network
from broadsheet_broker.apis import load
from broadsheet_broker.wire.api_messages import request_class, response_class
from broadsheet_broker.wire.api_table import APIS
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.schema import Field, Struct

CASES = [(api.key, version) for api in load().values() for version in range(api.lowest, api.highest + 1)]


def sample(message: type[Struct], version: int) -> Any:
    """An instance with one element in each array."""
    instance = message()
    for field in message.FIELDS:
        if version not in field.versions:
            continue
        if field.array:
            setattr(instance, field.name, [element(field, version)])
        elif isinstance(field.type, type):
            setattr(instance, field.name, sample(field.type, version))
    return instance


def element(field: Field, version: int) -> Any:
    if isinstance(field.type, type):
        return sample(field.type, version)
    return "x" if field.type == "string" else b"x" if field.type == "bytes" else 0


def codes(instance: Any) -> list[int]:
    found = []
    for field in instance.FIELDS:
        value = getattr(instance, field.name)
        if field.name == "error_code":
            found.append(value)
        elif isinstance(value, list):
            for item in value:
                found += codes(item) if isinstance(item, Struct) else []
        elif isinstance(value, Struct):
            found += codes(value)
    return found


@pytest.mark.parametrize(("key", "version"), CASES)
def test_it_carries_the_code(key: int, version: int) -> None:
    name = APIS[key][0]
    body = sample(request_class(key), version)
    if name == "Produce":
        body.acks = 1
    answer = load()[key].refuse(body, version, KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, "why"))
    assert answer is not None
    data = memoryview(b"".join(map(bytes, answer.encode(version))))
    decoded, end = response_class(key).decode(data, version)
    assert end == len(data)
    assert ErrorCode.UNKNOWN_SERVER_ERROR in codes(decoded)


def test_a_produce_without_acks_has_no_answer() -> None:
    body = sample(request_class(0), 9)
    body.acks = 0
    assert load()[0].refuse(body, 9, KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)) is None


def test_a_refusal_says_why_where_the_answer_has_room_for_it() -> None:
    why = KafkaError(ErrorCode.POLICY_VIOLATION, "orders is too large")
    for key in (19, 37, 32, 33, 44, 43, 10, 61):
        api = load()[key]
        answer = api.refuse(sample(request_class(key), api.highest), api.highest, why)
        assert "orders is too large" in repr(list(texts(answer))), api.name


def texts(instance: Any) -> Iterator[str]:
    for field in instance.FIELDS:
        value = getattr(instance, field.name)
        if field.name == "error_message" and value:
            yield value
        for item in value if isinstance(value, list) else ():
            yield from texts(item)


def test_the_network_knows_no_api_by_name() -> None:
    sources = Path(network.__path__[0]).glob("*.py")
    names = re.compile(r'"(' + "|".join(api.name for api in load().values()) + r')"')
    assert not [path.name for path in sources if names.search(path.read_text("utf-8"))]
