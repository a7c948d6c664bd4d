"""The simulated loop is an asyncio loop whose time is virtual and whose runs repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.memory_files import MemoryFiles
from tests.support.simulated_loop import Simulation, SimulationStuck

Simulate = Callable[[int], Simulation]


def test_time_passes_only_when_nothing_is_left_to_do(simulate: Simulate) -> None:
    simulation = simulate(1)
    host = simulation.host("a")

    async def work() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - began

    assert simulation.run(host, work(), limit=4000) == 3600


def test_callbacks_run_in_the_order_of_planning(simulate: Simulate) -> None:
    simulation = simulate(1)
    host = simulation.host("a")
    order: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(2, order.append, "later")
        loop.call_later(1, order.append, "sooner")
        loop.call_later(1, order.append, "sooner, planned second").cancel()
        loop.call_soon(order.append, "soon")
        order.append("now")
        await asyncio.sleep(3)

    simulation.run(host, work())
    assert order == ["now", "soon", "sooner", "later"]


def test_asyncio_works_as_on_any_loop(simulate: Simulate) -> None:
    simulation = simulate(1)
    host = simulation.host("a")

    async def work() -> list[object]:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(5, event.set)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await event.wait()
        await asyncio.wait_for(event.wait(), 2)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(n, n)) for n in (3, 1, 2)]
        blocked = await asyncio.get_running_loop().run_in_executor(None, lambda: "blocked")
        return [*(task.result() for task in tasks), blocked]

    assert simulation.run(host, work()) == [3, 1, 2, "blocked"]


def trace(simulate: Simulate, seed: int) -> list[object]:
    """What happens on three hosts that talk and block."""
    simulation = simulate(seed)
    events: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(10):
            events.append((round(simulation.time, 9), data))
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            writer.write(data)
        writer.close()

    async def start() -> asyncio.AbstractServer:
        return await asyncio.start_server(serve, "a", 1000)

    async def talk(name: str) -> None:
        reader, writer = await asyncio.open_connection("a", 1000)
        for n in range(20):
            writer.write(f"{name}{n}".encode())
            await reader.read(100)
        writer.close()

    simulation.run(simulation.host("a"), start())
    with simulation.host("b").loop.running():
        simulation.host("b").loop.create_task(talk("b"))
    simulation.run(simulation.host("c"), talk("c"))
    simulation.run_for(10)
    return events


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(simulate: Simulate) -> None:
    assert trace(simulate, 5) == trace(simulate, 5)
    assert trace(simulate, 5) != trace(simulate, 6)


def test_what_a_killed_process_had_planned_does_not_happen(simulate: Simulate) -> None:
    simulation = simulate(1)
    host = simulation.host("a")
    done: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
            done.append("work")
        finally:
            done.append("cleanup")

    with host.loop.running():
        host.loop.create_task(work())
    host.loop.call_later(5, done.append, "timer")
    simulation.run_for(1)
    host.kill()
    host.loop.call_later(1, done.append, "next life")
    simulation.run_for(20)
    assert done == ["next life"]


def test_a_run_that_cannot_end_says_so(simulate: Simulate) -> None:
    simulation = simulate(1)
    host = simulation.host("a")

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(SimulationStuck, match="seed 1: nothing is due any more"):
        simulation.run(host, wait())

    async def tick() -> None:
        for _ in range(100):
            await asyncio.sleep(1)

    with pytest.raises(SimulationStuck, match="not done after 30 virtual seconds"):
        simulation.run(host, tick(), limit=30)


def test_a_failure_in_a_callback_fails_the_run(simulate: Simulate) -> None:
    simulation = simulate(1)
    host = simulation.host("a")
    host.loop.call_later(1, lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="seed 1") as caught:
        simulation.run(host, asyncio.sleep(5))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_hosts_have_clocks_and_chance_of_their_own(simulate: Simulate) -> None:
    simulation = simulate(1)
    one, other = (simulation.host(name).environment(MemoryFiles()) for name in "ab")
    simulation.host("b").clock_skew_ms = 2000
    simulation.run_for(1.5)
    assert other.clock.time_ms() - one.clock.time_ms() == 2000
    assert one.monotonic() == 1.5
    assert one.uuid() != other.uuid()
