"""A turn of the event loop that takes long is measured, and what held it up is named."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest
import uvloop

from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.loop_monitor import LoopMonitor, Turn, describe
from tests.support.waiting import until, wait_until

DEADLINE = 30.0
SLOW_MS = 20
NEVER_MS = 3_600_000

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def hold_the_loop_until(condition: Callable[[], bool]) -> None:
    """What no handler may do."""
    deadline = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < deadline:
        pass


def slow_turn(hold: Callable[[LoopMonitor], None], loop: Callable[[], asyncio.AbstractEventLoop]) -> Turn:
    """What is reported of a turn in which `hold` runs. A busy machine may make others slow."""

    async def run() -> Turn:
        environment = Environment(asyncio.get_running_loop())
        monitor = LoopMonitor(environment.loop, SLOW_MS, environment.work)
        sampled: list[Turn] = []

        def work() -> None:
            if monitor._sample is not None:  # of what was slow before this, in the same turn
                environment.loop.call_soon(work)
                return
            environment.work.name = "DescribeEverything"
            hold(monitor)
            assert monitor._sample is not None
            sampled.append(monitor._sample)

        monitor.start()
        try:
            environment.loop.call_soon(work)
            await until(lambda: sampled and sampled[0].wall > 0, "the turn to be reported", DEADLINE)
        finally:
            monitor.stop()
        assert monitor.slowest is not None and monitor.slowest.wall >= sampled[0].wall
        return sampled[0]

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(run())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_turn_that_is_held_up_is_reported_by_name(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    def hold(monitor: LoopMonitor) -> None:
        hold_the_loop_until(lambda: monitor._sample is not None)
        began = time.monotonic()
        hold_the_loop_until(lambda: time.monotonic() - began > SLOW_MS / 1000)

    turn = slow_turn(hold, loop)
    assert turn.request == "DescribeEverything"
    assert "test_loop_monitor.py:" in turn.stack
    assert turn.wall >= SLOW_MS / 1000
    assert 0 < turn.cpu <= turn.wall + 0.05


def test_what_waits_for_the_disk_takes_no_cpu() -> None:
    def hold(monitor: LoopMonitor) -> None:
        wait_until(lambda: monitor._sample is not None, "the stack to be taken", DEADLINE, every_s=0.001)
        time.sleep(SLOW_MS / 1000)

    turn = slow_turn(hold, uvloop.new_event_loop)
    assert turn.cpu < turn.wall


def test_many_slow_turns_are_few_warnings(caplog: pytest.LogCaptureFixture) -> None:
    clock = [1000.0]
    loop = asyncio.new_event_loop()
    environment = Environment(loop)
    environment.work.name = "DescribeEverything"
    monitor = LoopMonitor(loop, SLOW_MS, environment.work, lambda: clock[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            clock[0] += 0.0625
            monitor._note(0.0625, 0.0625)
    loop.close()
    assert monitor.slow_turns == 1000
    assert len(caplog.records) == 7
    assert "held up for 62 ms (CPU 62 ms); last request: DescribeEverything;" in caplog.text
    assert "slow turns since the last warning: 159" in caplog.records[-1].getMessage()


def test_the_longest_turn_is_forgotten_after_a_minute() -> None:
    clock = [1000.0]
    loop = asyncio.new_event_loop()
    environment = Environment(loop)
    monitor = LoopMonitor(loop, NEVER_MS, environment.work, lambda: clock[0])
    loop.close()
    monitor.register(environment.metrics)

    def longest() -> dict[str, float]:
        families = {family.name: family for family in environment.metrics.families()}
        samples = families["broadsheet_loop_longest_turn_seconds"].samples
        return {labels[0][1]: value for labels, value in samples}

    monitor._note(3.0, 0.5)
    clock[0] += 31
    monitor._note(0.001, 0.001)
    assert longest() == {"wall": 3.0, "cpu": 0.5}
    clock[0] += 31
    assert longest() == {"wall": 0.001, "cpu": 0.001}
    clock[0] += 100
    assert longest() == {"wall": 0.0, "cpu": 0.0}


def test_the_thread_ends_with_the_loop() -> None:
    loop = asyncio.new_event_loop()
    monitor = LoopMonitor(loop, SLOW_MS, Environment(loop).work)
    loop.close()
    monitor.start()
    thread = monitor._thread
    assert thread is not None
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_a_stack_of_compiled_code_is_empty() -> None:
    assert describe(None) == ""
