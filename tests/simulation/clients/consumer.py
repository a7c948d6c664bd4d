"""A simulated consumer: fetches what follows its positions, from whoever leads, and notes what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from broadsheet_broker.wire.messages.fetch_response import PartitionData
from broadsheet_broker.wire.messages.offset_for_leader_epoch_request import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from broadsheet_broker.wire.records import decode_records, iterate_batches
from tests.simulation.clients.admin import EARLIEST, LATEST, list_offset
from tests.simulation.clients.connection import PROBLEMS, REQUEST_TIMEOUT, ClusterView
from tests.support.history.operations import OUT_OF_RANGE, History, Partition, Poll, Seek

_VERSION = 12
_STALE = {
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.OFFSET_NOT_AVAILABLE,
}
"""Somebody else leads, or the same broker in another epoch, or nobody yet."""


class Place:
    """Where a consumer is in one partition."""

    __slots__ = ("checked_epoch", "epoch", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        """Of the next record wanted."""
        self.epoch = -1
        """Leader epoch of the last record that was given."""
        self.checked_epoch = -1
        """The leader epoch against which the place was last checked (KIP-320)."""


class Session:
    """What one broker remembers of this consumer's fetches, so that requests name changes only (KIP-227)."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._id = 0
        self._epoch = 0 if enabled else -1
        self._known: dict[Partition, tuple[int, int]] = {}
        """Offset and leader epoch that the broker has of each partition."""

    def fill(self, request: FetchRequest, places: dict[Partition, Place], max_bytes: int) -> None:
        """Name the partitions that are new or elsewhere now, and those that are no longer wanted."""
        request.session_id, request.session_epoch = self._id, self._epoch
        if self._epoch <= 0:
            self._known = {}
        topics: dict[str, FetchTopic] = {}
        for (name, index), place in places.items():
            state = (place.offset, place.checked_epoch)
            if self._known.get((name, index)) != state:
                self._known[name, index] = state
                row = FetchPartition(
                    partition=index,
                    fetch_offset=place.offset,
                    current_leader_epoch=place.checked_epoch,
                    partition_max_bytes=max_bytes,
                )
                topics.setdefault(name, FetchTopic(topic=name)).partitions.append(row)
        request.topics = list(topics.values())
        gone = [partition for partition in self._known if partition not in places]
        for partition in gone:
            del self._known[partition]
            request.forgotten_topics_data.append(ForgottenTopic(topic=partition[0], partitions=[partition[1]]))

    def answered(self, session_id: int, code: int) -> None:
        if code:
            self.failed()
            self._id = 0 if code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND else self._id
        elif self._enabled:
            self._id = session_id
            self._epoch = self._epoch + 1 if session_id else 0  # 0: the broker has no room for a session

    def failed(self) -> None:
        """The broker may or may not have seen the last request: close the session and begin a new one."""
        self._epoch = min(self._epoch, 0)


