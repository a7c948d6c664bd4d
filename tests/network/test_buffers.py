"""Buffers are lent again exactly when no view of them is alive."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.seams import LocalFiles
from broadsheet_broker.seams.buffers import CHUNK, BufferPool, is_viewed


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


def test_a_large_read_uses_the_memory_of_one_that_was_forgotten_and_no_other(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    content = bytes(range(256)) * 2048
    file = LocalFiles().open(path, create=True)
    file.append([content])
    first = file.read_shared(0, 300_000)
    second = file.read_shared(256, 300_000)
    assert first == content[:300_000]
    assert second == content[256:300_256]
    assert isinstance(first, memoryview)
    memory = first.obj
    part = first[7:9]
    del first
    assert file.read_shared(1, 300_000) == content[1:300_001]
    assert part == content[7:9], "a part that is kept keeps its memory"
    del part
    again = file.read_shared(len(content) - 100_000, 300_000)
    assert again == content[-100_000:], "shorter only at the end of the file"
    assert isinstance(again, memoryview)
    assert again.obj is memory
    file.close()
