"""Where a coordinator keeps its records: the interface that it needs, and its implementation on replicated logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from broadsheet_broker.coordinators.runtime.turn import Record
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.record_parts import decode_in_parts
from broadsheet_broker.wire.records import CONTROL_COMMIT, build_batch, decode_records, iterate_batches

if TYPE_CHECKING:
    from broadsheet_broker.metadata import MetadataCache
    from broadsheet_broker.replication import ReplicaManager


class StoredBatch(NamedTuple):
    """A batch read back."""

    records: Sequence[tuple[bytes | None, bytes | None]]
    producer_id: int | None = None
    """Of the transaction that the batch belongs to."""
    commits: bool | None = None
    """Set on the end marker of that transaction, which has no records: whether it commits."""


class Storage(Protocol):
    """The partitions of a coordinator's topic."""

    @property
    def topic(self) -> str:
        """Its name."""
        ...

    def partition_count(self) -> int | None:
        """How many there are, None while the topic does not exist."""
        ...

    def append(
        self, partition: int, records: Sequence[Record], time_ms: int, callback: Callable[[ErrorCode], None]
    ) -> None:
        """Append one batch. Calls back once, now or later, with NONE when it is committed or with the error.
        Calls back in the order of the appends."""
        ...

    def read(self, partition: int) -> Iterator[StoredBatch]:
        """All committed batches, oldest first, read lazily. Raises KafkaError or OSError."""
        ...


_PART_RECORDS = 500
"""Records that are decoded before whoever loads them may pause."""


class ReplicatedStorage:
    """The partitions in this broker's replicas."""

    __slots__ = ("_metadata", "_replicas", "topic")

    def __init__(self, replicas: ReplicaManager, metadata: MetadataCache, topic: str) -> None:
        self.topic = topic
        self._replicas = replicas
        self._metadata = metadata

    def partition_count(self) -> int | None:
        topic = self._metadata.image.topics_by_name.get(self.topic)
        return None if topic is None else len(topic.partitions)

    def append(
        self, partition: int, records: Sequence[Record], time_ms: int, callback: Callable[[ErrorCode], None]
    ) -> None:
        batch = build_batch([(time_ms, key, value, ()) for key, value in records])
        self._replicas.append_internal(self.topic, partition, batch, lambda error, _: callback(error))

    def read(self, partition: int) -> Iterator[StoredBatch]:
        for chunk in self._replicas.read_committed_log(self.topic, partition):
            for header, batch in iterate_batches(chunk):
                producer_id = header.producer_id if header.is_transactional else None
                if not header.is_control:
                    for part in decode_in_parts(batch, _PART_RECORDS):
                        yield StoredBatch([(row.key, row.value) for row in part], producer_id)
                    continue
                rows = decode_records(batch)
                if rows and rows[0].key is not None:
                    kind = int.from_bytes(rows[0].key[2:4], "big", signed=True)
                    yield StoredBatch((), header.producer_id, kind == CONTROL_COMMIT)
