"""Fakes of what a partition stands on: a log in memory, a loop whose time is turned by hand, a queue of appends."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.leader_epochs import LeaderEpochs
from broadsheet_broker.log.results import AppendInfo, Fetched
from broadsheet_broker.replication.appending import AppendTurn
from broadsheet_broker.replication.partition import Partition
from broadsheet_broker.replication.sessions import FetchSessions, Position
from broadsheet_broker.seams.metrics import TopicCounters
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from tests.support.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from broadsheet_broker.replication.fetch_request import Fetch

TOPIC_ID = UUID("6a2f41a3-c54c-4f4a-9d2c-6e2f5cbe1e77")


@dataclass
class State:
    """A partition as the metadata image has it."""

    leader: int = 1
    leader_epoch: int = 1
    isr: tuple[int, ...] = (1,)
    replicas: tuple[int, ...] = (1,)
    partition_epoch: int = 1


class FakeLog:
    """One record per byte of a batch: `append(b"abc")` takes three offsets."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, bytes]] = []
        self.log_start_offset = 0
        self.log_end_offset = 0
        self.config = LogConfig()
        self.directory = "/logs/orders-0"
        self.epochs = LeaderEpochs([])
        self.fail: Exception | None = None
        self.flushes = 0
        self._written = 0

    def append_as_leader(
        self, records: memoryview, leader_epoch: int, now_ms: int, *, origin: str, checked: object = None
    ) -> AppendInfo:
        first = self.log_end_offset
        self.batches.append((first, bytes(records)))
        self.log_end_offset += len(records)
        return AppendInfo(first, self.log_end_offset - 1, -1, -1, len(records))

    def flush_appends(self) -> None:
        self.flushes += 1
        if self.fail is not None:
            self.batches = [batch for batch in self.batches if batch[0] < self._written]
            self.log_end_offset = self._written
            raise self.fail
        self._written = self.log_end_offset

    def read(self, offset: int, max_bytes: int, *, limit_offset: int, min_one: bool, stored_from: int) -> Fetched:
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        found: list[bytes] = []
        size, end = 0, offset
        for first, batch in self.batches:
            if first + len(batch) <= offset or first >= limit_offset:
                continue
            if size + len(batch) > max_bytes and not (min_one and not found):
                break
            found.append(batch)
            size += len(batch)
            end = first + len(batch)
        return Fetched(b"".join(found), end)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        return self.epochs.end_offset_of(epoch, self.log_end_offset)

    def last_stable_offset(self, high_watermark: int) -> int:
        return high_watermark

    def aborted_transactions(self, first: int, last: int) -> list[Any]:
        return []

    def advance_log_start_offset(self, offset: int, high_watermark: int) -> None:
        self.log_start_offset = offset


class Stage:
    """A loop, a turn of appends and partitions of topic `orders`, on broker 1."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.turn = AppendTurn(self.loop.asyncio())
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.preferred = -1
        self.sends = True
        self.sent = 0
        self.sessions = FetchSessions(10, Random(7), self.loop)

    def locate(self, position: Position) -> Partition:
        found = self.partitions.get((position.topic.name or "orders", position.index))
        if found is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if position.topic.name else ErrorCode.UNKNOWN_TOPIC_ID
            )
        return found

    def time_ms(self) -> int:
        return int(self.loop.now * 1000)

    def finish_soon(self, fetch: Fetch) -> None:
        self.turn.finish_soon(fetch)

    def preferred_replica(self, partition: Partition, reader: object, fetch_offset: int) -> int:
        return self.preferred

    def may_send(self, partition: Partition, replica: int) -> bool:
        return self.sends

    def sent_to_follower(self, partition: Partition, replica: int, size: int) -> None:
        self.sent += size

    def partition(
        self, index: int = 0, *, topic: str = "orders", min_insync_replicas: int = 1, state: State | None = None
    ) -> Partition:
        partition = Partition(
            topic,
            index,
            TOPIC_ID,
            FakeLog(),  # type: ignore[arg-type]
            broker_id=1,
            queue=self.turn,
            counters=TopicCounters(),
            min_insync_replicas=min_insync_replicas,
        )
        partition.become_leader(state or State())
        self.partitions[topic, index] = partition
        return partition

    def append(self, partition: Partition, batch: bytes, acks: int = 1) -> Any:
        return partition.append(batch, acks, 0)
