"""Directories that Apache Kafka 4.3.0 wrote, after a clean stop and after kill -9 (fixtures/README.md)."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path

import pytest

from broadsheet_broker.log import Log, LogConfig, LogManager
from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.steps import run_now
from broadsheet_broker.wire.records import Record, iterate_batches
from tests.log.support import records_of
from tests.support.virtual_time import HandClock

FIXTURES = Path(__file__).parent / "fixtures"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FIRST_TIMESTAMP = 1_700_000_000_000


@pytest.fixture(params=["clean", "killed"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / f"kafka-4.3.0-{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / str(request.param)


def open_all(directory: Path) -> dict[str, Log]:
    async def start() -> dict[str, Log]:
        environment = Environment(asyncio.get_running_loop(), clock=HandClock(FIRST_TIMESTAMP))
        config = LogConfig(index_interval_bytes=200)
        manager = LogManager(environment, [str(directory)], config_for=lambda topic: config)
        await manager.start()
        logs = {log.topic: log for log in manager}
        assert manager.previous_broker_epoch > 0 or directory.name == "killed"
        assert manager.directory_id(str(directory)) is not None
        await manager.close(clean=False)
        return logs

    return asyncio.run(start())


def test_every_record_of_every_codec_is_read(directory: Path) -> None:
    log = open_all(directory)["plain"]
    records = records_of(log)
    assert [record.offset for record in records] == list(range(115))
    assert [record.timestamp for record in records] == [FIRST_TIMESTAMP + number for number in range(115)]
    for number, record in enumerate(records):
        codec = CODECS[number // 23]
        assert record.value is not None
        assert record.value.startswith(f"{codec} ".encode())
        if number % 23 < 20:
            assert record.headers == [("number", str(number).encode())]
            assert record.key == f"key-{number % 3}".encode()
    used = {header.compression for header, _ in iterate_batches(log.read(0, 10**6).data)}
    assert used == {0, 1, 2, 3, 4}


def test_its_indexes_are_used(directory: Path) -> None:
    log = open_all(directory)["plain"]
    for offset in range(115):
        first: Record = records_of(log, offset)[0]
        assert first.offset == offset
        found = run_now(log.offset_for_timestamp(FIRST_TIMESTAMP + offset))
        assert found is not None
        assert found[:2] == (FIRST_TIMESTAMP + offset, offset)
    segment = log.segments[0]
    assert len(segment.offsets) >= 5
    assert segment.offsets.last is not None
    assert segment.offsets.last[0] < 115


def test_the_producers_and_epochs_are_known(directory: Path) -> None:
    log = open_all(directory)["plain"]
    assert log.topic_id is not None
    assert len(log.producers.producers) == 2
    assert sorted(entry.last_sequence for entry in log.producers.producers.values()) == [22, 22]
    assert log.latest_epoch >= 0
    assert log.end_offset_for_epoch(log.latest_epoch) == (log.latest_epoch, 115)


def test_a_compacted_log_is_read(directory: Path) -> None:
    log = open_all(directory)["compacted"]
    state = {record.key: record.value for record in records_of(log)}
    assert state == {
        b"key-0": b"round 11 key 0",
        b"key-1": b"round 11 key 1",
        b"key-2": b"round 11 key 2",
        b"key-3": b"round 11 key 3",
        b"last": b"one",
    }
    assert log.log_end_offset == 49
    assert len(log.producers.producers) == 12
    assert not list(directory.glob("compacted-0/*.deleted"))


def test_aborted_transactions_are_known(directory: Path) -> None:
    log = open_all(directory)["transactional"]
    (aborted,) = log.aborted_transactions(0, 100)
    assert (aborted.first_offset, aborted.last_offset) == (4, 7)
    assert log.last_stable_offset(12) == 12
    assert log.log_end_offset == 12
