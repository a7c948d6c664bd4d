"""Idempotent and transactional producers as a partition sees them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.log import COORDINATOR, Log, LogConfig
from broadsheet_broker.log.producer_state import ProducerState, SnapshotCorruptError, read_snapshot
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.records import CONTROL_ABORT, CONTROL_COMMIT, build_control_batch
from tests.log.support import NOW_MS, append, batch, open_log, values_of
from tests.support.memory_environment import memory_environment


def send(log: Log, sequence: int, epoch: int = 0, count: int = 1, **options: object) -> object:
    values = ["v"] * count
    return append(log, batch(*values, producer_id=1, producer_epoch=epoch, base_sequence=sequence, **options))


def code_of(log: Log, sequence: int, epoch: int = 0, **options: object) -> ErrorCode:
    end = log.log_end_offset
    with pytest.raises(KafkaError) as error:
        send(log, sequence, epoch, **options)
    assert log.log_end_offset == end
    return error.value.code


def test_a_batch_sent_twice_is_written_once_and_answered_alike() -> None:
    log = open_log(memory_environment())
    for sequence in range(0, 14, 2):
        send(log, sequence, count=2)
    for sequence in range(4, 14, 2):
        info = log.append_as_leader(batch("v", "v", producer_id=1, producer_epoch=0, base_sequence=sequence), 0, NOW_MS)
        assert (info.duplicate, info.first_offset, info.last_offset) == (True, sequence, sequence + 1)
    assert log.log_end_offset == 14
    assert code_of(log, 2) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER  # no longer remembered


def test_gaps_and_zombies_are_refused() -> None:
    log = open_log(memory_environment())
    send(log, 0, epoch=3)
    assert code_of(log, 2, epoch=3) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert code_of(log, 1, epoch=2) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert code_of(log, 1, epoch=4) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    send(log, 0, epoch=4)
    send(log, 1, epoch=4)
    assert log.log_end_offset == 3


def test_an_unknown_producer_may_begin_anywhere() -> None:
    log = open_log(memory_environment())
    send(log, 77)
    send(log, 78)
    assert code_of(log, 80) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_sequences_wrap_around() -> None:
    log = open_log(memory_environment())
    send(log, 2**31 - 2, count=2)
    send(log, 0)
    send(log, 1)
    assert log.producers.producers[1].last_sequence == 1


def test_a_batch_may_wrap_around_in_its_middle() -> None:
    log = open_log(memory_environment())
    send(log, 2**31 - 1, count=3)
    assert log.producers.producers[1].last_sequence == 1
    send(log, 2)


def test_idle_producers_are_forgotten() -> None:
    log = open_log(memory_environment())
    send(log, 0)
    log.producers.remove_expired(NOW_MS + 1000, 1001)
    assert log.producers.producers
    log.producers.remove_expired(NOW_MS + 1001, 1001)
    assert not log.producers.producers
    send(log, 50)


def marker(kind: int, epoch: int = 0, coordinator_epoch: int = 0) -> memoryview:
    value = struct.pack(">hi", 0, coordinator_epoch)
    return memoryview(
        build_control_batch(kind, value, timestamp=NOW_MS, producer_id=1, producer_epoch=epoch, transactional=True)
    )


def test_transactions_hold_back_the_last_stable_offset_until_they_are_decided_and_replicated() -> None:
    environment = memory_environment()
    log = open_log(environment)
    append(log, batch("before"))
    send(log, 0, count=2, transactional=True)
    append(log, batch("between"))
    assert log.last_stable_offset(4) == 1
    append(log, marker(CONTROL_ABORT), origin=COORDINATOR)
    assert log.last_stable_offset(4) == 1
    assert log.last_stable_offset(5) == 5
    (aborted,) = log.aborted_transactions(0, 5)
    assert (aborted.producer_id, aborted.first_offset, aborted.last_offset) == (1, 1, 4)
    assert log.aborted_transactions(5, 10) == []
    send(log, 2, transactional=True)
    append(log, marker(CONTROL_COMMIT), origin=COORDINATOR)
    assert log.last_stable_offset(7) == 7
    assert len(log.aborted_transactions(0, 7)) == 1
    environment.files.kill()
    again = open_log(environment)
    assert again.aborted_transactions(0, 7) == log.aborted_transactions(0, 7)
    assert again.last_stable_offset(7) == 7


def test_an_open_transaction_survives_a_restart() -> None:
    environment = memory_environment()
    log = open_log(environment)
    send(log, 0, transactional=True)
    log.close()
    again = open_log(environment, clean_shutdown=True)
    assert again.last_stable_offset(1) == 0
    assert code_of(again, 1) == ErrorCode.INVALID_TXN_STATE
    append(again, marker(CONTROL_COMMIT), origin=COORDINATOR)
    assert again.last_stable_offset(2) == 2


def test_a_transaction_that_could_not_be_written_never_began() -> None:
    environment = memory_environment()
    log = open_log(environment)
    append(log, batch("a"))
    environment.files.capacity = environment.files.used_bytes()
    with pytest.raises(KafkaError):
        send(log, 0, transactional=True)
    assert log.last_stable_offset(1) == 1
    assert not log.producers.producers
    environment.files.capacity = None
    send(log, 0, transactional=True)
    assert log.last_stable_offset(2) == 1


def test_truncation_forgets_an_abort() -> None:
    log = open_log(memory_environment(), config=LogConfig(index_interval_bytes=0))
    send(log, 0, transactional=True)
    append(log, marker(CONTROL_ABORT), origin=COORDINATOR)
    log.truncate_to(1)
    assert log.aborted_transactions(0, 5) == []
    assert log.last_stable_offset(1) == 0
    assert values_of(log) == [(0, "v")]


entries = st.lists(
    st.tuples(
        st.integers(0, 2**40),
        st.integers(0, 2**15 - 1),
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**40),
        st.booleans(),
    ),
    max_size=20,
    unique_by=lambda row: row[0],
)


@given(entries)
def test_snapshots_keep_every_producer(rows: list[tuple[int, int, int, int, bool]]) -> None:
    state = ProducerState()
    for producer_id, epoch, sequence, offset, transactional in rows:
        state.apply(producer_id, epoch, sequence, sequence, offset, offset, NOW_MS, transactional)
    other = ProducerState()
    other.load_snapshot(state.to_snapshot(), 5)
    assert other.end_offset == 5
    assert set(other.ongoing) == set(state.ongoing)
    for producer_id, entry in state.producers.items():
        loaded = other.producers[producer_id]
        assert (loaded.epoch, loaded.batches, loaded.transaction_first_offset) == (
            entry.epoch,
            entry.batches,
            entry.transaction_first_offset,
        )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_snapshot_or_an_error(data: bytes) -> None:
    with pytest.raises(SnapshotCorruptError):
        list(read_snapshot(data))
