"""Requests as bytes, built before a measurement; and what a good answer to each looks like."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from broadsheet_broker.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, PartitionData
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.messages.produce_response import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from e2e.bench.core.batches import Batch

CLIENT_ID = b"bench"
PRODUCE, PRODUCE_VERSION = 0, 12
FETCH, FETCH_VERSION = 1, 12
"""The newest versions that name topics; those with topic ids differ in a few bytes."""
IDS = 256
"""Correlation ids go round in one byte, so that a column of bytes shows whether answers came in order."""
ACKS = {"1": 1, "all": -1}
RING_BYTES = 2 << 20
BODY = 5
"""Where the body of an answer begins: behind the correlation id and no tagged fields."""


@dataclass(frozen=True)
class Answer:
    """What a good answer looks like. Positions count from the four bytes of its size."""

    size: int
    """With the four bytes of the size."""
    zeros: tuple[int, ...]
    """Bytes of error codes."""
    kind: Any
    """The class that decodes it, to show what a bad one contains."""
    version: int

    def decode(self, frame: bytes) -> Any:
        """The message in a whole answer, without the four bytes of the size."""
        return self.kind.decode(memoryview(frame), self.version, BODY)[0]


@dataclass(frozen=True)
class Ring:
    """Requests of one size in a row, sent one after the other and again from the first one."""

    data: memoryview
    frame_bytes: int
    frames: int
    answer: Answer
    records: int
    """That an answer acknowledges or brings."""
    payload_bytes: int
    """Batches in a request or in its answer."""
    topic: str
    partition: int

    def id_at(self, number: int) -> int:
        """The correlation id of a frame of the ring."""
        return number % self.frames % IDS


def frame(api_key: int, version: int, correlation_id: int, body: Sequence[Any]) -> bytes:
    """A request of a flexible version with its size in front."""
    head = struct.pack(">hhih", api_key, version, correlation_id, len(CLIENT_ID)) + CLIENT_ID + b"\0"
    whole = head + b"".join(bytes(part) for part in body)
    return struct.pack(">i", len(whole)) + whole


def produce_ring(topic: str, partition: int, batch: Batch, acks: str, timeout_ms: int = 30_000) -> Ring:
    """The same batch again and again, each with a correlation id of its own."""
    data = PartitionProduceData(index=partition, records=[batch.data])
    request = ProduceRequest(
        acks=ACKS[acks],
        timeout_ms=timeout_ms,
        topic_data=[TopicProduceData(name=topic, partition_data=[data])],
    )
    body = request.encode(PRODUCE_VERSION)
    count = max(2, min(IDS, RING_BYTES // batch.size))
    frames = [frame(PRODUCE, PRODUCE_VERSION, number, body) for number in range(count)]
    answer = _answer(ProduceResponse, PRODUCE_VERSION, lambda code: _produced(topic, partition, code))
    return _ring(frames, answer, batch.records, batch.size, topic, partition)


def fetch_ring(topic: str, partition: int, batch: Batch, batches: int, stored: int, first_offset: int = 0) -> Ring:
    """Requests for `batches` batches each that walk over the `stored` batches of a partition, all of one size."""
    wanted = batch.size * batches
    frames = [
        frame(FETCH, FETCH_VERSION, number % IDS, _fetch(topic, partition, offset, wanted).encode(FETCH_VERSION))
        for number, offset in enumerate(
            range(first_offset, first_offset + (stored - batches + 1) * batch.records, batches * batch.records)
        )
    ]
    answer = _answer(FetchResponse, FETCH_VERSION, lambda code: _fetched(topic, partition, code, batch.data * batches))
    return _ring(frames, answer, batches * batch.records, wanted, topic, partition)


def _ring(frames: list[bytes], answer: Answer, records: int, payload: int, topic: str, partition: int) -> Ring:
    return Ring(memoryview(b"".join(frames)), len(frames[0]), len(frames), answer, records, payload, topic, partition)


def _fetch(topic: str, partition: int, offset: int, wanted: int) -> FetchRequest:
    wish = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=wanted)
    return FetchRequest(
        max_wait_ms=500, min_bytes=1, max_bytes=wanted, topics=[FetchTopic(topic=topic, partitions=[wish])]
    )


def _produced(topic: str, partition: int, code: int) -> ProduceResponse:
    row = PartitionProduceResponse(index=partition, error_code=code, log_start_offset=0)
    return ProduceResponse(responses=[TopicProduceResponse(name=topic, partition_responses=[row])])


def _fetched(topic: str, partition: int, code: int, records: bytes) -> FetchResponse:
    row = PartitionData(partition_index=partition, error_code=code, aborted_transactions=None, records=[records])
    return FetchResponse(error_code=code, responses=[FetchableTopicResponse(topic=topic, partitions=[row])])


def _answer(kind: Any, version: int, build: Any) -> Answer:
    """The size and the places of the error codes, found by encoding the answer without and with codes."""
    good, bad = (
        b"\0" * (4 + BODY) + b"".join(bytes(part) for part in build(code).encode(version)) for code in (0, 0x7F7F)
    )
    zeros = tuple(position for position, pair in enumerate(zip(good, bad, strict=True)) if pair[0] != pair[1])
    return Answer(len(good), zeros, kind, version)
