"""Look-ups by time: how much one step does, logs that change meanwhile, and batches without MaxTimestamp."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_broker.log import Log, LogConfig
from broadsheet_broker.log.retention import delete_old_segments
from broadsheet_broker.seams.steps import run_now
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.record_rows import STEP_ROWS
from broadsheet_broker.wire.records import build_batch, seal_batch
from tests.log.support import DIRECTORY, NOW_MS, append, batch, open_log
from tests.support.memory_environment import memory_environment

LARGE = LogConfig(max_message_bytes=20_000_000)
HOUR = 3600 * 1000


def dense(count: int, codec: int = 4) -> memoryview:
    return memoryview(build_batch([(NOW_MS + number, b"k", b"v", ()) for number in range(count)], compression=codec))


def steps_of(work: Any) -> tuple[int, Any]:
    steps = 0
    while True:
        try:
            room = next(work)
        except StopIteration as stop:
            return steps, stop.value
        steps += 1
        if room is not None and room.run is not None:
            room.run()


@pytest.mark.parametrize("codec", range(5))
def test_a_record_in_a_dense_batch_is_found_in_steps(codec: int) -> None:
    log = open_log(memory_environment(), config=LARGE)
    append(log, dense(50_000, codec))
    steps, found = steps_of(log.offset_for_timestamp(NOW_MS + 40_000))
    assert found == (NOW_MS + 40_000, 40_000, 0)
    assert steps >= 40_000 // (2 * STEP_ROWS)
    steps, found = steps_of(log.max_timestamp())
    assert found == (NOW_MS + 49_999, 49_999, 0)
    assert steps >= 50_000 // (2 * STEP_ROWS)
    steps, found = steps_of(log.max_timestamp(30_000))
    assert found == (NOW_MS + 29_999, 29_999, 0)


def test_many_small_batches_are_walked_over_in_steps() -> None:
    """Their timestamps go down, so no index helps."""
    log = open_log(memory_environment(), config=LogConfig(index_interval_bytes=2**30))
    for number in range(3 * STEP_ROWS):
        append(log, batch("v", timestamp=NOW_MS - number))
    log.advance_log_start_offset(1, log.log_end_offset)
    steps, found = steps_of(log.max_timestamp())
    assert found == (NOW_MS - 1, 1, 0)
    assert steps >= 3


def test_a_small_look_up_takes_no_pause() -> None:
    log = open_log(memory_environment())
    for number in range(100):
        append(log, batch("v", timestamp=NOW_MS + number))
    assert steps_of(log.offset_for_timestamp(NOW_MS + 50)) == (0, (NOW_MS + 50, 50, 0))
    assert steps_of(log.max_timestamp()) == (0, (NOW_MS + 99, 99, 0))


def searched_log(environment: Any = None) -> Log:
    log = open_log(environment or memory_environment(), config=LARGE)
    append(log, batch("old", timestamp=NOW_MS - HOUR))
    log.roll(NOW_MS)
    append(log, dense(20_000))
    log.roll(NOW_MS)
    append(log, batch("new", timestamp=NOW_MS + HOUR))
    return log


def test_a_look_up_begins_again_when_the_log_was_cut() -> None:
    log = searched_log()
    work = log.offset_for_timestamp(NOW_MS + 15_000)
    next(work)
    log.truncate_to(1)
    append(log, batch("other", timestamp=NOW_MS + 16_000))
    assert run_now(work) == (NOW_MS + 16_000, 1, 0)


def test_a_look_up_begins_again_when_its_segment_was_deleted() -> None:
    log = searched_log()
    work = log.offset_for_timestamp(NOW_MS + 15_000)
    next(work)
    log.advance_log_start_offset(20_001, 20_002)
    assert delete_old_segments(log.tail, NOW_MS, 20_002) == 2
    log.segments.purge()
    assert run_now(work) == (NOW_MS + HOUR, 20_001, 0)


def test_a_log_that_changes_all_the_time_is_tried_again_by_the_client() -> None:
    log = searched_log()
    work = log.offset_for_timestamp(NOW_MS + 15_000)
    with pytest.raises(KafkaError) as refusal:
        while True:
            next(work)
            log.segments.cuts += 1
    assert refusal.value.code == ErrorCode.OFFSET_NOT_AVAILABLE


def without_max_timestamp(*times: int) -> memoryview:
    """As earlier versions stored what Sarama sends."""
    made = memoryview(build_batch([(time, b"k", b"v", ()) for time in times]))
    made[35:43] = (-1).to_bytes(8, "big", signed=True)
    seal_batch(made)
    return made


def follow(log: Log, *batches: memoryview) -> None:
    """Append them as a follower does, which checks no record."""
    for each in batches:
        each[0:8] = log.log_end_offset.to_bytes(8, "big")
        log.append_as_follower(each)
        log.flush_appends()


@pytest.mark.parametrize("opened", ["as it is", "after a stop", "after a kill"])
def test_stored_batches_without_max_timestamp_are_found_by_time(opened: str) -> None:
    environment = memory_environment()
    log = open_log(environment, config=LogConfig(retention_ms=24 * HOUR))
    for hours in range(10):
        time = NOW_MS - (10 - hours) * HOUR
        follow(log, without_max_timestamp(time, time + 1000))
    if opened == "after a stop":
        log.close()
        log = open_log(environment, clean_shutdown=True)
    elif opened == "after a kill":
        environment.files.kill()
        log = open_log(environment)
    assert run_now(log.offset_for_timestamp(NOW_MS - 5 * HOUR)) == (NOW_MS - 5 * HOUR, 10, -1)
    assert run_now(log.offset_for_timestamp(NOW_MS - 5 * HOUR + 500)) == (NOW_MS - 5 * HOUR + 1000, 11, -1)
    assert run_now(log.max_timestamp()) == (NOW_MS - HOUR + 1000, 19, -1)
    assert run_now(log.max_timestamp(15)) == (NOW_MS - 3 * HOUR, 14, -1)


def test_stored_batches_without_max_timestamp_end_with_their_time() -> None:
    log = open_log(memory_environment(), config=LogConfig(retention_ms=24 * HOUR))
    follow(log, without_max_timestamp(NOW_MS - 72 * HOUR))
    log.roll(NOW_MS)
    follow(log, without_max_timestamp(NOW_MS))
    assert log.delete_old_segments(NOW_MS, 2) == 1
    assert log.log_start_offset == 1


def test_missing_indexes_are_rebuilt_when_the_log_is_opened() -> None:
    """Not by the first look-up, which would read the headers of a whole segment in one turn of the loop."""
    environment = memory_environment()
    log = searched_log(environment)
    log.close()
    gone = [name for name in environment.files.list(DIRECTORY) if name.endswith(("index", "timeindex"))]
    for name in gone:
        environment.files.remove(f"{DIRECTORY}/{name}")
    again = open_log(environment, config=LARGE, clean_shutdown=True)
    assert set(gone) <= set(environment.files.list(DIRECTORY))
    assert run_now(again.offset_for_timestamp(NOW_MS + 15_000)) == (NOW_MS + 15_000, 15_001, 0)
