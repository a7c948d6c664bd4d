"""When the lag of groups is observed, and how long what was seen is exported."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from broadsheet_operator.handlers.lag_watch import LagWatch
from broadsheet_operator.kafka.lane import Lane
from broadsheet_operator.reconcilers.observed import Failure, LagQuery, LagView, TopicPartition
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.settings import OperatorSettings
from tests.support.fake_kafka import FakeKafka
from tests.support.waiting import until

QUERY = LagQuery(most_partitions=10, most_fetches=10)
NOTHING = LagView(groups=(), left_out=0, failed=0, logs=(), times={TopicPartition("orders", 0): {7: 1000}})
SETTINGS = OperatorSettings(lag_seconds=0.02)


def watching(
    observe: Callable[[LagQuery], LagView | Failure],
    test: Callable[[LagWatch], Coroutine[Any, Any, None]],
    query_for: Callable[[Any], LagQuery | None] = lambda times: QUERY,
) -> None:
    kafka = FakeKafka()
    kafka.observe_lag = observe  # type: ignore[method-assign]

    async def run() -> None:
        lane = Lane("lag", ("kafka:9092",), lambda servers: kafka)
        watch = LagWatch("paper/news", lane, query_for, SETTINGS)
        try:
            async with asyncio.timeout(30):
                await test(watch)
        finally:
            await watch.close()
            await asyncio.wrap_future(lane.close())

    asyncio.run(run())


def test_what_was_seen_stays_for_a_while_when_observations_fail() -> None:
    answers: list[LagView | Failure] = [NOTHING]

    async def test(watch: LagWatch) -> None:
        assert watch.view is None, "nothing was seen yet"
        await until(lambda: watch.view is not None, "a first observation")
        answers[0] = Failure(Reason.UNREACHABLE, "no broker answers")
        seen = watch.observed
        assert watch.view is NOTHING
        await until(lambda: watch.view is None, "what is too old")
        assert watch.observed is not None and seen is not None
        answers[0] = NOTHING
        await until(lambda: watch.view is NOTHING, "an observation")

    watching(lambda query: answers[0], test)


def test_an_exception_is_no_end() -> None:
    calls: list[int] = []

    def observe(query: LagQuery) -> LagView | Failure:
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("a bug")
        return NOTHING

    async def test(watch: LagWatch) -> None:
        await until(lambda: watch.view is NOTHING, "an observation")

    watching(observe, test)


def test_observations_take_a_tenth_of_the_time_at_most() -> None:
    began: list[float] = []

    def observe(query: LagQuery) -> LagView | Failure:
        began.append(time.monotonic())
        threading.Event().wait(0.1)  # for an answer that takes long
        return NOTHING

    async def test(watch: LagWatch) -> None:
        await until(lambda: len(began) == 2, "a second observation")
        assert began[1] - began[0] >= 0.1 + 0.9 * 9 * 0.1
        assert watch.view is NOTHING, "it is as old as its observations are rare"

    watching(observe, test)


def test_what_is_known_is_not_asked_for_again() -> None:
    asked: list[Any] = []

    def query_for(times: Any) -> LagQuery:
        asked.append(times)
        return QUERY

    async def test(watch: LagWatch) -> None:
        await until(lambda: len(asked) >= 2, "two queries")
        assert asked[:2] == [{}, NOTHING.times]

    watching(lambda query: NOTHING, test, query_for)


def test_nothing_is_observed_when_nothing_is_asked_for() -> None:
    queries: list[LagQuery | None] = [QUERY]
    asked, calls = [0], list[LagQuery]()

    def query_for(times: Any) -> LagQuery | None:
        asked[0] += 1
        return queries[0]

    def observe(query: LagQuery) -> LagView:
        calls.append(query)
        return NOTHING

    async def test(watch: LagWatch) -> None:
        await until(lambda: watch.view is not None, "an observation")
        queries[0] = None
        await until(lambda: watch.view is None, "the end")
        before, rounds = len(calls), asked[0]
        await until(lambda: asked[0] > rounds + 3, "some rounds")
        assert len(calls) == before

    watching(observe, test, query_for)
