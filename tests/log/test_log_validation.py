"""Batches whose header is in order and whose records may not be: what Apache Kafka 4.3's LogValidator answers."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import pytest

from broadsheet_broker.log import LogConfig
from broadsheet_broker.log.appending import checking
from broadsheet_broker.log.errors import RecordValidationError
from broadsheet_broker.seams.steps import Room, run_now
from broadsheet_broker.wire import compression
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import (
    build_batch,
    decode_records,
    encode_record,
    frame_batch,
    parse_batch,
    seal_batch,
)
from tests.log.support import NOW_MS, append, open_log, records_of
from tests.support.memory_environment import memory_environment

DAY = 24 * 3600 * 1000
COMPACT = LogConfig(cleanup_policy=frozenset({"compact"}))


def payload(*rows: tuple[int, bytes | None], first: int = 0) -> bytes:
    """Records with (timestamp less NOW_MS, key)."""
    output = bytearray()
    for offset, (delta, key) in enumerate(rows, first):
        encode_record(output, delta, offset, key, b"v", ())
    return bytes(output)


def framed(body: bytes, count: int, **fields: Any) -> memoryview:
    values = {
        "base_offset": 0,
        "leader_epoch": -1,
        "attributes": 0,
        "last_offset_delta": count - 1,
        "base_timestamp": NOW_MS,
        "max_timestamp": NOW_MS,
        "producer_id": -1,
        "producer_epoch": -1,
        "base_sequence": -1,
        "record_count": count,
        **fields,
    }
    return memoryview(frame_batch(body, **values))


THREE = payload((0, b"a"), (0, b"b"), (0, b"c"))
UNKNOWN, INVALID, TIMESTAMP = ErrorCode.UNKNOWN_SERVER_ERROR, ErrorCode.INVALID_RECORD, ErrorCode.INVALID_TIMESTAMP


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        (framed(THREE, 3), None),
        (framed(b"this is no gzip stream at all", 3, attributes=1), UNKNOWN),
        (framed(b"\xff" * 40, 3, attributes=2), UNKNOWN),
        (framed(compression.compress(3, payload(*[(0, b"k")] * 200))[:-30], 200, attributes=3), UNKNOWN),
        (framed(b"this is no zstd stream at all", 3, attributes=4), UNKNOWN),
        (framed(THREE, 3, attributes=5), UNKNOWN),
        (framed(THREE, 3, attributes=7), UNKNOWN),
        (framed(b"\x99" * 50, 3), UNKNOWN),
        (framed(gzip.compress(b"\x99" * 50), 3, attributes=1), INVALID),
        (framed(payload((0, b"a"), (0, b"b")), 3), INVALID),
        (framed(payload(*[(0, b"a")] * 4), 3), INVALID),
        (framed(gzip.compress(payload((0, b"a"), (0, b"b"))), 3, attributes=1), INVALID),
        (framed(gzip.compress(payload(*[(0, b"a")] * 4)), 3, attributes=1), INVALID),
        (framed(b"\x12\0\0\0\x01\x01\x02\x01\x02x", 1), INVALID),  # a header with a null key
        (framed(payload((0, b"a"), (3 * DAY, b"b")), 2), TIMESTAMP),
        (framed(payload((-30 * DAY, b"a"), (0, b"b")), 2), None),
        (framed(THREE, 3, attributes=0x40), None),
        (framed(THREE, 3, attributes=0x80), None),
        (framed(THREE, 3, attributes=0x08), None),
        (framed(THREE, 3, attributes=0x08, max_timestamp=-1), TIMESTAMP),
        (framed(b"", 0), INVALID),
        (framed(THREE, 3, last_offset_delta=5), INVALID),
    ],
)
def test_what_kafka_answers(batch: memoryview, code: ErrorCode | None) -> None:
    log = open_log(memory_environment())
    if code is None:
        append(log, batch)
        assert len(records_of(log)) == log.log_end_offset > 0
        return
    with pytest.raises(KafkaError) as refusal:
        append(log, batch)
    assert refusal.value.code == code
    assert log.log_end_offset == 0


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("claimed", [-1, 0, NOW_MS - DAY, NOW_MS + DAY])
@pytest.mark.parametrize("readonly", [False, True])
def test_the_largest_timestamp_comes_from_the_records(codec: int, claimed: int, readonly: bool) -> None:
    """Sarama before its version 1.45 leaves it at -1."""
    body = compression.compress(codec, payload((-5000, b"a"), (-1000, b"b"), (-3000, b"c")))
    batch = framed(body, 3, attributes=codec, max_timestamp=claimed)
    log = open_log(memory_environment())
    info = append(log, batch.toreadonly() if readonly else batch)
    assert info.max_timestamp == NOW_MS - 1000
    stored = log.read(0, 10_000).data
    header = parse_batch(stored)
    assert header.max_timestamp == NOW_MS - 1000
    assert header.compression == codec
    copy = bytearray(stored)
    seal_batch(copy)
    assert copy == stored, "the CRC is right"
    found = run_now(log.max_timestamp())
    assert found is not None
    assert found[:2] == (NOW_MS - 1000, 1)
    found = run_now(log.offset_for_timestamp(NOW_MS - 4000))
    assert found is not None
    assert found[1] == 1


def test_a_right_header_is_not_sealed_again() -> None:
    batch = framed(THREE, 3)
    before = bytes(batch)
    append(open_log(memory_environment()), batch)
    assert bytes(batch[16:]) == before[16:]


def test_a_record_a_year_ahead_without_max_timestamp_is_refused() -> None:
    log = open_log(memory_environment())
    with pytest.raises(KafkaError) as refusal:
        append(log, framed(payload((365 * DAY, b"k")), 1, max_timestamp=-1))
    assert refusal.value.code == TIMESTAMP


def test_each_record_outside_the_bounds_is_named() -> None:
    log = open_log(memory_environment(), config=LogConfig(timestamp_before_max_ms=DAY))
    rows = payload((-10 * DAY, b"a"), (0, b"b"), (2 * DAY, b"c"))
    for codec in (0, 1):
        with pytest.raises(RecordValidationError) as refusal:
            append(log, framed(compression.compress(codec, rows), 3, attributes=codec))
        assert refusal.value.code == TIMESTAMP
        assert [index for index, _ in refusal.value.record_errors] == [0, 2]
        assert "within" in refusal.value.record_errors[0][1]


def test_a_missing_key_and_a_wrong_timestamp_together_are_a_wrong_timestamp() -> None:
    log = open_log(memory_environment(), config=COMPACT)
    with pytest.raises(RecordValidationError) as refusal:
        append(log, framed(payload((2 * DAY, None), (2 * DAY, b"k"), (0, b"k")), 3))
    assert refusal.value.code == TIMESTAMP
    assert [index for index, _ in refusal.value.record_errors] == [0, 1]


def test_log_append_time_asks_no_record_for_its_time() -> None:
    log = open_log(memory_environment(), config=LogConfig(log_append_time=True))
    info = append(log, framed(payload((365 * DAY, b"k")), 1, max_timestamp=-1))
    assert (info.log_append_time, info.max_timestamp) == (NOW_MS, NOW_MS)
    assert [record.timestamp for record in records_of(log)] == [NOW_MS]


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("wanted", [-1, 0, 3, 4])
def test_offsets_that_do_not_count_up_are_written_anew(codec: int, wanted: int) -> None:
    """Kafka does so for compressed batches; uncompressed ones it stores, and readers then run beyond the log's end."""
    log = open_log(memory_environment(), config=LogConfig(compression=wanted))
    rows = bytearray()
    for offset in (5, 7, 300):
        encode_record(rows, offset, offset, b"k%d" % offset, b"v", [("h", b"x")])
    append(log, framed(compression.compress(codec, rows), 3, attributes=codec, max_timestamp=-1))
    assert [(record.offset, record.key, record.timestamp) for record in records_of(log)] == [
        (0, b"k5", NOW_MS + 5),
        (1, b"k7", NOW_MS + 7),
        (2, b"k300", NOW_MS + 300),
    ]
    header = parse_batch(log.read(0, 10_000).data)
    assert header.compression == (codec if wanted == -1 else wanted)
    assert header.max_timestamp == NOW_MS + 300


