"""What is measured at saturation, and what is aimed at: ratios of Broadsheet's figure to Apache Kafka's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from e2e.bench.core.batches import Batch, filled, single, text

KIB, MIB = 1 << 10, 1 << 20
GB = 1e9


@dataclass(frozen=True)
class Row:
    """One kind of load. Connections are spread over the three partitions of a topic."""

    key: str
    title: str
    batch: Callable[[], Batch]
    depth: int
    """Requests in flight on each connection of the closed loop."""
    connections: int = 3
    acks: str = "1"
    fetched: int = 0
    """Batches that one request fetches; 0: the row produces."""
    cold: bool = False
    """Whether the files are dropped from the page cache before each run; it ends when all was read once."""
    stored_bytes: int = 96 * MIB
    """In each partition before it is fetched from."""
    tmpfs: bool = False
    latency: bool = False
    """Whether an open loop at half of saturation follows."""
    in_requests: bool = False
    """Whether rates are requests/s instead of MB/s, and CPU is per request."""
    seconds: float = 0.0
    """Of a measurement, where it needs longer than others."""
    max_bytes: float = 2.0 * GB
    """That a measurement writes: less than the kernel keeps before it makes writers wait for the disk."""
    aim: float | None = None
    cpu_aim: float | None = None


@cache
def _single(size: int) -> Batch:
    return single(size)


@cache
def _filled(size: int) -> Batch:
    return filled(size)


@cache
def _text(codec: str) -> Batch:
    return text(64 * KIB, codec)


def one_kib() -> Batch:
    return _single(KIB)


def hundred_bytes() -> Batch:
    return _single(100)


def kib16() -> Batch:
    return _filled(16 * KIB)


def kib64() -> Batch:
    return _filled(64 * KIB)


def mib1() -> Batch:
    """Below the default `message.max.bytes` of 1,048,588."""
    return _filled(MIB)


def zstd() -> Batch:
    return _text("zstd")


def lz4() -> Batch:
    return _text("lz4")


P99_AIM = 0.5
MEMORY_AIM = 0.1

Q_AIM = {"aim": 3.0, "cpu_aim": 0.25}
"""One record a request."""
P_AIM = {"aim": 2.0, "cpu_aim": 0.4}
M_AIM = {"aim": 1.0, "cpu_aim": 0.6}
F_AIM = {"aim": 1.5, "cpu_aim": 0.7}
G_AIM = {"aim": 1.1, "cpu_aim": 1.0}
COLD_AIM = {"aim": 1.0}
"""Of what is read from the disk: to be no slower."""


def _requests(key: str, title: str, batch: Callable[[], Batch], depth: int, **more: Any) -> Row:
    return Row(key, f"produce, {title}", batch, depth, in_requests=True, **more)


def _produce(key: str, title: str, batch: Callable[[], Batch], depth: int, **more: Any) -> Row:
    return Row(key, f"produce, {title}", batch, depth, **more)


def _fetch(key: str, title: str, batches: int, depth: int, **more: Any) -> Row:
    return Row(key, f"fetch, {title}", kib16, depth, fetched=batches, **more)


ONE: Sequence[Row] = (
    _requests("p1", "1 record of 1 KiB a request", one_kib, 64, latency=True, **Q_AIM),
    _requests("p1-all", "1 record of 1 KiB, acks=all", one_kib, 64, acks="all", **Q_AIM),
    _requests("p100", "1 record of 100 bytes a request", hundred_bytes, 128, **Q_AIM),
    _requests("p1-c100", "1 record of 1 KiB, 100 connections", one_kib, 5, connections=100, **Q_AIM),
    _requests("p1-c1000", "1 record of 1 KiB, 1,000 connections", one_kib, 1, connections=1000, **Q_AIM),
    _produce("p16k", "batches of 16 KiB", kib16, 16, latency=True, **P_AIM),
    _produce("p16k-c100", "batches of 16 KiB, 100 connections", kib16, 5, connections=100, **P_AIM),
    _produce("p64k", "batches of 64 KiB", kib64, 8, latency=True, **P_AIM),
    _produce("p64k-all", "batches of 64 KiB, acks=all", kib64, 8, acks="all", **P_AIM),
    _produce("p1m-tmpfs", "batches of 1 MiB, tmpfs", mib1, 3, tmpfs=True, **M_AIM),
    _produce("p1m-disk", "batches of 1 MiB, disk, 8 GB", mib1, 3, seconds=20.0, max_bytes=8 * GB, **M_AIM),
    _produce("zstd", "64 KiB in a batch of zstd", zstd, 16, aim=1.2),
    _produce("lz4", "64 KiB in a batch of lz4", lz4, 16, aim=1.2),
    _fetch("f64k", "64 KiB a partition", 4, 4, latency=True, **F_AIM),
    _fetch("f64k-c100", "64 KiB a partition, 100 connections", 4, 2, connections=100, **F_AIM),
    _fetch("f64k-c1000", "64 KiB a partition, 1,000 connections", 4, 1, connections=1000, **F_AIM),
    _fetch("f1m", "1 MiB a partition", 64, 2, **G_AIM),
    _fetch("f64k-cold", "64 KiB a partition, from the disk", 4, 2, cold=True, stored_bytes=256 * MIB, **COLD_AIM),
    _fetch("f1m-cold", "1 MiB a partition, from the disk", 64, 2, cold=True, stored_bytes=512 * MIB, **COLD_AIM),
)
"""One broker."""

THREE: Sequence[Row] = (
    _requests("p1", "1 record of 1 KiB a request", one_kib, 64, acks="all", latency=True, aim=2.0),
    _produce("p16k", "batches of 16 KiB", kib16, 16, acks="all", latency=True, aim=2.0),
    _produce("p16k-c100", "batches of 16 KiB, 99 connections", kib16, 5, connections=99, acks="all", aim=2.0),
    _produce("p64k", "batches of 64 KiB", kib64, 8, acks="all", aim=2.0),
    _produce("p1m", "batches of 1 MiB", mib1, 3, acks="all", aim=2.0),
    _fetch("f64k", "64 KiB a partition", 4, 4, latency=True, **F_AIM),
    _fetch("f1m", "1 MiB a partition", 64, 2, **G_AIM),
)
"""Three brokers, three replicas."""

ROWS = {"core": ONE, "core-three": THREE}
