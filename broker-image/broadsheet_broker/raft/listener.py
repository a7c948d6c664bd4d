"""The interface between the metadata log and the state machine on top of it, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from broadsheet_broker.raft.machine import QuorumSettings
from broadsheet_broker.raft.messages import SnapshotId
from broadsheet_broker.wire.errors import KafkaError


class Committed(NamedTuple):
    """One batch of the metadata log below the high watermark."""

    base_offset: int
    last_offset: int
    epoch: int
    timestamp_ms: int
    size: int
    """Bytes."""
    values: Sequence[bytes]
    """Empty for a control batch. Empty too when this leader appended it: then `tag` says what was appended."""
    tag: Any = None


class SnapshotSource(NamedTuple):
    """What the listener gives for a snapshot: everything up to and including `last_offset`."""

    last_offset: int
    epoch: int
    timestamp_ms: int
    values: Callable[[], Iterable[bytes]]
    """Called in another thread; must not touch what changes."""


class RaftListener(Protocol):
    """Who keeps the state that the log describes. Called on the event loop, on every node, leader or not."""

    def load_snapshot(self, id: SnapshotId, timestamp_ms: int, values: Sequence[bytes]) -> None:
        """All that was known is replaced by this. Comes at the start, and whenever the node had fallen behind the
        beginning of the leader's log."""
        ...

    def handle_commit(self, batches: Sequence[Committed]) -> None:
        """In the order of offsets, each batch once. What this leader appended comes with its tag while it leads; what
        is committed after it was deposed comes without."""
        ...

    def handle_append_failure(self, tags: Sequence[Any], error: KafkaError) -> None:
        """These appends never happened."""
        ...

    def handle_refusal(self, error: KafkaError) -> None:
        """The disk does not take what the leader sent (`RaftNode.is_behind`); it is fetched again and again."""
        ...

    def handle_leader(self, epoch: int, leader_id: int | None) -> None:
        """Who leads. A quorum of one is notified of itself when everything in its log was handed over; a leader among
        several right before the `handle_commit` that ends in its own epoch, and so with all that was before.

        When it no longer leads, what it appended and has not seen committed is undecided.
        """
        ...

    def snapshot_source(self) -> SnapshotSource | None:
        """None while the listener has no whole picture."""
        ...


class RaftSettings(NamedTuple):
    """Properties of the metadata log, by their Kafka names."""

    segment_bytes: int = 1 << 30
    """metadata.log.segment.bytes"""
    segment_ms: int = 7 * 24 * 3600 * 1000
    """metadata.log.segment.ms"""
    snapshot_bytes: int = 20 * 1024 * 1024
    """metadata.log.max.record.bytes.between.snapshots"""
    snapshot_interval_ms: int = 3600 * 1000
    """metadata.log.max.snapshot.interval.ms; 0: never by time"""
    retention_bytes: int = 100 * 1024 * 1024
    """metadata.max.retention.bytes"""
    retention_ms: int = 7 * 24 * 3600 * 1000
    """metadata.max.retention.ms"""
    quorum: QuorumSettings = QuorumSettings()
