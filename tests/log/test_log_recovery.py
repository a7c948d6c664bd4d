"""Opening a log after a clean stop, a killed process, a loss of power, and damage."""

from __future__ import annotations

import random

import pytest

from broadsheet_broker.log import CorruptLogError, LogConfig, StorageError
from broadsheet_broker.log.checkpoints import LEADER_EPOCH_CHECKPOINT
from broadsheet_broker.seams.steps import run_now
from tests.log.support import DIRECTORY, NOW_MS, append, batch, open_log, values_of
from tests.support.memory_environment import memory_environment

FIRST = f"{DIRECTORY}/{0:020d}"
SMALL = LogConfig(segment_bytes=400, index_interval_bytes=0)


def test_a_clean_stop_and_start_change_nothing() -> None:
    environment = memory_environment()
    log = open_log(environment, config=SMALL)
    for number in range(12):
        append(
            log,
            batch(f"{number}" * 30, timestamp=NOW_MS + number, producer_id=4, producer_epoch=0, base_sequence=number),
            epoch=number // 5,
        )
    log.close()
    again = open_log(environment, config=SMALL, recovery_point=12, clean_shutdown=True)
    assert values_of(again) == values_of(log)
    assert again.epochs.entries() == log.epochs.entries()
    assert again.producers.producers[4].last_sequence == 11
    assert run_now(again.max_timestamp()) == run_now(log.max_timestamp())
    assert again.recovery_point == 12
    duplicate = again.append_as_leader(
        batch("11" * 30, timestamp=NOW_MS + 11, producer_id=4, producer_epoch=0, base_sequence=11), 2, NOW_MS
    )
    assert (duplicate.duplicate, duplicate.first_offset) == (True, 11)
    assert append(again, batch("x")).first_offset == 12


