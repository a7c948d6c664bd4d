"""The connection to one Kafka cluster: a gateway per thread, and queues of what is to be reconciled there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

from broadsheet_operator.handlers.queues import BatchQueue
from broadsheet_operator.handlers.store import Key
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
GatewayFactory = Callable[[Sequence[str]], KafkaGateway]
Work = Callable[["Session", list[Key]], Awaitable[Mapping[Key, float | None]]]


class Lane:
    """A gateway and the one thread that may use it. Made on first use, since its constructor may connect."""

    def __init__(self, name: str, servers: Sequence[str], factory: GatewayFactory) -> None:
        self._servers = tuple(servers)
        self._factory = factory
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._gateway: KafkaGateway | None = None

    async def call(self, function: Callable[[KafkaGateway, Unpack[Ts]], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, function, *arguments)

    def _call(self, function: Callable[[KafkaGateway, Unpack[Ts]], T], *arguments: *Ts) -> T:
        if self._gateway is None:
            self._gateway = self._factory(self._servers)
        return function(self._gateway, *arguments)

    async def close(self) -> None:
        def let_go() -> None:
            if self._gateway is not None:
                self._gateway.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, let_go)
        self._thread.shutdown(wait=False)


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
        self.topic_lane = Lane(f"topics {cluster}", servers, factory)
        self.group_lane = Lane(f"groups {cluster}", servers, factory)
        self.cluster_lane = Lane(f"brokers {cluster}", servers, factory)
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

    async def close(self) -> None:
        await self.topics.close()
        await self.groups.close()
        await self.topic_lane.close()
        await self.group_lane.close()
        await self.cluster_lane.close()
