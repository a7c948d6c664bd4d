"""The connection to one Kafka cluster: its lanes, and queues of what is to be reconciled there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.lag_watch import LagWatch, QueryFor
from broadsheet_operator.handlers.queues import BatchQueue
from broadsheet_operator.kafka.dependents import DependentKind
from broadsheet_operator.kafka.lane import GatewayFactory, Lane, Lanes
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

Work = Callable[[DependentKind, "Session", list[ResourceKey]], Awaitable[Mapping[ResourceKey, float | None]]]


class Session:
    """One Kafka cluster. Brokers and each kind of dependents have a lane: slow lag queries delay no topic or drain."""

    def __init__(
        self,
        cluster: ResourceKey,
        servers: Sequence[str],
        factory: GatewayFactory,
        kinds: Sequence[DependentKind],
        work: Work,
        settings: OperatorSettings = DEFAULTS,
        lag_query: QueryFor | None = None,
    ) -> None:
        """`work`: reconciles a batch of one kind. `lag_query`: which groups are observed for /metrics."""
        self.cluster = cluster
        self.servers = tuple(servers)
        self.lanes = Lanes(str(cluster), servers, factory)
        self.queues = {kind.name: self._queue(kind, work, settings) for kind in kinds}
        """By the name of the kind."""
        lane = self.lanes["lag"]
        self.lag = LagWatch(str(cluster), lane, lag_query, settings) if lag_query is not None else None

    def _queue(self, kind: DependentKind, work: Work, settings: OperatorSettings) -> BatchQueue[ResourceKey]:
        return BatchQueue(
            f"{kind.plural} of {self.cluster}",
            lambda batch: work(kind, self, batch),
            linger_seconds=kind.linger_seconds(settings),
            largest=settings.largest_batch,
            settings=settings,
        )

    @property
    def cluster_lane(self) -> Lane:
        """For the Cluster's own round: health, restarts, drains, the quorum."""
        return self.lanes["cluster"]

    def lane(self, kind: DependentKind) -> Lane:
        """For the resources of a kind."""
        return self.lanes[kind.plural]

    async def close(self) -> None:
        if self.lag is not None:
            await self.lag.close()
        for queue in self.queues.values():
            await queue.close()
        await asyncio.gather(*map(asyncio.wrap_future, self.lanes.close()))
