"""Cycles are collected for the memory that they hold, though the collector is told to count to many objects."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from broadsheet_broker.seams.buffers import CHUNK, BufferPool
from broadsheet_broker.seams.memory import GROWN_BYTES, TAKEN_BYTES, MemoryWatch

MIB = 1024 * 1024


@pytest.fixture
def lazy_collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 50)
    yield
    gc.set_threshold(*before)


class Request:
    """Refers to itself, and to the buffer that it came in."""

    def __init__(self, buffer: bytearray) -> None:
        self.buffer = buffer
        self.me = self


@pytest.mark.usefixtures("lazy_collector")
def test_cycles_of_large_requests_are_collected_before_they_hold_much() -> None:
    pool = BufferPool(MemoryWatch(lambda: 0).took)
    made: list[weakref.ref[Request]] = []
    most = 0
    for _ in range(200):
        made.append(weakref.ref(Request(pool.acquire(MIB))))
        most = max(most, sum(request() is not None for request in made))
    assert most <= TAKEN_BYTES // MIB


class Process:
    """A process of a size, and what was collected in it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.collected: list[int] = []
        self.watch = MemoryWatch(lambda: self.size, self.collected.append)


def test_old_objects_are_looked_at_when_the_process_has_grown() -> None:
    process = Process(40 * MIB)
    process.watch.look()
    process.size += GROWN_BYTES + 1
    process.watch.look()
    assert process.collected == [2]
    process.watch.look()
    assert process.collected == [2], "it has reason to be so large: not again before it has grown again"
    process.size += GROWN_BYTES + 1
    process.watch.look()
    assert process.collected == [2, 2]


def test_a_large_process_is_looked_at_when_it_is_half_as_large_again() -> None:
    process = Process(1000 * MIB)
    process.size = 1499 * MIB
    process.watch.look()
    assert process.collected == []
    process.size = 1501 * MIB
    process.watch.look()
    assert process.collected == [2]


def test_what_is_taken_is_looked_at_in_time_when_nothing_more_comes() -> None:
    process = Process(40 * MIB)
    process.watch.took(MIB)
    assert process.collected == []
    process.watch.look()
    process.watch.look()
    assert process.collected == [1]


def test_a_buffer_that_is_lent_again_takes_no_memory() -> None:
    made: list[int] = []
    pool = BufferPool(made.append)
    for _ in range(10):
        pool.release(pool.acquire(1))
    assert made == [CHUNK]
