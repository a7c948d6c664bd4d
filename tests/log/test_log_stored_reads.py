"""Reads that only find where batches are stored: the same batches as those that are read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.log import Log, LogConfig
from tests.log.support import append, batch, open_log
from tests.support.memory_environment import memory_environment

SIZES = st.lists(st.integers(1, 6000), min_size=1, max_size=40)


def log_of(sizes: list[int]) -> Log:
    """Batches of these sizes of two records, in segments of 50 kB, with an index entry for each few of them."""
    log = open_log(memory_environment(), config=LogConfig(segment_bytes=50_000, index_interval_bytes=4096))
    for size in sizes:
        append(log, batch("a" * (size // 2), "b" * (size - size // 2)))
    return log


@given(SIZES, st.data())
def test_what_is_found_is_what_would_be_read(sizes: list[int], data: st.DataObject) -> None:
    log = log_of(sizes)
    end = log.log_end_offset
    for _ in range(10):
        offset = data.draw(st.integers(0, end - 1))
        limit = data.draw(st.sampled_from([end, *range(2, end, 2)]))
        most = data.draw(st.integers(0, 60_000))
        min_one = data.draw(st.booleans())
        read = log.read(offset, most, limit_offset=limit, min_one=min_one)
        log.segments.hints.clear()
        found = log.read(offset, most, limit_offset=limit, min_one=min_one, stored_from=1)
        if found.stored is not None:
            assert not found.data
            assert bytes(found.stored) == bytes(read.data)
        else:
            assert bytes(found.data) == bytes(read.data)
        assert found.next_offset == read.next_offset


def test_only_what_is_large_is_left_where_it_is_stored() -> None:
    log = log_of([5000] * 6)
    small = log.read(0, 9_000, stored_from=10_000)
    assert small.stored is None and len(small.data) > 5000
    large = log.read(0, 11_000, stored_from=10_000)
    assert large.stored is not None and large.next_offset == 4


def test_a_large_first_batch_is_found_without_being_read() -> None:
    log = open_log(memory_environment())
    append(log, batch("x" * 500_000))
    found = log.read(0, 100_000, stored_from=65_536)
    assert found.stored is not None and len(found.stored) > 500_000
    assert found.next_offset == 1


def test_segments_that_retention_takes_away_are_sent_to_the_end() -> None:
    log = log_of([5000] * 30)
    found = log.read(0, 40_000, stored_from=1)
    assert found.stored is not None
    expected = bytes(found.stored)
    log.advance_log_start_offset(log.log_end_offset, log.log_end_offset)
    assert log.delete_old_segments(0, log.log_end_offset)
    log.segments.purge()
    assert bytes(found.stored) == expected
