"""Hands committed records over to the listener of the metadata log, in order and each once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from broadsheet_broker.raft.counts import Mean
from broadsheet_broker.raft.listener import Committed, RaftListener
from broadsheet_broker.raft.storage import MetadataLog
from broadsheet_broker.wire.records import BatchHeader, decode_records

_DELIVERED_BYTES = 4 * 1024 * 1024
"""Committed bytes that the listener gets in one call when they are read from the log."""


class Delivery:
    """What was appended here as leader and waits to be committed, and how far the listener is."""

    def __init__(self, storage: MetadataLog, listener: RaftListener, now_ms: Callable[[], float]) -> None:
        """`now_ms`: monotonic."""
        self._storage = storage
        self._listener = listener
        self._now_ms = now_ms
        self._waiting: deque[tuple[Committed, float]] = deque()
        """Appended here as leader, not yet committed, in the order of offsets, and when."""
        self.applied = 0
        """The listener has everything below this offset."""
        self.commit_latency_ms = Mean()
        """From an append on this leader until it is committed."""

    def appended(self, batch: Committed) -> None:
        """This leader has appended a batch; `deliver` hands it over once it is committed."""
        self._waiting.append((batch, self._now_ms()))

    def forget_waiting(self) -> list[Any]:
        """This node no longer leads, or its log failed; whether what waits is ever committed is up to others. Returns
        its tags."""
        tags = [batch.tag for batch, _ in self._waiting]
        self._waiting.clear()
        return tags

    def is_taken_back(self) -> bool:
        """The log ends before what was appended last: a reader made it write, and the disk refused."""
        return bool(self._waiting) and self._waiting[-1][0].last_offset >= self._storage.end_offset

    def take_back(self) -> list[Any]:
        """Forget what is not in the log, and return its tags."""
        refused = []
        while self.is_taken_back():
            refused.append(self._waiting.pop()[0].tag)
        return refused

    def starts_at(self, offset: int) -> None:
        """The listener has been given a snapshot of everything below `offset`."""
        self.applied = offset

    def deliver(self, high_watermark: int) -> int:
        """Hand over everything below the high watermark that the listener does not have; returns its bytes."""
        batches: list[Committed] = []
        size = total = 0
        waiting = self._waiting
        while self.applied < high_watermark:
            while waiting and waiting[0][0].last_offset < self.applied:
                waiting.popleft()
            if waiting and waiting[0][0].base_offset <= self.applied:
                if waiting[0][0].last_offset >= high_watermark:
                    break
                batch, appended_at = waiting.popleft()
                self.commit_latency_ms.observe(self._now_ms() - appended_at)
                batches.append(batch)
                self.applied = batch.last_offset + 1
                total += batch.size
                continue
            before = self.applied
            limit = waiting[0][0].base_offset if waiting else high_watermark
            for header, data in self._storage.read(before, min(limit, high_watermark)):
                if header.last_offset >= high_watermark:
                    break
                batches.append(self._read_committed(header, data))
                self.applied = header.last_offset + 1
                total += header.size
                size += header.size
                if size > _DELIVERED_BYTES:
                    break
            if self.applied == before:
                break
            if size > _DELIVERED_BYTES:
                self._listener.handle_commit(batches)
                batches, size = [], 0
        if batches:
            self._listener.handle_commit(batches)
        return total

    def _read_committed(self, header: BatchHeader, batch: memoryview) -> Committed:
        values: list[bytes] = []
        if not header.is_control:
            values = [record.value or b"" for record in decode_records(batch) if record.offset >= self.applied]
        return Committed(
            header.base_offset,
            header.last_offset,
            header.partition_leader_epoch,
            header.max_timestamp,
            header.size,
            values,
        )
