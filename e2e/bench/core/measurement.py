"""One measurement of one side: a topic, connections, load, and the proof that what was acknowledged is stored."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broadsheet_broker.wire.records import check_batch, parse_batch
from e2e.bench.core import topics
from e2e.bench.core.batches import Batch
from e2e.bench.core.frames import FETCH_VERSION, Ring, fetch_ring, produce_ring
from e2e.bench.core.generator import Lane, Measured, Window, closed_loop, open_loop
from e2e.bench.core.rows import GB, Row
from e2e.bench.core.sides import Side
from e2e.bench.core.surroundings import Surroundings, cached_share, forget
from e2e.bench.core.topics import Topic
from e2e.bench.probes import Connection

PARTITIONS = 3
PRELOAD_DEPTH = 8
BEHIND_CRC = 21
COLD = 0.02
"""The share of files that may be in the page cache when they are to be read from the disk."""
_numbers = itertools.count(1)

Figures = dict[str, float]


@dataclass(frozen=True)
class Times:
    """Seconds of a measurement: before the window, and in it."""

    warm_s: float = 0.5
    seconds: float = 2.5
    latency_warm_s: float = 1.0
    latency_s: float = 5.0


class Prepared:
    """A row on one side, ready to be measured several times. Close it, or its topic stays."""

    def __init__(self, row: Row, side: Side, times: Times) -> None:
        self.row, self.side, self.times = row, side, times
        self.batch = row.batch()
        self._stored: Topic | None = None
        if row.fetched:
            self._stored = self._new_topic()
            self._preload(self._stored)

    def _new_topic(self) -> Topic:
        replicas = min(3, len(self.side.brokers))
        return topics.create(self.side.brokers, f"bench{next(_numbers)}", PARTITIONS, replicas)

    def _preload(self, topic: Topic) -> None:
        rings = [produce_ring(topic.name, partition, self.batch, "all") for partition in range(PARTITIONS)]
        lanes = [Lane(topic.address(ring.partition), ring) for ring in rings]
        _run(lanes, lambda: closed_loop(lanes, PRELOAD_DEPTH, Window(0.0, 600.0), self._batches))
        topic.check_ends([0] * PARTITIONS, [self._batches * self.batch.records] * PARTITIONS)

    @property
    def _batches(self) -> int:
        """In each partition of a topic that is read: a multiple of what is read at once."""
        return self.row.stored_bytes // self.batch.size // self.row.fetched * self.row.fetched

    def saturation(self, seconds: float | None = None) -> Figures:
        """A closed loop for as long as `seconds` or the row asks for; the keys are those of `_figures`."""
        row = self.row
        whole_seconds = seconds or (self.times.seconds if not row.seconds else max(self.times.seconds, row.seconds))
        warm_s = 0.0 if row.cold else self.times.warm_s
        max_bytes = float("inf") if row.fetched else row.max_bytes

        def load(lanes: Sequence[Lane], around: Surroundings) -> Measured:
            window = Window(warm_s, 600.0 if row.cold else whole_seconds, max_bytes, around.open, around.close)
            return closed_loop(lanes, row.depth, window, lanes[0].ring.frames if row.cold else None)

        measured, around = self._measure(load)
        return _figures(measured, around, self.side)

    def latency(self, rate: float) -> Figures:
        """An open loop of `rate` requests/s: `p50`, `p99`, `p999` in ms from the time when a request was due.

        Also the CPU of the generator and of the brokers (`own_core`, `brokers_core`) in percent of one core.
        """

        def load(lanes: Sequence[Lane], around: Surroundings) -> Measured:
            window = Window(self.times.latency_warm_s, self.times.latency_s, float("inf"), around.open, around.close)
            return open_loop(lanes, rate, window)

        measured, around = self._measure(load)
        quantiles = statistics.quantiles(measured.latencies_s, n=1000)
        return {
            "p50": quantiles[499] * 1000,
            "p99": quantiles[989] * 1000,
            "p999": quantiles[998] * 1000,
            "own_core": measured.own_cpu_s / measured.seconds * 100,
            "brokers_core": around.brokers_cpu_s / measured.seconds * 100,
            "other": around.load.other,
            "steal": around.load.steal,
        }

    def close(self) -> None:
        if self._stored is not None:
            self._stored.remove()
            self._stored = None

    def _measure(self, load: Callable[[Sequence[Lane], Surroundings], Measured]) -> tuple[Measured, Surroundings]:
        around = Surroundings(self.side.pids)
        topic = self._stored or self._new_topic()
        rings = self._rings(topic)
        for ring in rings:
            if self.row.fetched:
                check_fetched(topic, ring, self.batch, 0)
        if self.row.cold:
            forget(topic.files())
            if (share := cached_share(topic.files())) > COLD:
                raise RuntimeError(f"{share:.0%} of the files of {topic.name} stayed in the page cache")
        lanes = self._lanes(topic, rings)
        measured = _run(lanes, lambda: load(lanes, around))
        if not self.row.fetched:
            written = [
                sum(lane.acknowledged for lane in lanes if lane.ring.partition == partition) * self.batch.records
                for partition in range(PARTITIONS)
            ]
            topic.check_ends([0] * PARTITIONS, written)
            for ring, count in zip(rings, written, strict=True):
                if count:
                    last = fetch_ring(topic.name, ring.partition, self.batch, 1, 1, count - self.batch.records)
                    check_fetched(topic, last, self.batch, count - self.batch.records)
            topic.remove()
        return measured, around

    def _rings(self, topic: Topic) -> list[Ring]:
        row = self.row
        if row.fetched:
            return [
                fetch_ring(topic.name, partition, self.batch, row.fetched, self._batches)
                for partition in range(PARTITIONS)
            ]
        return [produce_ring(topic.name, partition, self.batch, row.acks) for partition in range(PARTITIONS)]

    def _lanes(self, topic: Topic, rings: Sequence[Ring]) -> list[Lane]:
        """Connections to the leaders of the partitions in turn; those to one partition begin at different places."""
        count = self.row.connections
        lanes: list[Lane] = []
        try:
            for number in range(count):
                ring = rings[number % PARTITIONS]
                first = 0 if self.row.cold else number // PARTITIONS * ring.frames * PARTITIONS // count
                name = f"connection {number + 1} ({topic.name}-{ring.partition})"
                lanes.append(Lane(topic.address(ring.partition), ring, first, name))
        except OSError:
            for lane in lanes:
                lane.close()
            raise
        return lanes


def _run(lanes: Sequence[Lane], load: Callable[[], Measured]) -> Measured:
    try:
        return load()
    finally:
        for lane in lanes:
            lane.close()


def _figures(measured: Measured, around: Surroundings, side: Side) -> Figures:
    """What a closed loop found.

    `rate` in requests/s, `mbs` in MB/s; CPU of the brokers in s per GB (`cpu`) and µs per request (`cpu_request`),
    the generator's likewise (`own`, `own_request`); `memory` in MB; `other` load and `steal` in percent of all cores.
    """
    gigabytes = max(measured.payload_bytes, 1) / GB
    return {
        "rate": measured.answers / measured.seconds,
        "mbs": measured.payload_bytes / measured.seconds / 1e6,
        "cpu": around.brokers_cpu_s / gigabytes,
        "cpu_request": around.brokers_cpu_s / max(measured.answers, 1) * 1e6,
        "own": measured.own_cpu_s / gigabytes,
        "own_request": measured.own_cpu_s / max(measured.answers, 1) * 1e6,
        "memory": side.memory_mb,
        "other": around.load.other,
        "steal": around.load.steal,
    }


def check_fetched(topic: Topic, ring: Ring, batch: Batch, base_offset: int) -> None:
    """Read what the first request of a fetch ring asks for, and compare each batch with the one that was produced."""
    host, port = topic.address(ring.partition)
    with Connection(f"{host}:{port}", topics.PATIENCE_S) as connection:
        answer = ring.answer.decode(connection.exchange(bytes(ring.data[: ring.frame_bytes])))
    row = answer.responses[0].partitions[0]
    stored = memoryview(row.records or b"")
    where = f"{topic.name}-{ring.partition}, offset {base_offset}, Fetch {FETCH_VERSION}"
    if row.error_code or len(stored) != ring.payload_bytes:
        raise ValueError(
            f"{where}: error {row.error_code}, {len(stored)} bytes where {ring.payload_bytes} were asked for"
        )
    for position in range(0, len(stored), batch.size):
        one = stored[position : position + batch.size]
        header = parse_batch(one)
        check_batch(header, one)
        if header.base_offset != base_offset or bytes(one[BEHIND_CRC:]) != batch.data[BEHIND_CRC:]:
            raise ValueError(f"{where}: a batch at offset {header.base_offset} that is not what was produced")
        base_offset += batch.records
