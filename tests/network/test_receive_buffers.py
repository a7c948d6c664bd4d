"""Receive buffers are lent again exactly when no view of them is alive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.network.buffers import CHUNK, BufferPool, is_viewed


def test_a_buffer_is_lent_again_when_its_views_are_gone() -> None:
    pool = BufferPool()
    first = pool.acquire(10)
    assert len(first) == CHUNK
    piece = memoryview(first)[5:9][1:]
    pool.release(first)
    assert is_viewed(first)
    assert pool.acquire(10) is not first
    del piece
    assert not is_viewed(first)
    assert pool.acquire(10) is first
    assert len(first) == CHUNK


def test_the_pool_keeps_no_more_than_its_limit() -> None:
    pool = BufferPool(parked_limit=3 * CHUNK)
    buffers = [pool.acquire(1) for _ in range(5)]
    for buffer in buffers:
        pool.release(buffer)
    again = [pool.acquire(1) for _ in range(5)]
    assert sum(any(buffer is old for old in buffers) for buffer in again) == 3


@given(st.integers(min_value=0, max_value=400 * 1024 * 1024 // 1024))
def test_sizes_are_never_too_small_nor_far_too_large(kibibytes: int) -> None:
    size = kibibytes * 1024 // 64  # keep it quick: what matters are the steps
    length = len(BufferPool().acquire(size))
    assert size <= length <= max(CHUNK, size * 3 // 2 + CHUNK)
