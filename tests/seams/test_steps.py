"""Work in steps: one step of all the work in a turn of the loop, and no more room than the budget has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broadsheet_broker.seams.steps import Room, Steps, Stepwise, resumed, run_now


async def offload(function: Callable[[], object]) -> object:
    await asyncio.sleep(0)
    return function()


def test_one_step_of_all_the_work_happens_in_a_turn() -> None:
    seen: list[str] = []

    def work(name: str) -> Stepwise[str]:
        for _ in range(5):
            seen.append(name)
            yield None
        return name

    async def scenario() -> None:
        steps = Steps(asyncio.get_running_loop())
        most = turns = 0

        async def count() -> None:
            nonlocal most, turns
            while True:
                before = len(seen)
                await asyncio.sleep(0)
                turns += 1
                if turns > 3:  # each has begun with a step
                    most = max(most, len(seen) - before)

        counter = asyncio.ensure_future(count())
        assert await asyncio.gather(*(steps.run(work(name), offload) for name in "abc")) == ["a", "b", "c"]
        counter.cancel()
        assert most == 1
        assert seen[-3:] == ["a", "b", "c"], "in turn"

    asyncio.run(scenario())


def test_no_more_room_is_given_than_the_budget_has() -> None:
    async def scenario() -> None:
        steps = Steps(asyncio.get_running_loop(), room_bytes=100)
        most = 0

        def work(size: int) -> Stepwise[int]:
            nonlocal most
            yield Room(size, lambda: None)
            most = max(most, steps.taken)
            yield None
            yield Room(size // 2, None)
            most = max(most, steps.taken)
            yield None
            return size

        sizes = [60, 60, 10, 500, 90, 40]
        assert await asyncio.gather(*(steps.run(work(size), offload) for size in sizes)) == sizes
        assert 0 < most <= 100
        assert steps.taken == 0

    asyncio.run(scenario())


def test_a_room_of_no_more_than_is_held_does_not_wait_for_others() -> None:
    """Work that holds decompressed bytes would give their room away: 20 clients took 4 GB of a budget of 128 MiB."""

    async def scenario() -> None:
        steps = Steps(asyncio.get_running_loop(), room_bytes=100)
        holding = most = 0

        def work() -> Stepwise[None]:
            nonlocal holding, most
            yield Room(200, None)
            holding += 1
            most = max(most, holding)
            yield Room(200, lambda: None)
            yield Room(50, None)
            yield None
            holding -= 1

        await asyncio.gather(*(steps.run(work(), offload) for _ in range(5)))
        assert most == 1
        assert steps.taken == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", ["raise", "cancel waiting", "cancel given"])
def test_room_comes_back_whatever_happens(failure: str) -> None:
    async def scenario() -> None:
        steps = Steps(asyncio.get_running_loop(), room_bytes=100)

        def work() -> Stepwise[None]:
            yield Room(80, None)
            yield None
            if failure == "raise":
                raise ValueError
            while True:
                yield None

        def short() -> Stepwise[int]:
            yield Room(80, None)
            return 1

        first = asyncio.ensure_future(steps.run(work(), offload))
        second = asyncio.ensure_future(steps.run(work(), offload))
        third = asyncio.ensure_future(steps.run(short(), offload))
        for _ in range(3):
            await asyncio.sleep(0)
        if failure == "cancel given":  # the room of the first is given to the second, which is cancelled in that turn
            first.cancel()
            await asyncio.sleep(0)
            second.cancel()
        elif failure == "cancel waiting":
            second.cancel()
            await asyncio.sleep(0)
            first.cancel()
        else:
            await asyncio.wait([first])
        await asyncio.wait([first, second, third], timeout=5)
        assert third.result() == 1
        assert steps.taken == 0

    asyncio.run(scenario())


def test_a_failure_in_the_thread_is_the_caller_s() -> None:
    def fail() -> None:
        raise ValueError

    def work() -> Stepwise[None]:
        yield Room(1, fail)

    async def scenario() -> None:
        steps = Steps(asyncio.get_running_loop())
        with pytest.raises(ValueError):
            await steps.run(work(), offload)
        assert steps.taken == 0

    asyncio.run(scenario())


def test_work_without_a_loop_does_all_its_steps() -> None:
    ran: list[int] = []

    def work() -> Stepwise[int]:
        yield None
        yield Room(10, lambda: ran.append(1))
        yield Room(10, None)
        return len(ran)

    assert run_now(work()) == 1
    begun = work()
    rest: Any = resumed(begun, next(begun))
    assert run_now(rest) == 2
