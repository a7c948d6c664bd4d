"""Kafka's DumpLogSegments reads every kind of file that a log writes, records included."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from broadsheet_broker.log import COORDINATOR, Log, LogConfig
from broadsheet_broker.log.cleaner import Cleaning
from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.steps import run_now
from broadsheet_broker.wire.records import CONTROL_ABORT, build_batch, build_control_batch
from e2e.apache.apache import run_tool

TOOL = "org.apache.kafka.tools.DumpLogSegments"
NOW_MS = 1_700_000_000_000
CONFIG = LogConfig(segment_bytes=4_000, index_interval_bytes=500)


def dump(path: Path | str, *arguments: str) -> str:
    done = run_tool(TOOL, "--files", str(path), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Exception" not in done.stdout + done.stderr, done.stdout + done.stderr
    for complaint in ("Mismatches", "Found ", "not found in log", "out of order", "Non-consecutive", "isvalid: false"):
        assert complaint not in done.stdout, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def environment() -> Iterator[Environment]:
    loop = asyncio.new_event_loop()
    yield Environment(loop)
    loop.close()


@pytest.fixture(scope="module")
def log(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A closed log of several segments: every codec, idempotent and transactional producers, an aborted transaction."""
    directory = tmp_path_factory.mktemp("logs") / "orders-0"
    log = Log.open(environment, str(directory), config=CONFIG)
    number = 0
    for sequence in range(60):
        rows = []
        for _ in range(5):
            value = f"value {number} {'x' * 40}".encode()
            rows.append((NOW_MS + number, f"key-{number % 7}".encode(), value, [("number", str(number).encode())]))
            number += 1
        batch = build_batch(rows, compression=sequence % 5, producer_id=7, producer_epoch=0, base_sequence=sequence * 5)
        log.append_as_leader(memoryview(batch), sequence // 25, NOW_MS)
        if sequence % 3 == 0:
            log.flush_appends()
    transactional = build_batch(
        [(NOW_MS, b"k", b"aborted", [])], producer_id=8, producer_epoch=0, base_sequence=0, transactional=True
    )
    log.append_as_leader(memoryview(transactional), 2, NOW_MS)
    marker = build_control_batch(
        CONTROL_ABORT, struct.pack(">hi", 0, 0), timestamp=NOW_MS, producer_id=8, producer_epoch=0, transactional=True
    )
    log.append_as_leader(memoryview(marker), 2, NOW_MS, origin=COORDINATOR)
    log.close()
    return log


def test_every_record_of_every_segment(log: Log) -> None:
    assert len(log.segments) > 2
    offsets: list[int] = []
    codecs: set[str] = set()
    for segment in log.segments:
        printed = dump(segment.path, "--deep-iteration", "--print-data-log")
        offsets += [int(found) for found in re.findall(r"^\| offset: (\d+)", printed, re.MULTILINE)]
        codecs |= set(re.findall(r"compresscodec: (\w+)", printed))
        assert "payload: value" in printed
    assert offsets == list(range(log.log_end_offset))
    assert codecs == {"none", "gzip", "snappy", "lz4", "zstd"}


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_indexes_agree_with_their_segment(log: Log, suffix: str) -> None:
    for segment in log.segments:
        printed = dump(segment.stem + suffix)
        assert ("offset: " in printed) == (len(segment.offsets if suffix == ".index" else segment.times) > 0)
        dump(segment.stem + suffix, "--verify-index-only")
        if suffix == ".index":
            assert "passed sanity check" in dump(segment.stem + suffix, "--index-sanity-check")


def test_producer_snapshots(log: Log) -> None:
    assert len(log.snapshots) == len(log.segments)
    printed = dump(f"{log.directory}/{log.log_end_offset:020d}.snapshot")
    assert "producerId: 7 producerEpoch: 0" in printed
    assert "lastSequence=299" in printed.replace("lastSequence: ", "lastSequence=") or "299" in printed
    assert "producerId: 8" in printed


def test_the_transaction_index(log: Log) -> None:
    printed = dump(log.segments[-1].stem + ".txnindex")
    assert "producerId: 8 firstOffset: 300 lastOffset: 301 lastStableOffset: 302" in printed


def test_a_compacted_log(environment: Environment, tmp_path: Path) -> None:
    log = Log.open(environment, str(tmp_path / "orders-0"), config=CONFIG)
    for number in range(200):
        value = None if number % 10 == 9 else b"x" * 100
        rows = [(NOW_MS + number, f"key-{number % 10}".encode(), value, []), (NOW_MS + number, b"always", b"y", [])]
        log.append_as_leader(memoryview(build_batch(rows, compression=number % 5)), 0, NOW_MS)
        log.flush_appends()
    run_now(Cleaning(log.segments, 0, log.segments[-1].base_offset, NOW_MS, 2**20).clean())
    log.close()
    assert log.segments[0].size == 0  # all of its keys were written again later
    last = log.segments[-2]
    printed = dump(last.path, "--deep-iteration", "--print-data-log")
    assert "deleteHorizonMs: OptionalLong[" in printed
    assert 0 < len(re.findall(r"^\| offset: (\d+)", printed, re.MULTILINE)) <= 11
    for suffix in (".index", ".timeindex"):
        dump(last.stem + suffix)
