"""Dirty keys become batches; one operator holds the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from broadsheet_operator.handlers.lease import Lease, Seen, lead, may_take
from broadsheet_operator.handlers.queues import Backoff, BatchQueue
from broadsheet_operator.kubernetes import Kind, KubernetesError
from broadsheet_operator.settings import OperatorSettings
from tests.operator.support import FakeKubernetes


def test_back_off_doubles_up_to_its_bound_and_starts_again() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.failed("a") for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.failed("b") == 0.5
    backoff.succeeded("a")
    assert backoff.failed("a") == 0.5


class Worker:
    """Remembers its batches; answers what it is told to, once for each batch."""

    def __init__(self, *answers: Mapping[str, float | None] | Exception) -> None:
        self.batches: list[list[str]] = []
        self.answers = list(answers)
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, batch: list[str]) -> Mapping[str, float | None]:
        await self.gate.wait()
        self.batches.append(batch)
        self.changed.set()
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.batches) < count:
                self.changed.clear()
                await self.changed.wait()


def test_many_adds_are_one_batch_of_distinct_keys() -> None:
    async def scene() -> None:
        worker = Worker()
        queue = BatchQueue("test", worker, linger_seconds=0.01)
        for key in ("a", "b", "a", "c", "b"):
            queue.add(key)
        await worker.until(1)
        assert worker.batches == [["a", "b", "c"]]
        await queue.close()

    asyncio.run(scene())


def test_a_key_whose_work_takes_long_keeps_no_other_waiting() -> None:
    """A Cluster that nobody could reach made all the others wait for its timeouts."""

    async def scene() -> None:
        slow, changed = asyncio.Event(), asyncio.Event()
        done: list[str] = []

        async def work(batch: list[str]) -> Mapping[str, float | None]:
            assert len(batch) == 1
            if batch == ["slow"]:
                await slow.wait()
            done.extend(batch)
            changed.set()
            return {"often": 0.01} if batch == ["often"] and done.count("often") < 3 else {}

        async def until(wanted: list[str]) -> None:
            async with asyncio.timeout(10):
                while sorted(done) != wanted:
                    changed.clear()
                    await changed.wait()

        queue = BatchQueue("test", work, together=False)
        for key in ("slow", "often", "once"):
            queue.add(key)
        await until(["often", "often", "often", "once"])
        queue.add("slow")
        queue.add("slow")
        slow.set()
        await until(["often", "often", "often", "once", "slow", "slow"])
        await queue.close()

    asyncio.run(scene())


def test_a_key_added_while_it_is_worked_on_runs_once_more() -> None:
    async def scene() -> None:
        worker = Worker()
        worker.gate.clear()
        queue = BatchQueue("test", worker)
        queue.add("a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queue.add("a")
        queue.add("a")
        worker.gate.set()
        await worker.until(2)
        assert worker.batches == [["a"], ["a"]]
        await queue.close()

    asyncio.run(scene())


def test_large_batches_are_cut() -> None:
    async def scene() -> None:
        worker = Worker()
        queue = BatchQueue("test", worker, largest=2)
        for key in "abcde":
            queue.add(key)
        await worker.until(3)
        assert worker.batches == [["a", "b"], ["c", "d"], ["e"]]
        await queue.close()

    asyncio.run(scene())


def test_what_fails_comes_back_by_back_off_and_what_asks_comes_back_when_it_asks() -> None:
    async def scene() -> None:
        worker = Worker({"a": None}, RuntimeError("a defect"), {"b": 0.01})
        queue = BatchQueue("test", worker)
        queue._backoff = Backoff(0.01, 0.02)
        queue.add("a")
        await worker.until(3)
        assert worker.batches == [["a"], ["a"], ["a"]]
        queue.add("b", delay=0.01)
        queue.add("b", delay=5)
        await worker.until(4)
        assert worker.batches[3] == ["b"]
        queue.add("gone", delay=0.01)
        queue.forget("gone")
        queue.add("c", delay=0.03)
        await worker.until(5)
        assert worker.batches[4] == ["c"]
        await queue.close()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("spec", "age", "mine"),
    [
        ({}, 0.0, True),
        ({"holderIdentity": "", "leaseDurationSeconds": 1}, 0.0, True),
        ({"holderIdentity": "me", "leaseDurationSeconds": 15}, 0.0, True),
        ({"holderIdentity": "other", "leaseDurationSeconds": 15}, 14.0, False),
        ({"holderIdentity": "other", "leaseDurationSeconds": 15}, 15.0, True),
        ({"holderIdentity": "other"}, 14.0, False),
    ],
)
def test_who_may_take_a_lease(spec: dict[str, object], age: float, mine: bool) -> None:
    assert may_take(spec, "me", Seen("1", 100.0), 100.0 + age, 15.0) == mine


def test_one_leads_and_hands_over_when_it_ends() -> None:
    async def scene() -> None:
        api = FakeKubernetes()
        led: list[str] = []
        begun, end_of_first = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            led.append("first")
            begun.set()
            await end_of_first.wait()

        async def second() -> None:
            led.append("second")

        one = asyncio.create_task(lead(Lease(api, "l", "n", "one"), first))
        await begun.wait()
        assert not await Lease(api, "l", "n", "two").try_to_hold()
        end_of_first.set()
        await one
        assert api.one(Kind.LEASE, "l", "n")["spec"]["holderIdentity"] == ""
        await lead(Lease(api, "l", "n", "two"), second)
        assert led == ["first", "second"]
        assert api.one(Kind.LEASE, "l", "n")["spec"]["leaseTransitions"] == 1

    asyncio.run(scene())


def test_a_leader_that_cannot_renew_stops_before_another_may_start() -> None:
    quick = OperatorSettings(lease_retry_seconds=0.01, renew_deadline_seconds=0.05)

    async def scene() -> None:
        api = FakeKubernetes()
        ended: list[str] = []

        async def work() -> None:
            api.refuse = lambda verb, kind, name: KubernetesError(0, "Unreachable", "no answer")
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        async with asyncio.timeout(10):
            await lead(Lease(api, "l", "n", "one", quick), work)
        assert ended == ["cancelled"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"renew_deadline_seconds": 15.0}, "renew_deadline_seconds 15.0 must be less than lease_seconds 15.0"),
        ({"lease_retry_seconds": 10.0}, "lease_retry_seconds 10.0 must be less than renew_deadline_seconds 10.0"),
        ({"watch_seconds": 240}, "silent_watch_seconds 480.0 must be more than twice watch_seconds 240"),
    ],
)
def test_settings_that_would_have_two_leaders_or_kill_a_healthy_one_are_refused(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        OperatorSettings(**settings)


def test_a_failure_of_the_work_is_not_swallowed() -> None:
    async def work() -> None:
        raise RuntimeError("a defect")

    async def scene() -> None:
        with pytest.raises(RuntimeError, match="a defect"):
            await lead(Lease(FakeKubernetes(), "l", "n", "one"), work)

    asyncio.run(scene())
