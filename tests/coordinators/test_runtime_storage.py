"""The coordinator's records as batches of a partition: written by us, or by others with transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

from broadsheet_broker.coordinators.runtime.storage import ReplicatedStorage, StoredBatch
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.records import build_batch, build_control_batch

TOPIC = "__consumer_offsets"


class Replicas:
    """The part of a replica manager that the storage uses, with one partition in memory."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.error = ErrorCode.NONE

    def append_internal(
        self, topic: str, index: int, batch: bytes | bytearray, callback: Callable[[ErrorCode, int], None]
    ) -> None:
        assert (topic, index) == (TOPIC, 3)
        if not self.error:
            self.chunks.append(bytes(batch))
        callback(self.error, -1 if self.error else 0)

    def read_committed_log(self, topic: str, index: int, from_offset: int = 0) -> Iterator[bytes]:
        assert (topic, index) == (TOPIC, 3)
        yield b"".join(self.chunks[:2])
        yield from self.chunks[2:]


def storage_over(replicas: Replicas, topics: dict[str, Any] | None = None) -> ReplicatedStorage:
    metadata = SimpleNamespace(image=SimpleNamespace(topics_by_name=topics or {}))
    return ReplicatedStorage(cast(Any, replicas), cast(Any, metadata), TOPIC)


def test_what_is_written_is_read_back() -> None:
    replicas = Replicas()
    storage = storage_over(replicas)
    errors: list[ErrorCode] = []
    storage.append(3, [(b"a", b"1"), (b"b", None)], 1_000, errors.append)
    storage.append(3, [(b"c", b"3")], 1_001, errors.append)
    assert errors == [ErrorCode.NONE, ErrorCode.NONE]
    assert list(storage.read(3)) == [StoredBatch([(b"a", b"1"), (b"b", None)]), StoredBatch([(b"c", b"3")])]


def test_failures_are_passed_on() -> None:
    replicas = Replicas()
    replicas.error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    errors: list[ErrorCode] = []
    storage_over(replicas).append(3, [(b"a", b"1")], 1_000, errors.append)
    assert errors == [ErrorCode.NOT_LEADER_OR_FOLLOWER]


def test_transactions_are_told_apart_with_their_ends() -> None:
    replicas = Replicas()
    rows = [(1_000, b"a", b"1", ())]
    replicas.chunks = [
        bytes(build_batch(rows, producer_id=9, producer_epoch=0, base_sequence=0, transactional=True)),
        bytes(build_control_batch(1, b"\x00\x00\x00\x00\x00\x01", timestamp=1_000, producer_id=9, producer_epoch=0)),
        bytes(build_control_batch(0, b"\x00\x00\x00\x00\x00\x01", timestamp=1_000, producer_id=8, producer_epoch=0)),
        bytes(build_batch(rows, producer_id=7, producer_epoch=0, base_sequence=0)),
    ]
    assert list(storage_over(replicas).read(3)) == [
        StoredBatch([(b"a", b"1")], 9),
        StoredBatch((), 9, True),
        StoredBatch((), 8, False),
        StoredBatch([(b"a", b"1")]),
    ]


def test_the_number_of_partitions_is_the_topics() -> None:
    assert storage_over(Replicas()).partition_count() is None
    topic = SimpleNamespace(partitions=(1, 2, 3))
    assert storage_over(Replicas(), {TOPIC: topic}).partition_count() == 3
