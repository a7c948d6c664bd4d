"""A refused request is gone when its answer is: with the collector off, the buffer that it came in is free at once.

A reference cycle on such a path holds megabytes for each refusal, since the collector counts objects and not bytes; and
clients that are refused come again at once.
"""

from __future__ import annotations

import errno
import gc
import os
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.apis.registry import REGISTRY
from broadsheet_broker.seams import LocalFiles
from broadsheet_broker.wire.api_messages import request_class
from broadsheet_broker.wire.errors import ErrorCode
from tests.apis.test_produce_api import request, row_of
from tests.support.replica_services import NOW_MS, Bench, Call, Connection, batch, run

VERSION = 9
GOOD = batch(b"a" * 1000)


class RefusingDisk(LocalFiles):
    """Refuses one kind of operation on segments while `error` is set."""

    error = 0

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def refuse(self, operation: str, path: str) -> None:
        if self.error and operation == self.operation and path.endswith(".log"):
            raise OSError(self.error, os.strerror(self.error), path)

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> Any:
        if create:
            self.refuse("roll", path)
        file: Any = super().open(path, create=create, read_only=read_only)
        refuse = self.refuse

        class Refusing(type(file)):  # type: ignore[misc]
            __slots__ = ()

            def append(self, buffers: Any) -> int:
                refuse("append", self.path)
                return int(super().append(buffers))

            def sync(self) -> None:
                refuse("sync", self.path)
                super().sync()

        file.__class__ = Refusing
        return file


class Received(bytearray):
    """A receive buffer that can be watched."""


