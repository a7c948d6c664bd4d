"""From committed records of the metadata log to published images: what every node does, with any leader of the quorum.

Until a node has caught up, what it reads is history: a broker that acted on it would lead partitions of former times.
So records are gathered at first, and `release` publishes them as one image; from then on each commit is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from broadsheet_broker.metadata.cache import MetadataCache
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.difference import difference
from broadsheet_broker.metadata.image import ClusterImage
from broadsheet_broker.metadata.loader import Replayer
from broadsheet_broker.metadata.records import decode_record


class Position(NamedTuple):
    """A place in the metadata log."""

    offset: int = -1
    """Of the last record before it; -1: the beginning."""
    epoch: int = -1
    timestamp_ms: int = -1


class MetadataPublisher:
    """Keeps the committed image of one node. All calls are made on the event loop."""

    def __init__(self, cache: MetadataCache, cluster_id: str) -> None:
        self._cache = cache
        self._replayer = Replayer()
        self._empty = ClusterImage(cluster_id=cluster_id)
        self._committed = self._empty
        self._gathered: MetadataDelta | None = MetadataDelta(self._empty)
        """What is committed and not published; None from `release` on."""
        self._controller_id = -1
        self.position = Position()
        """Up to where the log was read."""

    @property
    def is_released(self) -> bool:
        return self._gathered is None

    @property
    def in_transaction(self) -> bool:
        return self._replayer.in_transaction

    @property
    def committed(self) -> ClusterImage:
        """Everything committed so far, published or not."""
        if self._gathered is None:
            return self._committed
        return self._gathered.apply(*self.position, self._controller_id)

    def knows_broker(self, broker_id: int, epoch: int) -> bool:
        """Whether the committed metadata speaks of this life of a broker."""
        brokers = self._committed.brokers
        broker = brokers.get(broker_id) if self._gathered is None else self._gathered.broker(broker_id)
        return broker is not None and broker.epoch == epoch

    # What the log says.

    def load_snapshot(self, values: Sequence[bytes], position: Position) -> None:
        """Start from a snapshot; what was known before is replaced."""
        delta = MetadataDelta(self._empty)
        self._replayer = Replayer()
        self._replayer.replay(delta, map(decode_record, values))
        self.position = position
        if self._gathered is not None:
            self._gathered = delta
            return
        before, image = self._committed, delta.apply(*position, self._controller_id)
        self._committed = image
        self._cache.publish(difference(before, image), image)

    def commit(self, batches: Sequence[tuple[Sequence[object], Position]]) -> None:
        """Take decoded records of some batches, with the position after each, and publish the image they make."""
        if not batches:
            return
        delta = MetadataDelta(self._committed) if self._gathered is None else self._gathered
        for records, _ in batches:
            self._replayer.replay(delta, records)
        self.position = batches[-1][1]
        if self._gathered is None:
            self._committed = delta.apply(*self.position)
            self._cache.publish(delta, self._committed)

    def set_controller(self, controller_id: int | None) -> None:
        """Another node leads the quorum, or none that is known."""
        self._controller_id = -1 if controller_id is None else controller_id
        if self._gathered is None and self._committed.controller_id != self._controller_id:
            self._committed = replace(self._committed, controller_id=self._controller_id)
            self._cache.publish(MetadataDelta(self._committed), self._committed)

    # Publication.

    def release(self) -> None:
        """Publish what was gathered, and everything that follows at once."""
        delta = self._gathered
        if delta is None:
            return
        self._committed = delta.apply(*self.position, self._controller_id)
        self._gathered = None
        self._cache.publish(delta, self._committed)

    def hold_back(self) -> None:
        """Stop publishing: this node stops."""
        if self._gathered is None:
            self._gathered = MetadataDelta(self._committed)
