"""What the operator has to do with one Kafka cluster is one session, whoever asks for it first."""

from __future__ import annotations

import asyncio

from broadsheet_operator.handlers.store import Key
from tests.operator.support import Stage


def test_two_that_find_other_bootstrap_servers_at_once_share_one_session() -> None:
    """A round of the Cluster and a Topic's way to it made one each: the first was never closed, and both worked on the
    same topics."""

    async def run() -> None:
        async with Stage() as stage:
            operator, cluster = stage.operator, Key("paper", "news")
            old = await operator._session_for(cluster, ("old:9092",))
            await old.topic_lane.call(lambda gateway: None)
            one, other = await asyncio.gather(
                operator._session_for(cluster, ("new:9092",)), operator._session_for(cluster, ("new:9092",))
            )
            assert one is other is operator.sessions[cluster] and one is not old

    asyncio.run(run())