class Watch:
    """Requests whose buffers are to be free again."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.buffers: list[weakref.ref[Received]] = []

    def begin(self, body: Any, version: int = VERSION) -> Call:
        data = Received(b"".join(body.encode(version)))
        self.buffers.append(weakref.ref(data))
        decoded, _ = request_class(0).decode(memoryview(data), version)
        call = Call(0, version, 1, "test", decoded, Connection(), self.bench.environment.monotonic())
        call.outcome, call.silent, call.hung_up = None, False, False
        REGISTRY[0].handler(self.bench.services, call)
        return call

    async def refused(self, code: ErrorCode, body: Any, version: int = VERSION) -> None:
        for _ in range(3):
            call = self.begin(body, version)
            await self.bench.until(lambda call=call: call.outcome is not None or call.hung_up)
            if call.outcome is not None:
                assert ErrorCode(row_of(call.outcome).error_code) == code
            del call

    def free(self) -> bool:
        return not any(buffer() is not None for buffer in self.buffers)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def lean(
    directory: Path, scenario: Callable[[Bench, Watch], Awaitable[None]], *, files: LocalFiles | None = None
) -> None:
    async def watched(bench: Bench) -> None:
        watch = Watch(bench)
        await scenario(bench, watch)
        await bench.until(watch.free)

    run(directory, watched, files=files)


SEQUENCED = batch(b"a", producer_id=7, producer_epoch=1, base_sequence=0)
REFUSALS = {
    "no such topic": (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, request(GOOD, topic="nobody")),
    "no such partition": (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, request(GOOD, index=7)),
    "not leader": (ErrorCode.NOT_LEADER_OR_FOLLOWER, request(GOOD, topic="elsewhere")),
    "acks": (ErrorCode.INVALID_REQUIRED_ACKS, request(GOOD, acks=2)),
    "acks 0": (ErrorCode.NONE, request(batch(b"a" * 5000), topic="small", acks=0)),
    "internal topic": (ErrorCode.INVALID_TOPIC_EXCEPTION, request(GOOD, topic="__consumer_offsets")),
    "too large": (ErrorCode.MESSAGE_TOO_LARGE, request(batch(b"a" * 5000), topic="small")),
    "larger than a segment": (ErrorCode.RECORD_LIST_TOO_LARGE, request(batch(b"a" * 5000), topic="short")),
    "not enough replicas": (ErrorCode.NOT_ENOUGH_REPLICAS, request(GOOD, topic="safe")),
    "out of sequence": (
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        request(batch(b"a", producer_id=7, producer_epoch=1, base_sequence=5)),
    ),
    "an older epoch": (
        ErrorCode.INVALID_PRODUCER_EPOCH,
        request(batch(b"a", producer_id=7, producer_epoch=0, base_sequence=1)),
    ),
    "no key": (ErrorCode.INVALID_RECORD, request(batch(b"a", key=None), topic="compacted")),
    "too late": (ErrorCode.INVALID_TIMESTAMP, request(batch(b"a", timestamp=NOW_MS + 10**9))),
    "damaged": (ErrorCode.CORRUPT_MESSAGE, request(GOOD[:-1] + b"?")),
    "cut short": (ErrorCode.CORRUPT_MESSAGE, request(GOOD[:-1])),
    "two batches": (ErrorCode.INVALID_RECORD, request(GOOD + GOOD)),
    "control": (ErrorCode.INVALID_RECORD, request(batch(b"a", control=True))),
    "no transactions": (
        ErrorCode.INVALID_TXN_STATE,
        request(batch(b"a", transactional=True, producer_id=1, producer_epoch=0, base_sequence=0)),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refused_at_once(tmp_path: Path, refusal: str) -> None:
    async def scenario(bench: Bench, watch: Watch) -> None:
        bench.create()
        bench.create("elsewhere", leader=2)
        bench.create("small", max_message_bytes="2000")
        bench.create("short", segment_bytes="2000")
        bench.create("compacted", cleanup_policy="compact")
        bench.create("__consumer_offsets")
        bench.create("safe", leader=2, min_insync_replicas="2")
        partition = bench.replicas.partition("safe", 0)
        bench.move_leader(partition.topic_id, 1)
        partition.isr = partition.maximal_isr = (1,)
        assert row_of(await bench.call(0, VERSION, request(SEQUENCED))).error_code == 0
        await watch.refused(*REFUSALS[refusal])

    lean(tmp_path, scenario)


def test_no_such_topic_id(tmp_path: Path) -> None:
    async def scenario(bench: Bench, watch: Watch) -> None:
        await watch.refused(ErrorCode.UNKNOWN_TOPIC_ID, request(GOOD, topic_id=uuid.uuid4()), 13)

    lean(tmp_path, scenario)


@pytest.mark.parametrize("operation", ["append", "sync", "roll"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.EIO], ids=lambda error: errno.errorcode[error])
def test_a_disk_that_refuses(tmp_path: Path, error: int, operation: str) -> None:
    """Full, without descriptors, or failing: then the directory is lost, and the partition is offline from then on."""
    disk = RefusingDisk(operation)

    async def scenario(bench: Bench, watch: Watch) -> None:
        bench.create(flush_messages="1" if operation == "sync" else "100", segment_bytes="1500")
        assert row_of(await bench.call(0, VERSION, request(GOOD))).error_code == 0
        disk.error = error
        await watch.refused(ErrorCode.KAFKA_STORAGE_ERROR, request(GOOD))
        calls = [watch.begin(request(GOOD)) for _ in range(3)]
        await bench.until(lambda: all(call.outcome is not None for call in calls))
        assert {row_of(call.outcome).error_code for call in calls} == {ErrorCode.KAFKA_STORAGE_ERROR}
        disk.error = 0

    lean(tmp_path, scenario, files=disk)


def test_waiting_for_replicas_in_vain(tmp_path: Path) -> None:
    """The high watermark stands still, perhaps for hours: what timed out does not wait with it."""

    async def scenario(bench: Bench, watch: Watch) -> None:
        topic_id = bench.create(leader=2)
        bench.move_leader(topic_id, 1)
        body = request(GOOD)
        body.timeout_ms = 1
        await watch.refused(ErrorCode.REQUEST_TIMED_OUT, body)
        assert not bench.replicas.partition("orders", 0)._commit_waiters

    lean(tmp_path, scenario)


def test_a_leader_that_is_deposed(tmp_path: Path) -> None:
    async def scenario(bench: Bench, watch: Watch) -> None:
        topic_id = bench.create(leader=2)
        bench.move_leader(topic_id, 1)
        calls = [watch.begin(request(GOOD)) for _ in range(3)]
        partition = bench.replicas.partition("orders", 0)
        await bench.until(lambda: partition.flushed_end_offset == 3)
        bench.move_leader(topic_id, 2)
        assert {row_of(call.outcome).error_code for call in calls} == {ErrorCode.NOT_LEADER_OR_FOLLOWER}

    lean(tmp_path, scenario)


def test_a_topic_that_is_deleted(tmp_path: Path) -> None:
    async def scenario(bench: Bench, watch: Watch) -> None:
        bench.delete(bench.create())
        await watch.refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, request(GOOD))

    lean(tmp_path, scenario)