def test_a_killed_process_loses_nothing_that_was_written() -> None:
    environment = memory_environment()
    log = open_log(environment, config=SMALL)
    for number in range(12):
        append(log, batch(f"{number}" * 30, producer_id=4, producer_epoch=0, base_sequence=number), epoch=number // 5)
    environment.files.kill()
    again = open_log(environment, config=SMALL)
    assert [offset for offset, _ in values_of(again)] == list(range(12))
    assert again.epochs.entries() == [(0, 0), (1, 5), (2, 10)]
    assert again.producers.producers[4].last_sequence == 11
    assert [batch[0] for batch in again.producers.producers[4].batches] == [7, 8, 9, 10, 11]


@pytest.mark.parametrize("cut", [1, 11, 12, 60, 61, 80])
def test_a_torn_tail_is_cut_and_no_complete_batch_is_lost(cut: int) -> None:
    environment = memory_environment()
    log = open_log(environment)
    for value in ("a" * 50, "b" * 50, "c" * 50):
        append(log, batch(value))
    environment.files.kill()
    file = environment.files.open(FIRST + ".log")
    file.truncate(file.size() - cut)
    again = open_log(environment)
    assert values_of(again) == [(0, "a" * 50), (1, "b" * 50)]
    assert append(again, batch("d")).first_offset == 2
    assert environment.files.size(FIRST + ".log") == again.size


def test_a_tail_of_zeros_after_a_loss_of_power_is_cut() -> None:
    environment = memory_environment()
    log = open_log(environment)
    append(log, batch("a"))
    environment.files.kill()
    environment.files.open(FIRST + ".log").append([bytes(20_000)])
    assert values_of(open_log(environment)) == [(0, "a")]


def test_damage_in_the_middle_is_never_cut() -> None:
    environment = memory_environment()
    log = open_log(environment)
    for value in "abc":
        append(log, batch(value * 50))
    size = log.size // 3
    environment.files.kill()
    file = environment.files.open(FIRST + ".log")
    file.write(size + 80, b"!")
    before = environment.files.read_bytes(FIRST + ".log")
    with pytest.raises(CorruptLogError) as error:
        open_log(environment)
    assert FIRST + ".log" in str(error.value)
    assert f"byte {size}" in str(error.value)
    assert "Restore" in str(error.value)
    assert error.value.position == size
    assert environment.files.read_bytes(FIRST + ".log") == before


def test_a_damaged_length_in_the_middle_is_never_cut() -> None:
    environment = memory_environment()
    log = open_log(environment)
    for value in "abc":
        append(log, batch(value * 50))
    size = log.size // 3
    environment.files.kill()
    environment.files.open(FIRST + ".log").write(size + 8, b"\x7f\xff\xff\xff")
    with pytest.raises(CorruptLogError):
        open_log(environment)


def test_a_damaged_segment_before_others_is_never_cut() -> None:
    environment = memory_environment()
    log = open_log(environment, config=SMALL)
    for number in range(12):
        append(log, batch(f"{number}" * 30))
    environment.files.kill()
    file = environment.files.open(log.segments[0].path)
    file.truncate(file.size() - 3)
    with pytest.raises(CorruptLogError) as error:
        open_log(environment, config=SMALL)
    assert log.segments[1].path in str(error.value)


def test_a_log_that_ends_below_its_recovery_point_stays_offline() -> None:
    environment = memory_environment()
    log = open_log(environment)
    for value in "abc":
        append(log, batch(value * 50))
    log.sync()
    assert log.recovery_point == 3
    environment.files.kill()
    file = environment.files.open(FIRST + ".log")
    file.truncate(file.size() - 3)
    with pytest.raises(CorruptLogError, match="durable"):
        open_log(environment, recovery_point=3)
    assert file.path == FIRST + ".log"


def test_segments_below_the_recovery_point_are_not_read_again() -> None:
    environment = memory_environment()
    log = open_log(environment, config=SMALL)
    for number in range(12):
        append(log, batch(f"{number}" * 30))
    log.sync()
    environment.files.kill()
    read: list[str] = []
    environment.files.fault = lambda operation, path: read.append(path) if operation == "read" else None
    again = open_log(environment, config=SMALL, recovery_point=log.recovery_point)
    assert not [path for path in read if path == log.segments[0].path]
    environment.files.fault = None
    assert [offset for offset, _ in values_of(again)] == list(range(12))


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("content", [None, b"", b"123", b"\xff" * 24, b"\x00\x00\x00\x05\x00\x00\x00\x07" * 3])
def test_a_lost_or_damaged_index_is_rebuilt(suffix: str, content: bytes | None) -> None:
    environment = memory_environment()
    log = open_log(environment, config=SMALL)
    for number in range(12):
        append(log, batch(f"{number}" * 30, timestamp=NOW_MS + number))
    log.close()
    for segment in log.segments:
        environment.files.remove(segment.stem + suffix)
        if content is not None:
            environment.files.replace(segment.stem + suffix, content)
    again = open_log(environment, config=SMALL, clean_shutdown=True)
    for offset in range(12):
        assert values_of(again, offset)[0][0] == offset
    assert again.log_end_offset == 12


def test_an_index_that_ends_in_zeros_as_a_killed_kafka_leaves_it_is_read() -> None:
    environment = memory_environment()
    log = open_log(environment, config=LogConfig(index_interval_bytes=0))
    for number in range(40):
        append(log, batch(str(number), timestamp=NOW_MS + number))
    log.close()
    for suffix in (".index", ".timeindex"):
        environment.files.open(FIRST + suffix).append([bytes(24 * 500)])
    again = open_log(environment, config=LogConfig(index_interval_bytes=0), clean_shutdown=True)
    assert (again.log_end_offset, len(values_of(again, 17))) == (40, 23)
    assert again.segments[0].offsets.entries(environment.files) == log.segments[0].offsets.entries(environment.files)


@pytest.mark.parametrize("content", [None, b"garbage", b"0\n5\n0 0\n"])
def test_leader_epochs_are_read_from_the_batches_when_their_checkpoint_is_lost(content: bytes | None) -> None:
    environment = memory_environment()
    log = open_log(environment, config=SMALL)
    for number in range(12):
        append(log, batch(f"{number}" * 30), epoch=number // 4)
    log.close()
    path = f"{DIRECTORY}/{LEADER_EPOCH_CHECKPOINT}"
    environment.files.remove(path)
    if content is not None:
        environment.files.replace(path, content)
    again = open_log(environment, config=SMALL, clean_shutdown=True)
    assert again.epochs.entries() == [(0, 0), (1, 4), (2, 8)]


def test_a_damaged_producer_snapshot_falls_back_to_the_one_before() -> None:
    environment = memory_environment()
    log = open_log(environment, config=SMALL)
    for number in range(12):
        append(log, batch(f"{number}" * 30, producer_id=4, producer_epoch=0, base_sequence=number))
    log.close()
    environment.files.replace(f"{DIRECTORY}/{12:020d}.snapshot", b"\x00\x01garbage")
    again = open_log(environment, config=SMALL, clean_shutdown=True)
    assert again.producers.producers[4].last_sequence == 11


def test_an_unreadable_directory_is_an_error_of_that_log() -> None:
    environment = memory_environment()
    open_log(environment).close()
    environment.files.fault = lambda operation, path: 13 if operation == "list" else None
    with pytest.raises(StorageError, match="orders-0"):
        open_log(environment)


def test_the_start_of_the_log_survives_by_its_checkpoint() -> None:
    environment = memory_environment()
    log = open_log(environment)
    for value in "abcd":
        append(log, batch(value))
    assert log.advance_log_start_offset(2, 4)
    log.close()
    again = open_log(environment, clean_shutdown=True, log_start_offset=2)
    assert values_of(again) == [(2, "c"), (3, "d")]


@pytest.mark.parametrize("seed", range(40))
def test_after_a_loss_of_power_everything_synced_is_there(seed: int) -> None:
    chance = random.Random(seed)
    environment = memory_environment(seed)
    config = LogConfig(segment_bytes=30_000, index_interval_bytes=0)
    log = open_log(environment, config=config)
    synced = 0
    for number in range(chance.randint(1, 60)):
        append(log, batch(f"{number} " * chance.randint(1, 2000)), epoch=number // 10)
        if chance.random() < 0.1:
            log.sync()
            synced = log.recovery_point
    values = values_of(log)
    environment.files.lose_power(chance)
    try:
        again = open_log(environment, config=config, recovery_point=synced)
    except CorruptLogError as error:
        # A page that never reached the disk lies before one that did: not cut, but told.
        assert "valid batches follow" in str(error)
        return
    assert again.log_end_offset >= synced
    assert values_of(again) == values[: again.log_end_offset]
    assert append(again, batch("x")).first_offset == again.log_end_offset - 1


def test_what_was_cut_off_does_not_come_back_below_a_later_segment_after_a_loss_of_power() -> None:
    environment = memory_environment()
    log = open_log(environment)
    for value in ("a", "b", "c"):
        append(log, batch(value))
    log.sync()
    log.truncate_to(1)
    log.roll(NOW_MS)
    append(log, batch("d"), epoch=1)
    log.sync()
    environment.files.lose_power()
    again = open_log(environment, recovery_point=log.recovery_point)
    assert values_of(again) == [(0, "a"), (1, "d")]


def test_segments_that_were_cut_off_do_not_come_back_behind_later_records_after_a_loss_of_power() -> None:
    """They would pass for records of the epoch that was appended after the cut, and the replica for one like others."""
    environment = memory_environment()
    log = open_log(environment)
    for value in ("a", "b", "c"):
        append(log, batch(value))
        log.roll(NOW_MS)
    log.sync()
    log.truncate_to(1)
    append(log, batch("d"), epoch=1)
    environment.files.lose_power()
    assert values_of(open_log(environment, recovery_point=log.recovery_point)) == [(0, "a")]


def test_a_log_that_began_again_has_none_of_its_old_segments_after_a_loss_of_power() -> None:
    environment = memory_environment()
    log = open_log(environment)
    for value in ("a", "b", "c"):
        append(log, batch(value))
        log.roll(NOW_MS)
    log.sync()
    log.truncate_fully_and_start_at(1)
    environment.files.lose_power()
    again = open_log(environment, recovery_point=log.recovery_point)
    assert (again.log_start_offset, again.log_end_offset) == (1, 1)


def test_a_segment_that_a_killed_process_began_is_there_after_a_loss_of_power() -> None:
    """Its name was not durable when the process was killed, and the next process synced only what is in it: then it
    called durable what was gone with the name."""
    environment = memory_environment()
    log = open_log(environment)
    append(log, batch("a", "b"))
    log.sync()
    log.roll(NOW_MS)
    append(log, batch("c"))
    environment.files.kill()
    log = open_log(environment, recovery_point=2)
    assert log.log_end_offset == 3
    log.sync()
    assert log.recovery_point == 3
    environment.files.lose_power()
    assert values_of(open_log(environment, recovery_point=3)) == [(0, "a"), (1, "b"), (2, "c")]
