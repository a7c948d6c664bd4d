"""Appending and reading one partition's log."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.log import COORDINATOR, LogConfig, RecordValidationError, StorageError
from broadsheet_broker.seams.steps import run_now
from broadsheet_broker.wire import compression
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import (
    CorruptRecordError,
    build_batch,
    check_batch,
    decode_records,
    iterate_batches,
    parse_batch,
)
from tests.log.support import DIRECTORY, NOW_MS, append, batch, open_log, records_of, values_of
from tests.support.memory_environment import memory_environment


def test_offsets_count_up_and_readers_get_what_was_appended() -> None:
    log = open_log(memory_environment())
    first = append(log, batch("a", "b"))
    second = append(log, batch("c"), epoch=3)
    assert (first.first_offset, first.last_offset, second.first_offset) == (0, 1, 2)
    assert values_of(log) == [(0, "a"), (1, "b"), (2, "c")]
    assert log.log_end_offset == 3
    headers = [header for header, _ in iterate_batches(log.read(0, 10_000).data)]
    assert [header.partition_leader_epoch for header in headers] == [0, 3]


def test_a_read_in_the_middle_of_a_batch_returns_the_whole_batch() -> None:
    log = open_log(memory_environment())
    append(log, batch("a", "b", "c"))
    fetched = log.read(1, 10_000)
    assert parse_batch(fetched.data).base_offset == 0
    assert fetched.next_offset == 3


def test_a_first_batch_larger_than_the_limit_is_returned_whole_only_when_one_is_asked_for() -> None:
    log = open_log(memory_environment())
    append(log, batch("a" * 1000))
    append(log, batch("b" * 1000))
    assert log.read(0, 10, min_one=False).data == b""
    fetched = log.read(0, 10)
    assert fetched.next_offset == 1
    assert len(fetched.data) == parse_batch(fetched.data).size


def test_reads_end_at_whole_batches_and_below_the_limit_offset() -> None:
    log = open_log(memory_environment())
    for value in "abcdef":
        append(log, batch(value * 100))
    size = parse_batch(log.read(0, 1).data).size
    fetched = log.read(0, 3 * size + 17)
    assert (len(fetched.data), fetched.next_offset) == (3 * size, 3)
    limited = log.read(1, 10_000, limit_offset=4)
    assert (len(limited.data), limited.next_offset) == (3 * size, 4)
    assert log.read(4, 10_000, limit_offset=4).data == b""


def test_reading_outside_of_the_log_is_out_of_range() -> None:
    log = open_log(memory_environment())
    append(log, batch("a"))
    assert log.read(1, 100).data == b""
    for offset in (-1, 2):
        with pytest.raises(KafkaError) as error:
            log.read(offset, 100)
        assert error.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_appends_of_one_turn_are_written_with_one_call_and_seen_by_readers_before() -> None:
    environment = memory_environment()
    log = open_log(environment)
    writes: list[str] = []
    environment.files.fault = lambda operation, path: writes.append(path) if operation == "append" else None
    for value in "abc":
        log.append_as_leader(batch(value), 0, NOW_MS)
    assert writes == []
    log.flush_appends()
    assert writes == [f"{DIRECTORY}/{0:020d}.log"]
    log.append_as_leader(batch("d"), 0, NOW_MS)
    assert values_of(log)[-1] == (3, "d")


def test_read_only_buffers_are_not_changed() -> None:
    log = open_log(memory_environment())
    original = bytes(batch("a"))
    append(log, batch("x"))
    append(log, memoryview(original), epoch=7)
    assert parse_batch(original).base_offset == 0
    assert values_of(log) == [(0, "x"), (1, "a")]
    assert parse_batch(log.read(1, 1000).data).partition_leader_epoch == 7


@pytest.mark.parametrize("position", [16, 17, 21, 40, 61, 70])
def test_a_flipped_bit_is_refused(position: int) -> None:
    log = open_log(memory_environment())
    damaged = batch("some value")
    damaged[position] ^= 4
    with pytest.raises(CorruptRecordError):
        log.append_as_leader(damaged, 0, NOW_MS)
    assert log.log_end_offset == 0


@pytest.mark.parametrize("size", [0, 1, 12, 60])
def test_fragments_are_refused(size: int) -> None:
    log = open_log(memory_environment())
    with pytest.raises(CorruptRecordError):
        log.append_as_leader(batch("a")[:size], 0, NOW_MS)


def refused(log_config: LogConfig, records: memoryview, origin: str = "client") -> KafkaError:
    log = open_log(memory_environment(), config=log_config)
    with pytest.raises(KafkaError) as error:
        log.append_as_leader(records, 0, NOW_MS, origin=origin)
    assert log.log_end_offset == 0
    return error.value


def test_what_a_client_may_not_send() -> None:
    plain = LogConfig()
    assert refused(plain, batch("a", base_offset=1)).code == ErrorCode.INVALID_RECORD
    assert refused(plain, batch("a", control=True)).code == ErrorCode.INVALID_RECORD
    stamped = LogConfig(log_append_time=True)
    assert refused(stamped, batch("a", timestamp_type="append")).code == ErrorCode.INVALID_TIMESTAMP
    timeless = batch("a", timestamp_type="append", timestamp=-1)
    assert refused(plain, timeless).code == ErrorCode.INVALID_TIMESTAMP
    assert refused(plain, batch("a", producer_id=1, producer_epoch=0)).code == ErrorCode.INVALID_RECORD
    assert refused(plain, batch("a", timestamp=NOW_MS + 3_700_000)).code == ErrorCode.INVALID_TIMESTAMP
    before = LogConfig(timestamp_before_max_ms=1000)
    assert refused(before, batch("a", timestamp=NOW_MS - 2000)).code == ErrorCode.INVALID_TIMESTAMP
    assert refused(LogConfig(max_message_bytes=100), batch("a" * 100)).code == ErrorCode.MESSAGE_TOO_LARGE
    assert refused(LogConfig(segment_bytes=100), batch("a" * 100)).code == ErrorCode.RECORD_LIST_TOO_LARGE
    two = memoryview(bytearray(bytes(batch("a")) + bytes(batch("b"))))
    assert refused(plain, two).code == ErrorCode.INVALID_RECORD


def test_coordinators_append_several_batches() -> None:
    log = open_log(memory_environment())
    two = memoryview(bytearray(bytes(batch("a", "b")) + bytes(batch("c"))))
    info = append(log, two, origin=COORDINATOR)
    assert (info.first_offset, info.last_offset) == (0, 2)
    assert values_of(log) == [(0, "a"), (1, "b"), (2, "c")]


@pytest.mark.parametrize("codec", range(5))
def test_compacted_topics_refuse_records_without_a_key_and_name_them(codec: int) -> None:
    rows = [(NOW_MS, b"k", b"1", []), (NOW_MS, None, b"2", []), (NOW_MS, b"", b"3", [])]
    error = refused(LogConfig(cleanup_policy=frozenset(("compact",))), memoryview(build_batch(rows, compression=codec)))
    assert isinstance(error, RecordValidationError)
    assert error.code == ErrorCode.INVALID_RECORD
    assert [index for index, _ in error.record_errors] == [1]


@pytest.mark.parametrize("codec", range(5))
def test_compressed_batches_pass_through_untouched(codec: int) -> None:
    log = open_log(memory_environment())
    sent = batch("value " * 50, compression=codec)
    payload = bytes(sent[21:])
    append(log, sent)
    assert log.read(0, 10_000).data[21:] == payload


@pytest.mark.parametrize("wanted", range(5))
@pytest.mark.parametrize("sent", range(5))
def test_batches_are_recompressed_where_the_topic_asks_for_another_codec(sent: int, wanted: int) -> None:
    log = open_log(memory_environment(), config=LogConfig(compression=wanted))
    append(log, batch("x"))
    append(log, batch("value " * 50, "b", compression=sent, producer_id=5, producer_epoch=1, base_sequence=0))
    data = log.read(1, 10_000).data
    header = parse_batch(data)
    check_batch(header, data)
    assert header.compression == wanted
    assert (header.producer_id, header.base_sequence, header.base_offset) == (5, 0, 1)
    assert [record.value for record in decode_records(data)] == [b"value " * 50, b"b"]


def test_a_client_does_not_choose_the_type_of_its_timestamps() -> None:
    """As Kafka does, the batch is taken and becomes one with the time of its creation, as its topic has it."""
    log = open_log(memory_environment())
    append(log, batch("a", "b", timestamp=NOW_MS - 5, timestamp_type="append"))
    data = log.read(0, 1000).data
    check_batch(parse_batch(data), data)
    assert not parse_batch(data).is_log_append_time
    assert [(record.timestamp, record.value) for record in records_of(log)] == [(NOW_MS - 5, b"a"), (NOW_MS - 5, b"b")]


def test_log_append_time_replaces_the_timestamps_and_keeps_the_crc_right() -> None:
    log = open_log(memory_environment(), config=LogConfig(log_append_time=True))
    info = append(log, batch("a", "b", timestamp=5), now_ms=NOW_MS + 9)
    assert info.log_append_time == NOW_MS + 9
    data = log.read(0, 1000).data
    check_batch(parse_batch(data), data)
    assert parse_batch(data).is_log_append_time
    assert {record.timestamp for record in records_of(log)} == {NOW_MS + 9}


def test_segments_roll_by_size_and_reads_cross_them() -> None:
    environment = memory_environment()
    log = open_log(environment, config=LogConfig(segment_bytes=500))
    for number in range(20):
        append(log, batch(f"{number}" * 50))
    assert len(log.segments) > 3
    assert [offset for offset, _ in values_of(log)] == list(range(20))
    assert f"{log.segments[1].base_offset:020d}.log" in environment.files.list(DIRECTORY)
    assert f"{log.segments[1].base_offset:020d}.snapshot" in environment.files.list(DIRECTORY)


def test_segments_roll_by_record_time_and_by_the_clock() -> None:
    log = open_log(memory_environment(), config=LogConfig(segment_ms=1000))
    append(log, batch("a", timestamp=NOW_MS))
    append(log, batch("b", timestamp=NOW_MS + 900))
    assert len(log.segments) == 1
    append(log, batch("c", timestamp=NOW_MS + 1100))
    assert [segment.base_offset for segment in log.segments] == [0, 2]
    assert not log.roll_if_needed(NOW_MS + 500)
    assert log.roll_if_needed(NOW_MS + 2500)
    assert [segment.base_offset for segment in log.segments] == [0, 2, 3]
    assert not log.roll_if_needed(NOW_MS + 9_999_999)


@pytest.mark.parametrize(("policy", "longest"), [("compact", 1000), ("compact,delete", 1000), ("delete", 5000)])
def test_the_lag_of_compaction_bounds_the_age_of_the_active_segment(policy: str, longest: int) -> None:
    """max.compaction.lag.ms (KIP-354): only closed segments are compacted."""
    config = LogConfig(segment_ms=5000, max_compaction_lag_ms=1000, cleanup_policy=frozenset(policy.split(",")))
    log = open_log(memory_environment(), config=config)
    append(log, batch("a", timestamp=NOW_MS))
    append(log, batch("b", timestamp=NOW_MS + longest))
    assert len(log.segments) == 1
    append(log, batch("c", timestamp=NOW_MS + longest + 1))
    assert [segment.base_offset for segment in log.segments] == [0, 2]
    assert not log.roll_if_needed(NOW_MS + longest)
    assert log.roll_if_needed(NOW_MS + longest + 1)


def test_jitter_closes_the_segment_of_a_compacted_topic_earlier_too() -> None:
    config = LogConfig(
        segment_ms=5000, max_compaction_lag_ms=1000, segment_jitter_ms=500, cleanup_policy=frozenset(("compact",))
    )
    log = open_log(memory_environment(), config=config)
    jitter = log.segments[0].jitter_ms
    assert 0 < jitter < 500
    append(log, batch("a", timestamp=NOW_MS))
    append(log, batch("b", timestamp=NOW_MS + 1000 - jitter))
    assert len(log.segments) == 1
    append(log, batch("c", timestamp=NOW_MS + 1001 - jitter))
    assert len(log.segments) == 2


def test_a_full_index_rolls_the_segment() -> None:
    log = open_log(memory_environment(), config=LogConfig(segment_index_bytes=24, index_interval_bytes=0))
    for number in range(9):
        append(log, batch(str(number), timestamp=NOW_MS + number))
    assert len(log.segments) > 2


def test_a_full_disk_fails_the_append_and_nothing_else() -> None:
    environment = memory_environment()
    log = open_log(environment)
    append(log, batch("a", producer_id=1, producer_epoch=0, base_sequence=0))
    before = environment.files.read_bytes(f"{DIRECTORY}/{0:020d}.log")
    environment.files.capacity = environment.files.used_bytes() + 100
    told: list[object] = []
    log.segments.on_failure = told.append
    log.append_as_leader(batch("b", producer_id=1, producer_epoch=0, base_sequence=1), 4, NOW_MS)
    log.append_as_leader(batch("c", producer_id=1, producer_epoch=0, base_sequence=2), 4, NOW_MS)
    with pytest.raises(StorageError) as error:
        log.flush_appends()
    assert error.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert not told
    assert environment.files.read_bytes(f"{DIRECTORY}/{0:020d}.log") == before
    assert (log.log_end_offset, log.latest_epoch) == (1, 0)
    assert values_of(log) == [(0, "a")]
    environment.files.capacity = None
    again = append(log, batch("b", producer_id=1, producer_epoch=0, base_sequence=1), epoch=4)
    assert (again.first_offset, again.duplicate) == (1, False)
    assert values_of(log) == [(0, "a"), (1, "b")]


def test_a_full_disk_while_rolling_leaves_the_log_as_it_was() -> None:
    environment = memory_environment()
    log = open_log(environment, config=LogConfig(segment_bytes=200, index_interval_bytes=0))
    append(log, batch("a" * 100))
    environment.files.capacity = environment.files.used_bytes() + 5
    for _ in range(2):
        with pytest.raises(StorageError):
            append(log, batch("b" * 100))
    assert log.log_end_offset == 1
    environment.files.capacity = None
    append(log, batch("b" * 100))
    append(log, batch("c" * 100))
    assert [offset for offset, _ in values_of(log)] == [0, 1, 2]
    log.close()
    assert [offset for offset, _ in values_of(open_log(environment, clean_shutdown=True))] == [0, 1, 2]


def test_a_failed_write_that_a_reader_ran_into_is_told_to_the_writer() -> None:
    environment = memory_environment()
    log = open_log(environment)
    append(log, batch("a"))
    environment.files.fault = lambda operation, path: errno.ENOSPC if operation == "append" else None
    log.append_as_leader(batch("b"), 0, NOW_MS)
    assert values_of(log) == [(0, "a")]
    log.append_as_leader(batch("c"), 0, NOW_MS)
    environment.files.fault = None
    with pytest.raises(StorageError):
        log.flush_appends()
    assert values_of(log) == [(0, "a")]
    log.flush_appends()
    assert append(log, batch("d")).first_offset == 1


def test_an_io_error_is_told_to_the_owner_of_the_directory() -> None:
    environment = memory_environment()
    log = open_log(environment)
    told: list[StorageError] = []
    log.segments.on_failure = told.append
    environment.files.fault = lambda operation, path: errno.EIO if operation == "append" else None
    log.append_as_leader(batch("a"), 0, NOW_MS)
    with pytest.raises(StorageError):
        log.flush_appends()
    assert len(told) == 1
    assert DIRECTORY in str(told[0])


def test_a_follower_takes_batches_as_they_are_and_leaves_an_incomplete_one_out() -> None:
    leader = open_log(memory_environment())
    for epoch, value in enumerate("abc"):
        append(leader, batch(value, producer_id=9, producer_epoch=0, base_sequence=epoch), epoch=epoch)
    data = leader.read(0, 10_000).data
    follower = open_log(memory_environment())
    info = follower.append_as_follower(data[:-5])
    follower.flush_appends()
    assert (info.first_offset, info.last_offset, follower.log_end_offset) == (0, 1, 2)
    assert follower.epochs.entries() == [(0, 0), (1, 1)]
    with pytest.raises(KafkaError):
        follower.append_as_follower(data)
    follower.append_as_follower(leader.read(2, 1000).data)
    follower.flush_appends()
    assert values_of(follower) == values_of(leader)
    assert follower.producers.producers[9].last_sequence == 2


def test_leader_epochs_tell_where_each_ended() -> None:
    log = open_log(memory_environment())
    for epoch in (0, 0, 3, 5):
        append(log, batch("x"), epoch=epoch)
    assert log.epochs.entries() == [(0, 0), (3, 2), (5, 3)]
    assert log.end_offset_for_epoch(0) == (0, 2)
    assert log.end_offset_for_epoch(1) == (0, 2)
    assert log.end_offset_for_epoch(4) == (3, 3)
    assert log.end_offset_for_epoch(5) == (5, 4)
    assert log.end_offset_for_epoch(6) == (-1, -1)
    assert [log.epoch_of(offset) for offset in range(4)] == [0, 0, 3, 5]


def test_many_small_batches_are_found_through_the_index() -> None:
    log = open_log(memory_environment(), config=LogConfig(index_interval_bytes=200, segment_bytes=20_000))
    for number in range(1000):
        append(log, batch(str(number), timestamp=NOW_MS + number))
    for offset in (0, 1, 499, 731, 999):
        header = parse_batch(log.read(offset, 1).data)
        assert header.base_offset == offset
    assert values_of(log, 990) == [(number, str(number)) for number in range(990, 1000)]
    found = run_now(log.offset_for_timestamp(NOW_MS + 512))
    assert found is not None
    assert found[:2] == (NOW_MS + 512, 512)
    assert run_now(log.offset_for_timestamp(NOW_MS + 1000)) is None
    latest = run_now(log.max_timestamp())
    assert latest is not None
    assert latest[:2] == (NOW_MS + 999, 999)


def test_offsets_by_time_look_into_batches_and_respect_the_log_start() -> None:
    log = open_log(memory_environment())
    rows = [(NOW_MS + shift, b"k", b"v", []) for shift in (0, 50, 20, 90)]
    for codec in (compression.NONE, compression.ZSTD):
        append(log, memoryview(build_batch(rows, compression=codec)))
    assert run_now(log.offset_for_timestamp(NOW_MS + 30)) == (NOW_MS + 50, 1, 0)
    assert run_now(log.max_timestamp()) == (NOW_MS + 90, 3, 0)
    log.advance_log_start_offset(4, 8)
    assert run_now(log.offset_for_timestamp(NOW_MS + 30)) == (NOW_MS + 50, 5, 0)
    assert run_now(log.max_timestamp()) == (NOW_MS + 90, 7, 0)


def test_the_latest_record_is_one_that_can_be_read() -> None:
    """It may be deleted, with its batch or within it, or above the high watermark or the last stable offset."""
    log = open_log(memory_environment())
    for shift in (10, 90, 20, 80):
        append(log, batch("v", timestamp=NOW_MS + shift))
    rows = [(NOW_MS + shift, b"k", b"v", []) for shift in (70, 95, 60)]
    append(log, memoryview(build_batch(rows)))
    found = [run_now(log.max_timestamp(end)) for end in range(9)]
    times = [None if one is None else (one.timestamp - NOW_MS, one.offset) for one in found]
    assert times == [None, (10, 0), (90, 1), (90, 1), (90, 1), (90, 1), (95, 5), (95, 5), (95, 5)]
    log.advance_log_start_offset(2, 7)
    found = [run_now(log.max_timestamp(end)) for end in (2, 3, 4, 5, 7, 4, 3)]
    times = [None if one is None else (one.timestamp - NOW_MS, one.offset) for one in found]
    assert times == [None, (20, 2), (80, 3), (80, 3), (95, 5), (80, 3), (20, 2)]
    log.advance_log_start_offset(6, 7)
    assert run_now(log.max_timestamp()) == (NOW_MS + 60, 6, 0)
    append(log, batch("v", timestamp=NOW_MS + 65))
    assert run_now(log.max_timestamp()) == (NOW_MS + 65, 7, 0)
    log.truncate_to(7)
    assert run_now(log.max_timestamp()) == (NOW_MS + 60, 6, 0)
    log.advance_log_start_offset(7, 7)
    assert run_now(log.max_timestamp()) is None


@given(
    times=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=4), min_size=1, max_size=30),
    start=st.integers(0, 40),
    ends=st.lists(st.integers(0, 120), min_size=1, max_size=4),
    sizes=st.tuples(st.sampled_from([0, 150, 4096]), st.sampled_from([400, 900, 10_000])),
)
def test_the_latest_record_is_the_best_of_those_that_can_be_read(
    times: list[list[int]], start: int, ends: list[int], sizes: tuple[int, int]
) -> None:
    log = open_log(memory_environment(), config=LogConfig(index_interval_bytes=sizes[0], segment_bytes=sizes[1]))
    for batch_times in times:
        append(log, memoryview(build_batch([(NOW_MS + time, b"k", b"v", []) for time in batch_times])))
    flat = [time for batch_times in times for time in batch_times]
    start = min(start, len(flat))
    log.advance_log_start_offset(start, len(flat))
    for end in ends:
        readable = [(-time, offset) for offset, time in enumerate(flat) if start <= offset < end]
        found = run_now(log.max_timestamp(end))
        expected = None if not readable else (NOW_MS - min(readable)[0], min(readable)[1])
        assert (None if found is None else found[:2]) == expected
