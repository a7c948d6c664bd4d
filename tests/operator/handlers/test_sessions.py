"""What the operator has to do with one Kafka cluster is one session, whoever asks for it first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.kafka.lane import Lane
from broadsheet_operator.kubernetes import Kind
from broadsheet_operator.reconcilers.observed import Failure, GroupQuery, GroupView
from tests.operator.support import Stage
from tests.support.fake_kafka import FakeKafka
from tests.support.waiting import until


def test_two_that_find_other_bootstrap_servers_at_once_share_one_session() -> None:
    """A round of the Cluster and a Topic's way to it made one each: the first was never closed, and both worked on the
    same topics."""

    async def run() -> None:
        async with Stage() as stage:
            operator, cluster = stage.operator, ResourceKey("paper", "news")
            old = await operator._session_for(cluster, ("old:9092",))
            await old.cluster_lane.call(lambda gateway: None)
            one, other = await asyncio.gather(
                operator._session_for(cluster, ("new:9092",)), operator._session_for(cluster, ("new:9092",))
            )
            assert one is other is operator.sessions[cluster] and one is not old

    asyncio.run(run())


def test_a_look_at_lag_that_takes_long_does_not_hold_up_the_clusters_own_round() -> None:
    """The Cluster's round (restarts, drains, the quorum) had to wait in the groups' lane."""

    async def run() -> None:
        async with asyncio.timeout(30), Stage() as stage:
            looking, go_on = threading.Event(), threading.Event()

            def slow(queries: Mapping[str, GroupQuery]) -> dict[str, GroupView | Failure]:
                looking.set()
                go_on.wait(30)
                return {name: GroupView(name, False, "Dead") for name in queries}

            stage.kafka.observe_groups = slow  # type: ignore[method-assign]
            stage.apply("Cluster", "news", {"brokers": {"replicas": 1}})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            stage.apply("ConsumerGroup", "readers", {"cluster": "news"})
            try:
                await stage.until(looking.is_set, "a look at the group")
                async with asyncio.timeout(10):
                    await stage.operator.clusters.reconcile([ResourceKey("paper", "news")])
                    stage.apply("Topic", "orders", {"cluster": "news"})
                    await stage.reason(Kind.TOPIC, "orders", "Ready")
            finally:
                go_on.set()

    asyncio.run(run())


def test_a_lane_whose_end_is_no_longer_awaited_ends_nevertheless() -> None:
    """Its thread died of an InvalidStateError: the waiting task was cancelled, and the future with it."""

    async def run() -> None:
        begun, go_on = threading.Event(), threading.Event()
        kafka = FakeKafka()
        lane = Lane("test", ("a:1",), lambda servers: kafka)

        def slow(gateway: object) -> None:
            begun.set()
            assert go_on.wait(20)

        work = lane.submit(slow)
        await until(begun.is_set, "the lane to work")
        closed = lane.close()
        waiting = asyncio.ensure_future(asyncio.wrap_future(closed))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        go_on.set()
        work.result(20)
        assert closed.result(20) is None
        assert kafka.closed == 1

    asyncio.run(run())