def dense(count: int, codec: int = 4) -> memoryview:
    return memoryview(
        build_batch(
            [(NOW_MS + index % 7, b"%d" % (index % 1000), b"v", ()) for index in range(count)], compression=codec
        )
    )


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("wanted", [-1, 1])
def test_a_dense_batch_is_checked_in_steps(codec: int, wanted: int) -> None:
    batch = dense(50_000, codec)
    log = open_log(memory_environment(), config=LogConfig(compression=wanted))
    work = checking(log.segments, batch, NOW_MS)
    assert work is not None
    steps = 0
    while True:
        try:
            assert next(work) is None
        except StopIteration as stop:
            checked = stop.value
            break
        steps += 1
    assert steps >= 12
    info = log.append_as_leader(batch, 0, NOW_MS, checked=checked)
    log.flush_appends()
    assert (info.last_offset, info.max_timestamp) == (49_999, NOW_MS + 6)
    assert len(decode_records(log.read(0, 10_000_000).data)) == 50_000


def test_a_small_batch_is_checked_without_steps() -> None:
    log = open_log(memory_environment())
    assert checking(log.segments, framed(THREE, 3), NOW_MS) is None
    work = checking(log.segments, dense(4000, 4), NOW_MS)
    assert work is not None
    with pytest.raises(StopIteration):
        next(work)


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_hundred_megabytes_of_zeros_are_checked_in_steps_and_within_room(codec: int) -> None:
    rows = bytearray()
    for offset in range(100):
        encode_record(rows, 0, offset, b"k", bytes(1024 * 1024), ())
    batch = framed(compression.compress(codec, rows), 100, attributes=codec)
    log = open_log(memory_environment(), config=LogConfig(max_message_bytes=10_000_000))
    work = checking(log.segments, batch, NOW_MS)
    assert work is not None
    steps, rooms = 0, []
    while True:
        try:
            room = next(work)
        except StopIteration:
            break
        steps += 1
        if room is not None:
            rooms.append(room.size)
            if room.run is not None:
                room.run()
    assert steps >= 90
    assert max(rooms, default=0) <= 260 * 1024 * 1024