class Consumer:
    """Reads the partitions it is assigned, one fetch per leader at a time."""

    def __init__(
        self,
        view: ClusterView,
        history: History,
        *,
        max_wait_ms: int = 500,
        max_bytes: int = 1_000_000,
        sessions: bool = False,
        on_surprise: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = view.client_id
        self.places: dict[Partition, Place] = {}
        self._view = view
        self._history = history
        self._max_wait_ms = max_wait_ms
        self._max_bytes = max_bytes
        self._with_sessions = sessions
        self._sessions: dict[int, Session] = {}
        self._on_surprise = on_surprise
        self._assignment = 0
        """Changes with each assignment: answers to older fetches are thrown away."""

    def assign(self, places: Iterable[tuple[Partition, int]]) -> None:
        """Read these partitions, and no others, from these offsets on."""
        self._assignment += 1
        self.places = {}
        for partition, offset in places:
            self._seek(partition, offset, "assigned")

    def _seek(self, partition: Partition, offset: int, reason: str) -> None:
        self.places[partition] = Place(offset)
        self._history.reads.append(Seek(self.name, self._view.time(), partition, offset, reason))

    def hurry(self) -> None:
        """Take much at a time from now on: with little, what is left may take longer than anybody waits."""
        self._max_bytes = 1_000_000

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()

    async def poll(self) -> int:
        """One round of fetches, one to each leader; returns how many records came."""
        by_leader: dict[int, list[Partition]] = {}
        for partition in sorted(self.places):
            leader = self._view.leaders.get(partition)
            if leader is None or leader.broker_id < 0:
                await self._view.rest()
                await self._view.refresh(sorted({name for name, _ in self.places}))
                continue
            by_leader.setdefault(leader.broker_id, []).append(partition)
        if not by_leader:
            await self._view.rest()
            return 0
        return sum(await asyncio.gather(*(self._fetch(leader, found) for leader, found in by_leader.items())))

    async def _fetch(self, broker_id: int, partitions: list[Partition]) -> int:
        assignment, asked = self._assignment, self._view.time()
        session = self._sessions.setdefault(broker_id, Session(self._with_sessions))
        try:
            connection = await self._view.broker(broker_id, "fetch")
            for partition in partitions:
                await self._check_place(connection, partition)
            request = FetchRequest(max_wait_ms=self._max_wait_ms, min_bytes=1, max_bytes=self._max_bytes)
            wanted = {partition: self.places[partition] for partition in partitions if partition in self.places}
            session.fill(request, wanted, self._max_bytes)
            answer = await connection.call(request, _VERSION, REQUEST_TIMEOUT + self._max_wait_ms / 1000)
        except (asyncio.CancelledError, *PROBLEMS) as error:
            session.failed()
            if isinstance(error, asyncio.CancelledError):
                raise
            await self._view.rest()
            await self._view.refresh(sorted({name for name, _ in partitions}))
            return 0
        session.answered(answer.session_id, answer.error_code)
        if assignment != self._assignment:
            return 0
        count, stale = 0, bool(answer.error_code)
        for topic in answer.responses:
            for data in topic.partitions:
                key = (topic.topic, data.partition_index)
                code = ErrorCode(data.error_code)
                if code is ErrorCode.NONE:
                    count += self._take(key, data, asked)
                elif code is ErrorCode.OFFSET_OUT_OF_RANGE:
                    await self._reset(key, assignment)
                elif code in _STALE:
                    stale = True
                else:
                    self._on_surprise(f"{self.name} was told {code.name} for a fetch of {key}")
                    stale = True
        if stale:
            await self._view.rest()
            await self._view.refresh(sorted({name for name, _ in partitions}))
        return count

    def _take(self, partition: Partition, data: PartitionData, asked: float) -> int:
        place = self.places[partition]
        if not data.records:
            return 0
        assert not isinstance(data.records, list)
        now, count = self._view.time(), 0
        for header, batch in iterate_batches(memoryview(data.records)):
            if not header.is_control:
                for record in decode_records(batch):
                    if record.offset < place.offset:
                        continue  # a fetch in the middle of a batch returns all of it
                    if record.offset >= data.high_watermark:
                        self._on_surprise(f"{self.name} was given {record.offset} of {partition}, above the watermark")
                    value = (record.value or b"").decode()
                    self._history.reads.append(Poll(self.name, now, partition, record.offset, value, asked=asked))
                    count += 1
            place.offset = max(place.offset, header.last_offset + 1)
            place.epoch = header.partition_leader_epoch
        return count

    async def _check_place(self, connection: Any, partition: Partition) -> None:
        """With a new leader epoch: ask how far the log agrees with what was read (KIP-320)."""
        place = self.places.get(partition)
        leader = self._view.leaders.get(partition)
        if place is None or leader is None or place.checked_epoch >= leader.epoch:
            return
        if place.epoch >= 0:
            row = OffsetForLeaderPartition(
                partition=partition[1], current_leader_epoch=leader.epoch, leader_epoch=place.epoch
            )
            topics = [OffsetForLeaderTopic(topic=partition[0], partitions=[row])]
            answer = await connection.call(OffsetForLeaderEpochRequest(replica_id=-1, topics=topics), 4)
            found = answer.topics[0].partitions[0]
            if found.error_code:
                raise ConnectionError(ErrorCode(found.error_code).name)
            if found.end_offset < place.offset and self.places.get(partition) is place:
                self._seek(partition, max(found.end_offset, 0), "truncated")
                self.places[partition].checked_epoch = leader.epoch
                return
        place.checked_epoch = leader.epoch

    async def _reset(self, partition: Partition, assignment: int) -> None:
        """The place is not in the log: deleted, or lost with a truncation."""
        first = await list_offset(self._view, partition, EARLIEST)
        last = await list_offset(self._view, partition, LATEST)
        place = self.places.get(partition)
        if assignment != self._assignment or place is None or first <= place.offset <= last:
            return
        self._seek(partition, first if place.offset < first else last, OUT_OF_RANGE)
