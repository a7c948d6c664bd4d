"""Compaction: what stays, what goes, and what a crash in its middle leaves."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadsheet_broker.log import COORDINATOR, Log, LogConfig
from broadsheet_broker.log.cleaner import Cleaning, CleaningAborted, OffsetMap
from broadsheet_broker.seams.steps import run_now
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.records import (
    CONTROL_ABORT,
    CONTROL_COMMIT,
    build_batch,
    build_control_batch,
    check_batch,
    iterate_batches,
    seal_batch,
)
from tests.log.support import DIRECTORY, NOW_MS, append, batch, keyed, open_log, records_of
from tests.support.memory_environment import memory_environment

COMPACT = LogConfig(
    segment_bytes=600, cleanup_policy=frozenset(("compact",)), index_interval_bytes=0, delete_retention_ms=1000
)


def clean(log: Log, first_dirty: int = 0, now_ms: int = NOW_MS, map_bytes: int = 2**20) -> int:
    """One pass over all closed segments; returns the next first dirty offset."""
    cleaning = Cleaning(log.segments, first_dirty, log.segments[-1].base_offset, now_ms, map_bytes)
    run_now(cleaning.clean())
    return cleaning.map.end_offset


def state_of(log: Log) -> dict[bytes, bytes]:
    """What a consumer that reads everything ends up with."""
    state: dict[bytes, bytes] = {}
    for record in records_of(log):
        if record.key is None:
            continue
        if record.value is None:
            state.pop(record.key, None)
        else:
            state[record.key] = record.value
    return state


def filled(log: Log, rounds: int = 40, codec: int = 0) -> None:
    for number in range(rounds):
        append(log, keyed(*((f"key-{key}", f"{number}") for key in range(3)), compression=codec))


@pytest.mark.parametrize("codec", range(5))
def test_of_every_key_only_the_last_record_of_the_closed_segments_stays(codec: int) -> None:
    log = open_log(memory_environment(), config=COMPACT)
    filled(log, codec=codec)
    before, end = state_of(log), log.log_end_offset
    size = log.size
    dirty = clean(log)
    assert dirty == log.segments[-1].base_offset
    assert state_of(log) == before
    assert log.size < size / 3
    assert log.log_end_offset == end
    closed = [record for record in records_of(log) if record.offset < dirty]
    assert len({record.key for record in closed}) == len(closed) == 3
    for _, part in iterate_batches(log.read(0, 10_000).data):
        header = next(iterate_batches(part))[0]
        check_batch(header, part)
        assert header.compression == codec


def test_offsets_that_are_gone_are_read_from_the_next_record_on() -> None:
    log = open_log(memory_environment(), config=COMPACT)
    filled(log)
    clean(log)
    offsets = [record.offset for record in records_of(log)]
    for offset in range(log.log_end_offset):
        assert records_of(log, offset)[0].offset == min(at for at in offsets if at >= offset)


def test_a_cleaned_log_is_opened_again_after_a_stop_and_after_a_kill() -> None:
    environment = memory_environment()
    log = open_log(environment, config=COMPACT)
    filled(log)
    clean(log)
    records, end = records_of(log), log.log_end_offset
    log.close()
    again = open_log(environment, config=COMPACT, clean_shutdown=True)
    assert (records_of(again), again.log_end_offset) == (records, end)
    environment.files.kill()
    again = open_log(environment, config=COMPACT)
    assert (records_of(again), again.log_end_offset) == (records, end)


def test_tombstones_stay_until_delete_retention_has_passed() -> None:
    log = open_log(memory_environment(), config=COMPACT)
    append(log, keyed(("a", "1"), ("b", "1")))
    append(log, keyed(("a", None)))
    log.roll(NOW_MS)
    append(log, keyed(("c", "1")))
    clean(log)
    assert [(r.key, r.value) for r in records_of(log)] == [(b"b", b"1"), (b"a", None), (b"c", b"1")]
    header = next(iterate_batches(log.read(2, 100).data))[0]
    assert header.has_delete_horizon
    assert header.base_timestamp == NOW_MS + 1000
    assert [r.timestamp for r in records_of(log)] == [NOW_MS] * 3
    clean(log, now_ms=NOW_MS + 999)
    assert len(records_of(log)) == 3
    clean(log, now_ms=NOW_MS + 1000)
    assert [r.key for r in records_of(log)] == [b"b", b"c"]


def test_the_last_batch_of_a_producer_stays_without_its_records() -> None:
    environment = memory_environment()
    log = open_log(environment, config=COMPACT)
    append(log, keyed(("a", "1"), producer_id=5, producer_epoch=0, base_sequence=0))
    append(log, keyed(("a", "2"), producer_id=5, producer_epoch=0, base_sequence=1))
    append(log, keyed(("a", "3")))
    log.roll(NOW_MS)
    append(log, keyed(("b", "1")))
    clean(log)
    headers = [header for header, _ in iterate_batches(log.read(0, 10_000).data)]
    assert [(header.base_offset, header.record_count) for header in headers] == [(1, 0), (2, 1)]
    environment.files.kill()
    for name in environment.files.list(DIRECTORY):
        if name.endswith(".snapshot"):
            environment.files.remove(f"{DIRECTORY}/{name}")
    again = open_log(environment, config=COMPACT)
    assert again.producers.producers[5].last_sequence == 1


def marker(kind: int) -> memoryview:
    return memoryview(
        build_control_batch(
            kind, struct.pack(">hi", 0, 0), timestamp=NOW_MS, producer_id=5, producer_epoch=0, transactional=True
        )
    )


def test_aborted_records_go_and_their_markers_later() -> None:
    log = open_log(memory_environment(), config=COMPACT)
    options = {"producer_id": 5, "producer_epoch": 0, "transactional": True}
    append(log, keyed(("a", "kept"), base_sequence=0, **options))
    append(log, marker(CONTROL_COMMIT), origin=COORDINATOR)
    append(log, keyed(("a", "aborted"), base_sequence=1, **options))
    append(log, marker(CONTROL_ABORT), origin=COORDINATOR)
    log.roll(NOW_MS)
    append(log, keyed(("b", "1")))
    clean(log)
    kept = [(r.key, r.value) for r in records_of(log) if r.key in (b"a", b"b")]
    assert kept == [(b"a", b"kept"), (b"b", b"1")]
    assert len(log.aborted_transactions(0, 100)) == 1
    clean(log, now_ms=NOW_MS)
    clean(log, now_ms=NOW_MS + 5000)
    headers = [header for header, _ in iterate_batches(log.read(0, 10_000).data)]
    assert [(header.base_offset, header.is_control) for header in headers][:2] == [(0, False), (1, True)]


def test_a_small_map_takes_several_passes() -> None:
    log = open_log(memory_environment(), config=COMPACT)
    for number in range(60):
        append(log, keyed((f"key-{number % 20}", f"{number}")))
    before = state_of(log)
    dirty, passes = 0, 0
    while dirty < log.segments[-1].base_offset:
        following = clean(log, dirty, map_bytes=1000)
        assert following > dirty
        dirty, passes = following, passes + 1
        assert state_of(log) == before
    assert passes > 1


def test_truncation_meanwhile_gives_the_copy_up() -> None:
    environment = memory_environment()
    log = open_log(environment, config=COMPACT)
    filled(log)
    steps = Cleaning(log.segments, 0, log.segments[-1].base_offset, NOW_MS, 2**20).clean()
    step = next(steps)
    while step is None:
        step = next(steps)
    log.truncate_to(10)
    with pytest.raises(CleaningAborted):
        list(steps)
    assert not [name for name in environment.files.list(DIRECTORY) if name.endswith(".cleaned")]
    assert log.log_end_offset <= 10


class Crash(Exception):
    """The process dies here."""


@pytest.mark.parametrize("seed", range(60))
def test_a_crash_at_any_point_of_a_cleaning_loses_no_key(seed: int) -> None:
    environment = memory_environment(seed)
    log = open_log(environment, config=COMPACT)
    filled(log)
    before, end = state_of(log), log.log_end_offset
    left = random.Random(seed).randint(0, 120)

    def fault(operation: str, path: str) -> None:
        nonlocal left
        if operation in ("append", "rename", "sync", "open", "remove"):
            left -= 1
            if left < 0:
                raise Crash

    environment.files.fault = fault
    try:
        clean(log)
        log.segments.purge()
    except Crash:
        pass
    environment.files.fault = None
    environment.files.kill()
    again = open_log(environment, config=COMPACT)
    assert state_of(again) == before
    assert again.log_end_offset == end
    assert not [name for name in environment.files.list(DIRECTORY) if name.endswith((".cleaned", ".swap", ".deleted"))]


writes = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.text("xyz", max_size=3))), min_size=1, max_size=4
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(writes, st.integers(0, 4))
def test_compaction_never_changes_what_a_reader_ends_up_with(
    rows: list[list[tuple[str, str | None]]], codec: int
) -> None:
    log = open_log(memory_environment(), config=COMPACT)
    dirty = 0
    for number, pairs in enumerate(rows):
        append(log, keyed(*pairs, compression=codec))
        if number % 17 == 16:
            before = state_of(log)
            dirty = clean(log, dirty, now_ms=NOW_MS + number * 100)
            assert state_of(log) == before
    offsets = [record.offset for record in records_of(log)]
    assert offsets == sorted(set(offsets))


def test_long_keys_cost_the_map_no_more_than_short_ones() -> None:
    offsets = OffsetMap(10_000)
    for number in range(50):
        offsets.put(b"x" * 100_000 + str(number).encode(), number)
    assert offsets.get(b"x" * 100_000 + b"7") == 7
    assert not offsets.full


def test_uncompacted_batches_are_copied_byte_by_byte() -> None:
    log = open_log(memory_environment(), config=COMPACT)
    append(log, batch("only", key="unique", compression=3))
    raw = log.read(0, 1000).data
    log.roll(NOW_MS)
    append(log, batch("x", key="other"))
    clean(log)
    assert log.read(0, 1000).data == raw


def test_records_above_the_end_of_cleaning_do_not_supersede_those_below() -> None:
    """The high watermark or an open transaction may lie in the middle of a closed segment: what is above may go."""
    log = open_log(memory_environment(), config=COMPACT)
    append(log, keyed(("a", "committed"), ("b", "1")))
    append(log, keyed(("b", "2")))
    high_watermark = log.log_end_offset
    append(log, keyed(("a", "not committed")))
    log.roll(NOW_MS)
    append(log, keyed(("c", "1")))
    cleaning = Cleaning(log.segments, 0, high_watermark, NOW_MS, 2**20)
    run_now(cleaning.clean())
    assert cleaning.map.end_offset == high_watermark
    kept = [(record.offset, record.value) for record in records_of(log)]
    assert kept == [(0, b"committed"), (2, b"2"), (3, b"not committed"), (4, b"1")]


def test_header_names_that_are_not_utf_8_are_read_and_compacted_as_they_are() -> None:
    log = open_log(memory_environment(), config=COMPACT)
    odd = [("\udcff\udcfe", b"x")]
    for value in (b"1", b"2"):
        append(log, memoryview(build_batch([(NOW_MS, b"other", value, []), (NOW_MS, b"k", b"v", odd)])))
    append(log, memoryview(build_batch([(NOW_MS, b"k2", b"v", odd), (NOW_MS, b"other", b"3", [])])))
    log.roll(NOW_MS)
    clean(log)
    assert [(record.offset, record.headers) for record in records_of(log)] == [(3, odd), (4, odd), (5, [])]
    assert b"\xff\xfe" in bytes(log.read(0, 1000).data)
    assert run_now(log.offset_for_timestamp(NOW_MS)) is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record[:1] + b"\x00\x00\x00\x02k\x20v\x00",  # a value that is longer than its record
        lambda record: record[:1] + b"\x00\x00\x00\x02k\x02v\x40",  # 32 headers that are not there
        lambda record: record[:1] + b"\x00\x00\x00\x02k\x02v\x00" + record,  # more records than the header says
    ],
)
def test_a_compacted_topic_refuses_records_that_it_could_not_compact(spoil: Callable[[bytes], bytes]) -> None:
    log = open_log(memory_environment(), config=COMPACT)
    good = bytes(build_batch([(NOW_MS, b"k", b"v", [])]))
    bad = bytearray(good[:61] + spoil(good[61:]))
    struct.pack_into(">i", bad, 8, len(bad) - 12)
    seal_batch(bad)
    with pytest.raises(KafkaError):
        append(log, memoryview(bad))
    append(log, memoryview(bytearray(good)))