def test_what_decompresses_to_more_than_room_is_refused() -> None:
    rows = bytearray()
    encode_record(rows, 0, 0, b"k", bytes(129 * 1024 * 1024), ())
    for codec in (1, 3, 4):
        log = open_log(memory_environment())
        with pytest.raises(KafkaError) as refusal:
            append(log, framed(compression.compress(codec, rows), 1, attributes=codec))
        assert refusal.value.code == UNKNOWN
        assert "at once" in refusal.value.message


def test_more_small_records_than_memory_holds_are_taken() -> None:
    """Kafka takes a batch whatever it decompresses to."""
    rows = bytearray()
    for offset in range(150):
        encode_record(rows, 0, offset, b"k", bytes(1024 * 1024), ())
    log = open_log(memory_environment())
    append(log, framed(compression.compress(1, rows), 150, attributes=1))
    assert log.log_end_offset == 150


def test_a_damaged_large_batch_is_corrupt_whatever_its_records_are() -> None:
    log = open_log(memory_environment())
    batch = dense(10_000)
    batch[100] ^= 1
    with pytest.raises(KafkaError) as refusal:
        append(log, batch)
    assert refusal.value.code == ErrorCode.CORRUPT_MESSAGE


def test_an_uncompressed_topic_of_a_bomb_stops_at_max_message_bytes() -> None:
    """Recompression with codec none must not build what it cannot store."""
    rows = bytearray()
    for offset in range(100):
        encode_record(rows, 0, offset, b"k", bytes(1024 * 1024), ())
    log = open_log(memory_environment(), config=LogConfig(compression=0))
    batch = framed(compression.compress(1, rows), 100, attributes=1)
    work = checking(log.segments, batch, NOW_MS)
    assert work is not None
    steps = 0
    with pytest.raises(KafkaError) as refusal:
        while True:
            room = next(work)
            steps += 1
            if isinstance(room, Room) and room.run is not None:
                room.run()
    assert refusal.value.code == ErrorCode.MESSAGE_TOO_LARGE
    assert steps < 20


def test_run_now_returns_what_the_steps_return() -> None:
    work = checking(open_log(memory_environment()).segments, dense(9000), NOW_MS)
    assert work is not None
    assert struct.unpack_from(">i", run_now(work).batch, 57) == (9000,)
