"""Truncation, retention, DeleteRecords."""

from __future__ import annotations

import pytest

from broadsheet_broker.log import Log, LogConfig
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from tests.log.support import DIRECTORY, NOW_MS, append, batch, open_log, values_of
from tests.support.memory_environment import MemoryEnvironment, memory_environment

SMALL = LogConfig(segment_bytes=400, index_interval_bytes=0)
HOUR = 3_600_000


def filled(environment: MemoryEnvironment, config: LogConfig = SMALL, count: int = 20) -> Log:
    log = open_log(environment, config=config)
    for number in range(count):
        append(
            log,
            batch(
                f"{number}" * 30,
                timestamp=NOW_MS + number * 1000,
                producer_id=7,
                producer_epoch=0,
                base_sequence=number,
            ),
            epoch=number // 5,
            now_ms=NOW_MS + number * 1000,
        )
    return log


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 9, 10, 19])
def test_truncation_takes_the_end_away_and_the_log_goes_on(offset: int) -> None:
    environment = memory_environment()
    log = filled(environment)
    assert log.truncate_to(offset)
    assert log.log_end_offset == offset
    assert [at for at, _ in values_of(log)] == list(range(offset))
    assert log.latest_epoch == ((offset - 1) // 5 if offset else -1)
    producer = log.producers.producers.get(7)
    assert (producer.last_sequence if producer else -1) == offset - 1
    append(log, batch("new", producer_id=7, producer_epoch=0, base_sequence=offset), epoch=9)
    values = values_of(log)
    assert values[-1] == (offset, "new")
    environment.files.kill()
    again = open_log(environment, config=SMALL)
    assert values_of(again) == values
    assert again.epochs.entries() == log.epochs.entries()


def test_truncation_beyond_the_end_does_nothing() -> None:
    log = filled(memory_environment())
    assert not log.truncate_to(20)
    assert log.log_end_offset == 20


def test_truncation_into_a_batch_takes_the_batch() -> None:
    log = open_log(memory_environment())
    append(log, batch("a", "b"))
    append(log, batch("c", "d", "e"))
    assert log.truncate_to(3)
    assert log.log_end_offset == 2
    assert values_of(log) == [(0, "a"), (1, "b")]


def test_truncation_lowers_the_recovery_point() -> None:
    log = filled(memory_environment())
    log.sync()
    assert log.recovery_point == 20
    log.truncate_to(7)
    assert log.recovery_point == 7


def test_starting_again_elsewhere_leaves_nothing() -> None:
    environment = memory_environment()
    log = filled(environment)
    log.truncate_fully_and_start_at(500)
    assert (log.log_start_offset, log.log_end_offset, log.size) == (500, 500, 0)
    assert log.epochs.entries() == []
    assert append(log, batch("a"), epoch=6).first_offset == 500
    log.segments.purge()
    environment.files.kill()
    assert values_of(open_log(environment, config=SMALL)) == [(500, "a")]


def test_retention_by_size_keeps_at_least_that_much() -> None:
    log = filled(memory_environment(), LogConfig(segment_bytes=400, retention_bytes=1000))
    removed = log.delete_old_segments(NOW_MS, 20)
    assert removed > 0
    assert 1000 <= log.size < 1400 + 400
    assert log.log_start_offset == log.segments[0].base_offset > 0
    with pytest.raises(KafkaError) as error:
        log.read(0, 100)
    assert error.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_retention_by_time_takes_old_segments_and_finally_the_active_one() -> None:
    environment = memory_environment()
    log = filled(environment, LogConfig(segment_bytes=400, retention_ms=HOUR))
    assert log.delete_old_segments(NOW_MS + HOUR, 20) == 0
    log.delete_old_segments(NOW_MS + HOUR + 10_500, 20)
    assert 0 < log.log_start_offset <= 11
    assert log.log_end_offset == 20
    log.delete_old_segments(NOW_MS + HOUR * 2, 20)
    assert (log.log_start_offset, log.log_end_offset, log.size) == (20, 20, 0)
    assert append(log, batch("next"), epoch=9).first_offset == 20
    log.segments.purge()
    assert not [name for name in environment.files.list(DIRECTORY) if name.endswith(".deleted")]


def test_retention_stops_at_the_high_watermark() -> None:
    log = filled(memory_environment(), LogConfig(segment_bytes=400, retention_ms=1))
    log.delete_old_segments(NOW_MS + HOUR, 5)
    assert log.log_start_offset <= 5


def test_retention_does_not_touch_compacted_topics() -> None:
    log = filled(
        memory_environment(), LogConfig(segment_bytes=400, cleanup_policy=frozenset(("compact",)), retention_ms=1)
    )
    assert log.delete_old_segments(NOW_MS + HOUR, 20) == 0


def test_records_without_a_limit_stay() -> None:
    log = filled(memory_environment(), LogConfig(segment_bytes=400, retention_ms=-1, retention_bytes=-1))
    assert log.delete_old_segments(NOW_MS + 10_000 * HOUR, 20) == 0


def test_delete_records_moves_the_start_and_frees_segments() -> None:
    log = filled(memory_environment(), LogConfig(segment_bytes=400, retention_ms=-1))
    assert log.advance_log_start_offset(11, 20)
    assert not log.advance_log_start_offset(5, 20)
    assert values_of(log)[0][0] == 11
    assert log.epochs.entries() == [(2, 11), (3, 15)]
    log.delete_old_segments(NOW_MS, 20)
    assert log.segments[0].base_offset <= 11 < log.segments[1].base_offset
    with pytest.raises(KafkaError) as error:
        log.advance_log_start_offset(15, 14)
    assert error.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_deleted_segments_do_not_come_back_after_a_crash() -> None:
    environment = memory_environment()
    log = filled(environment, LogConfig(segment_bytes=400, retention_bytes=1000))
    log.delete_old_segments(NOW_MS, 20)
    start = log.log_start_offset
    environment.files.kill()
    again = open_log(environment, config=SMALL)
    assert again.log_start_offset == start
    assert not [name for name in environment.files.list(DIRECTORY) if name.endswith(".deleted")]
