"""A turn of the event loop that takes long is measured, and what held it up is named."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest
import uvloop

from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.loop_monitor import LoopMonitor, describe
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


def watch(
    work: Callable[[LoopMonitor, Environment], object], loop: Callable[[], asyncio.AbstractEventLoop]
) -> LoopMonitor:
    async def run() -> LoopMonitor:
        environment = Environment(asyncio.get_running_loop())
        monitor = LoopMonitor(environment.loop, SLOW_MS, environment.work)
        monitor.register(environment.metrics)
        monitor.start()
        try:
            environment.loop.call_soon(work, monitor, environment)
            await until(lambda: monitor.slowest is not None and monitor.slowest.stack != "")
        finally:
            monitor.stop()
        return monitor

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(run())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_turn_that_is_held_up_is_reported_by_name(
    loop: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    def hold(monitor: LoopMonitor, environment: Environment) -> None:
        environment.work.name = "DescribeEverything"
        hold_the_loop_until(lambda: monitor.sampling)
        began = time.monotonic()
        hold_the_loop_until(lambda: time.monotonic() - began > SLOW_MS / 1000)

    with caplog.at_level(logging.WARNING):
        monitor = watch(hold, loop)
    slowest = monitor.slowest
    assert slowest is not None and slowest.request == "DescribeEverything"
    assert "hold_the_loop_until" in slowest.stack
    assert slowest.wall >= SLOW_MS / 1000
    assert 0 < slowest.cpu <= slowest.wall + 0.05
    assert "last request: DescribeEverything" in caplog.text


def test_what_waits_for_the_disk_takes_no_cpu() -> None:
    def hold(monitor: LoopMonitor, environment: Environment) -> None:
        wait_until(lambda: monitor.sampling, "the stack to be taken", DEADLINE, every_s=0.001)
        time.sleep(SLOW_MS / 1000)

    slowest = watch(hold, uvloop.new_event_loop).slowest
    assert slowest is not None
    assert slowest.cpu < slowest.wall


def test_many_slow_turns_are_few_warnings(caplog: pytest.LogCaptureFixture) -> None:
    clock = [1000.0]
    loop = asyncio.new_event_loop()
    environment = Environment(loop)
    monitor = LoopMonitor(loop, SLOW_MS, environment.work, lambda: clock[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            clock[0] += 0.0625
            monitor._note(0.0625, 0.0625)
    loop.close()
    assert monitor.slow_turns == 1000
    assert len(caplog.records) == 7
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
