"""Record batches that are built before a measurement and sent many times."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from broadsheet_broker.wire.compression import LZ4, NONE, ZSTD
from broadsheet_broker.wire.records import build_batch

CODECS = {"none": NONE, "lz4": LZ4, "zstd": ZSTD}
RECORD_BYTES = 1024
WORDS, PHRASES, PHRASE_WORDS = 2_000, 500, (1, 10)
"""What compressible text is made of: with these, zstd and lz4 make about a quarter of it."""


@dataclass(frozen=True)
class Batch:
    """One batch as a producer without idempotence sends it: base offset 0, the records' timestamps are now."""

    data: bytes
    records: int
    raw_bytes: int
    """Of the records before compression, with the header of the batch."""

    @property
    def size(self) -> int:
        return len(self.data)


def single(value_bytes: int) -> Batch:
    """One record with a value of this size."""
    return _batch([_incompressible(value_bytes, 1)], "none")


def filled(size: int) -> Batch:
    """Records of about 1 KiB that make a batch of exactly this size."""
    count = max(1, size // RECORD_BYTES)
    room = size - len(build_batch([(0, None, b"", [])] * count))
    values = [_incompressible(room // count - 2, number) for number in range(count)]
    for _ in range(10):  # a longer value may have a longer length field
        batch = _batch(values, "none")
        if batch.size == size:
            return batch
        values[-1] = _incompressible(len(values[-1]) + size - batch.size, count)
    raise ValueError(f"no batch of {count} records has exactly {size} bytes")


def text(raw_bytes: int, codec: str) -> Batch:
    """Records of about 1 KiB of phrases, compressed; `raw_bytes` is their size before."""
    phrases = _phrases(random.Random(5))
    values = []
    for _ in range(raw_bytes // RECORD_BYTES):
        value = b""
        while len(value) < RECORD_BYTES:
            value += next(phrases)
        values.append(value[:RECORD_BYTES])
    return _batch(values, codec)


def _phrases(chance: random.Random) -> Iterator[bytes]:
    """Words and phrases; the first ones far more often than the last, as in a log or a document."""
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(4, 8))) + b" " for _ in range(WORDS)]
    known = [b"".join(chance.choices(words, k=chance.randint(*PHRASE_WORDS))) for _ in range(PHRASES)]
    while True:
        yield known[int(PHRASES * chance.random() ** 2)]


def _incompressible(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _batch(values: list[bytes], codec: str) -> Batch:
    now = int(time.time() * 1000)
    headers: list[tuple[str, bytes | None]] = []
    rows = [(now, None, value, headers) for value in values]
    raw = build_batch(rows)
    data = raw if codec == "none" else build_batch(rows, compression=CODECS[codec])
    return Batch(bytes(data), len(values), len(raw))
