"""Our relation to one Kafka cluster: gateways in threads of their own, and queues of what is to be reconciled there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

from broadsheet_operator.handlers.queues import BatchQueue
from broadsheet_operator.handlers.store import Key
from broadsheet_operator.kafka.gateway import KafkaGateway

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
GatewayFactory = Callable[[Sequence[str]], KafkaGateway]
Work = Callable[["Session", list[Key]], Awaitable[Mapping[Key, float | None]]]

TOPIC_LINGER_SECONDS = 0.02
"""A first Topic waits so long for others: a thousand applied at once become a few batches."""
GROUP_LINGER_SECONDS = 0.2
LARGEST_BATCH = 200


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
    """One Kafka cluster. Topics and groups have lanes of their own, so a slow look at lag delays no topic."""

    def __init__(
        self, cluster: Key, servers: Sequence[str], factory: GatewayFactory, topics: Work, groups: Work
    ) -> None:
        self.cluster = cluster
        self.servers = tuple(servers)
        self.topic_lane = Lane(f"topics {cluster}", servers, factory)
        self.group_lane = Lane(f"groups {cluster}", servers, factory)
        self.topics: BatchQueue[Key] = BatchQueue(
            f"topics of {cluster}",
            lambda batch: topics(self, batch),
            linger_seconds=TOPIC_LINGER_SECONDS,
            largest=LARGEST_BATCH,
        )
        self.groups: BatchQueue[Key] = BatchQueue(
            f"groups of {cluster}",
            lambda batch: groups(self, batch),
            linger_seconds=GROUP_LINGER_SECONDS,
            largest=LARGEST_BATCH,
        )

    async def close(self) -> None:
        await self.topics.close()
        await self.groups.close()
        await self.topic_lane.close()
        await self.group_lane.close()
