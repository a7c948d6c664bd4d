"""Lanes: one thread and one gateway for each kind of work with one cluster."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from broadsheet_operator.kafka.lane import Lane, Lanes
from tests.operator.support import FakeKafka

SECONDS = 30


class Factory:
    """Gateways, and in which threads they were made."""

    def __init__(self) -> None:
        self.made: list[FakeKafka] = []
        self.threads: list[int] = []
        self.fails = 0

    def __call__(self, servers: Sequence[str]) -> FakeKafka:
        if self.fails:
            self.fails -= 1
            raise OSError("no way there")
        self.made.append(FakeKafka())
        self.threads.append(threading.get_ident())
        return self.made[-1]


def test_calls_of_a_lane_run_one_after_the_other_in_a_thread_of_its_own() -> None:
    factory, done = Factory(), list[int]()
    lane = Lane("topics", ["a:1"], factory)
    futures = [lane.submit(lambda gateway, number: done.append(number), number) for number in range(10)]
    for future in futures:
        future.result(SECONDS)
    assert done == list(range(10))
    assert lane.submit(lambda gateway: threading.get_ident()).result(SECONDS) == factory.threads[0]
    assert factory.threads[0] != threading.get_ident() and len(factory.made) == 1
    lane.close().result(SECONDS)
    assert factory.made[0].closed == 1


def test_a_call_that_waits_holds_up_no_other_lane_and_no_close() -> None:
    factory, go_on = Factory(), threading.Event()
    lanes = Lanes("cluster/far", ["a:1"], factory)
    waiting = lanes["topics"].submit(lambda gateway: go_on.wait(SECONDS))
    try:
        assert lanes["groups"].submit(lambda gateway: 7).result(SECONDS) == 7
        closed = lanes.close()
        assert not all(future.done() for future in closed), "the one that waits is closed when it is through"
        with pytest.raises(RuntimeError, match="closed"):
            lanes["topics"].submit(lambda gateway: 8)
        with pytest.raises(RuntimeError, match="closed"):
            _ = lanes["another"]
    finally:
        go_on.set()
    assert waiting.result(SECONDS)
    for future in closed:
        future.result(SECONDS)
    assert [kafka.closed for kafka in factory.made] == [1, 1]


def test_what_a_call_raises_reaches_its_caller_and_the_next_one_has_a_gateway() -> None:
    factory = Factory()
    factory.fails = 1
    lane = Lane("topics", ["a:1"], factory)
    with pytest.raises(OSError, match="no way there"):
        lane.submit(lambda gateway: 1).result(SECONDS)
    assert lane.submit(lambda gateway: 2).result(SECONDS) == 2
    lane.close().result(SECONDS)


def test_a_lane_that_was_never_used_closes_without_a_thread() -> None:
    factory = Factory()
    Lane("topics", ["a:1"], factory).close().result(SECONDS)
    assert factory.made == []
