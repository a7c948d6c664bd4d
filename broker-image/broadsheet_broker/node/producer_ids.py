"""Producer ids: a broker takes them from the active controller in blocks (KIP-730)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broadsheet_broker.node.forwarding import GiveOrder, error_code
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from broadsheet_broker.wire.messages.allocate_producer_ids_response import AllocateProducerIdsResponse


class ProducerIds:
    """The block of this broker."""

    def __init__(
        self, environment: Environment, broker_id: int, broker_epoch: Callable[[], int], order: GiveOrder
    ) -> None:
        self._environment = environment
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._order = order
        self._next = 0
        self._end = 0
        self._allocation: asyncio.Task[None] | None = None

    async def next(self) -> int:
        """A producer id that no other producer of the cluster gets."""
        while self._next >= self._end:
            if self._allocation is None:
                self._allocation = self._environment.loop.create_task(self._take_block())
            await asyncio.shield(self._allocation)
        self._next += 1
        return self._next - 1

    async def allocate(self) -> tuple[int, int]:
        """The first id of a new block, and how many there are."""
        request = AllocateProducerIdsRequest(broker_id=self._broker_id, broker_epoch=self._broker_epoch())
        answer = await self._order(request, AllocateProducerIdsResponse)
        if answer.error_code:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, error_code(answer.error_code).message)
        return answer.producer_id_start, answer.producer_id_len

    async def _take_block(self) -> None:
        try:
            first, count = await self.allocate()
            self._next, self._end = first, first + count
        finally:
            self._allocation = None
