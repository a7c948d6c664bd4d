"""Any bytes are a message or a ProtocolError, and cost memory only in proportion to their number."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.schema import Message
from tests.wire.message_strategies import all_message_classes, all_versions

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.jsonl"))
EVERYTHING = list(all_versions())


def decode(cls: type[Message], version: int, data: bytes) -> None:
    """Decode, and allow nothing but a message that ends within the bytes, or a ProtocolError."""
    try:
        message, end = cls.decode(memoryview(data), version)
    except ProtocolError:
        return
    assert isinstance(message, cls)
    assert end <= len(data)


def valid_messages(path: Path) -> Iterator[tuple[type[Message], int, bytes]]:
    classes = {cls.__name__: cls for cls in all_message_classes()}
    for line in path.read_text().splitlines():
        case = json.loads(line)
        name = case["message"]
        yield classes.get(name) or classes[name.removesuffix("Data")], case["version"], bytes.fromhex(case["bytes"])


@given(which=st.sampled_from(EVERYTHING), data=st.binary(max_size=200))
@settings(max_examples=1000, deadline=None)
def test_random_bytes(which: tuple[type[Message], int], data: bytes) -> None:
    decode(*which, data)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_valid_messages_that_are_cut_short(path: Path) -> None:
    for cls, version, data in valid_messages(path):
        for size in range(0, len(data), 1 + len(data) // 100):
            with pytest.raises(ProtocolError):
                cls.decode(memoryview(data)[:size], version)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_valid_messages_with_bytes_changed(path: Path) -> None:
    chance = random.Random(43)
    for cls, version, data in valid_messages(path):
        for _ in range(20):
            changed = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                if changed:
                    changed[chance.randrange(len(changed))] = chance.choice(
                        (0, 1, 127, 128, 255, chance.randrange(256))
                    )
            decode(cls, version, bytes(changed))


@pytest.mark.parametrize(
    "pattern", [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x07", b"\x00\x00\x00\x01", b"\x02", b"\x00"]
)
def test_lengths_that_lie_take_no_memory(pattern: bytes) -> None:
    data = pattern * (4096 // len(pattern))
    for cls, version in EVERYTHING:
        decode(cls, version, data)  # compiles the decoder, which does take memory
    tracemalloc.start()
    try:
        for cls, version in EVERYTHING:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            decode(cls, version, data)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 300 * len(data), f"{cls.__name__} version {version}"
    finally:
        tracemalloc.stop()
