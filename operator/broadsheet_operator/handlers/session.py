"""The connection to one Kafka cluster: its lanes, and queues of what is to be reconciled there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from broadsheet_operator.handlers.queues import BatchQueue
from broadsheet_operator.handlers.store import Key
from broadsheet_operator.kafka.lane import GatewayFactory, Lane, Lanes
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

Work = Callable[["Session", list[Key]], Awaitable[Mapping[Key, float | None]]]


class Session:
    """One Kafka cluster. Topics, groups and brokers have a lane each: slow lag queries delay no topic and no drain."""

    def __init__(
        self,
        cluster: Key,
        servers: Sequence[str],
        factory: GatewayFactory,
        topics: Work,
        groups: Work,
        settings: OperatorSettings = DEFAULTS,
    ) -> None:
        self.cluster = cluster
        self.servers = tuple(servers)
        self._lanes = Lanes(str(cluster), servers, factory)
        self.topics: BatchQueue[Key] = BatchQueue(
            f"topics of {cluster}",
            lambda batch: topics(self, batch),
            linger_seconds=settings.topic_linger_seconds,
            largest=settings.largest_batch,
            settings=settings,
        )
        self.groups: BatchQueue[Key] = BatchQueue(
            f"groups of {cluster}",
            lambda batch: groups(self, batch),
            linger_seconds=settings.group_linger_seconds,
            largest=settings.largest_batch,
            settings=settings,
        )

    @property
    def cluster_lane(self) -> Lane:
        """For the Cluster's own round: health, restarts, drains, the quorum."""
        return self._lanes["cluster"]

    @property
    def topic_lane(self) -> Lane:
        """For Topics."""
        return self._lanes["topics"]

    @property
    def group_lane(self) -> Lane:
        """For ConsumerGroups."""
        return self._lanes["groups"]

    async def close(self) -> None:
        await self.topics.close()
        await self.groups.close()
        await asyncio.gather(*map(asyncio.wrap_future, self._lanes.close()))
