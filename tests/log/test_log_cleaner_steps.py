"""Compaction of batches that are dense, or cannot be read: how much one step does, and what stays."""

from __future__ import annotations

import logging
import struct

import pytest

from broadsheet_broker.log import RAFT, Log, LogConfig
from broadsheet_broker.log.cleaner import Cleaning
from broadsheet_broker.seams.steps import run_now
from broadsheet_broker.wire.compression import compress
from broadsheet_broker.wire.record_rows import STEP_ROWS
from broadsheet_broker.wire.records import (
    Record,
    build_batch,
    check_batch,
    decode_records,
    encode_record,
    frame_batch,
    iterate_batches,
    seal_batch,
)
from tests.log.support import NOW_MS, append, keyed, open_log, records_of
from tests.support.memory_environment import memory_environment

COMPACT = LogConfig(
    cleanup_policy=frozenset(("compact",)),
    index_interval_bytes=0,
    delete_retention_ms=1000,
    max_message_bytes=20_000_000,
)


def dense(count: int, keys: int, codec: int = 4) -> memoryview:
    rows = [(NOW_MS + number, b"%d" % (number % keys), b"v", ()) for number in range(count)]
    return memoryview(build_batch(rows, compression=codec))


def log_with(*batches: memoryview, origin: str = "client") -> Log:
    log = open_log(memory_environment(), config=COMPACT)
    for batch in batches:
        append(log, batch, origin=origin)
    log.roll(NOW_MS)
    append(log, keyed(("end", "1")))
    return log


def cleaning_of(log: Log, map_bytes: int = 2**24) -> Cleaning:
    return Cleaning(log.segments, 0, log.segments[-1].base_offset, NOW_MS, map_bytes)


@pytest.mark.parametrize("codec", range(5))
def test_a_dense_batch_is_compacted_in_steps_of_some_thousand_records(codec: int) -> None:
    log = log_with(dense(50_000, 1000, codec))
    cleaning = cleaning_of(log)
    steps = 0
    for room in cleaning.clean():
        steps += 1
        if room is not None and room.run is not None:
            room.run()
    assert steps >= 50, "the map, what stays, and the copy"
    kept = [record for record in records_of(log) if record.key != b"end"]
    assert [record.offset for record in kept] == list(range(49_000, 50_000))
    header, batch = next(iterate_batches(log.read(0, 10_000_000).data))
    check_batch(header, batch)
    assert (header.record_count, header.last_offset_delta, header.max_timestamp) == (1000, 49_999, NOW_MS + 49_999)
    assert header.compression == codec


def test_small_batches_share_a_step_and_many_of_them_take_several() -> None:
    log = log_with(*(keyed((f"{number % 5}", "v")) for number in range(3000)))
    steps = list(cleaning_of(log).clean())
    assert 2 * 3000 * 11 // STEP_ROWS - 3 <= len(steps) <= 2 * 3000 * 11 // STEP_ROWS + 3


def test_the_map_takes_no_more_than_its_bytes_from_one_dense_batch() -> None:
    log = log_with(keyed(("0", "old"), ("1", "old"), ("49999", "old")), dense(50_000, 50_000))
    before = records_of(log)
    cleaning = cleaning_of(log, map_bytes=10_000 * 150)
    run_now(cleaning.clean())
    assert len(cleaning.map) <= 10_000 + STEP_ROWS
    assert cleaning.map.end_offset == 3, "the dense batch is tried again with a larger map"
    gone = {record.offset for record in before} - {record.offset for record in records_of(log)}
    assert gone == {0, 1}, "what the map knows is true"


def test_tombstones_of_a_compressed_batch_get_a_horizon_and_keep_their_times() -> None:
    rows = [(NOW_MS - 5, b"a", b"1", ()), (NOW_MS + 7, b"b", None, [("h", b"x")]), (NOW_MS + 3, b"c", b"3", ())]
    log = log_with(memoryview(build_batch(rows, compression=4)), keyed(("a", "2")))
    run_now(cleaning_of(log).clean())
    first = next(iterate_batches(log.read(0, 10_000).data))
    check_batch(*first)
    assert (first[0].base_timestamp, first[0].max_timestamp) == (NOW_MS + 1000, NOW_MS + 7)
    assert records_of(log)[:3] == [
        Record(1, NOW_MS + 7, b"b", None, [("h", b"x")]),
        Record(2, NOW_MS + 3, b"c", b"3", []),
        Record(3, NOW_MS, b"a", b"2", []),
    ]


def unreadable(kind: str) -> memoryview:
    """A batch that an earlier version took: its header is in order."""
    payload = bytearray()
    for offset in range(3):
        encode_record(payload, 0, offset, b"a", b"hidden", ())
    codec, count = 0, 3
    body = bytes(payload)
    if kind == "garbage":
        codec, body = 1, b"this is no gzip stream at all"
    elif kind == "codec":
        codec = 5
    elif kind == "fewer":
        count = 4
    elif kind == "more":
        count = 2
    elif kind == "bomb":
        codec, body = 4, compress(4, bytes(200 * 1024 * 1024))
    return memoryview(
        frame_batch(
            body,
            base_offset=0,
            leader_epoch=0,
            attributes=codec,
            last_offset_delta=count - 1,
            base_timestamp=NOW_MS,
            max_timestamp=NOW_MS,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            record_count=count,
        )
    )


@pytest.mark.parametrize("kind", ["garbage", "codec", "fewer", "more", "bomb"])
def test_a_batch_that_cannot_be_read_stays_and_stops_nothing(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Apache Kafka leaves the whole partition uncompacted until the next start."""
    poison = unreadable(kind)
    log = open_log(memory_environment(), config=COMPACT)
    append(log, keyed(("a", "1"), ("b", "1")))
    append(log, poison, origin=RAFT)  # no record of it is checked
    append(log, keyed(("a", "2"), ("c", "1")))
    log.roll(NOW_MS)
    append(log, keyed(("end", "1")))
    cleaning = cleaning_of(log)
    with caplog.at_level(logging.WARNING):
        run_now(cleaning.clean())
    assert "cannot be read" in caplog.text
    assert len(caplog.records) == 1, "once for both passes"
    assert cleaning.map.end_offset == log.segments[-1].base_offset
    parts = [bytes(part) for _, part in iterate_batches(log.read(0, 10_000_000).data)]
    assert bytes(poison[16:]) in [part[16:] for part in parts]
    kept = [(record.key, record.value) for part in parts if part[16:] != poison[16:] for record in decode_records(part)]
    assert kept == [(b"b", b"1"), (b"a", b"2"), (b"c", b"1")]


def test_records_without_a_key_are_compacted_away() -> None:
    """They come from a time before the topic was compacted."""
    log = open_log(memory_environment(), config=COMPACT)
    append(log, memoryview(build_batch([(NOW_MS, None, b"v", ()), (NOW_MS, b"k", b"v", ())])), origin=RAFT)
    log.roll(NOW_MS)
    append(log, keyed(("end", "1")))
    run_now(cleaning_of(log).clean())
    assert [record.key for record in records_of(log)] == [b"k", b"end"]


def test_the_seal_is_right() -> None:
    batch = bytearray(unreadable("more"))
    before = struct.unpack_from(">I", batch, 17)
    seal_batch(batch)
    assert struct.unpack_from(">I", batch, 17) == before
