"""Sends the ISR proposals of this broker's leaders to the active controller, gathered into AlterPartition requests.

Proposals of one moment share a request, one request is in flight, and proposals that arrive meanwhile make up the next
(org.apache.kafka.server.AlterPartitionManager). Failures that say nothing about a partition (no leader of the quorum, a
lost connection, a stale broker epoch) are retried here; the partition is called back only with a decision.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol
from uuid import UUID

from broadsheet_broker.node.forwarding import Call, error_code
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import alter_partition_request as request
from broadsheet_broker.wire.messages.alter_partition_response import AlterPartitionResponse, PartitionData

logger = logging.getLogger(__name__)

VERSION: Final = 3
_LANE: Final = "isr"
_RETRY: Final = 0.05
_ATTEMPT: Final = 5.0
"""Seconds that one request may take before the next is built from what is still wanted."""
_AGAIN: Final = frozenset((ErrorCode.NOT_CONTROLLER, ErrorCode.STALE_BROKER_EPOCH, ErrorCode.REQUEST_TIMED_OUT))

Answered = Callable[[Any], None]


class Member(Protocol):
    @property
    def broker_id(self) -> int: ...

    @property
    def broker_epoch(self) -> int: ...


class Change(Protocol):
    """What replication.in_sync.IsrChange is."""

    @property
    def topic_id(self) -> UUID: ...

    @property
    def index(self) -> int: ...

    @property
    def leader_epoch(self) -> int: ...

    @property
    def partition_epoch(self) -> int: ...

    @property
    def isr(self) -> tuple[Any, ...]: ...

    @property
    def leader_recovery_state(self) -> int: ...


class IsrProposals:
    """Implements replication.in_sync.IsrChanges over orders to the active controller.

    `answer(leader, leader_epoch, partition_epoch, isr, leader_recovery_state)` makes what a partition is called with.
    """

    def __init__(
        self,
        environment: Environment,
        broker_id: int,
        broker_epoch: Callable[[], int],
        call: Call,
        answer: Callable[[int, int, int, tuple[int, ...], int], Any],
    ) -> None:
        self._environment = environment
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._call = call
        self._answer = answer
        self._waiting: dict[tuple[UUID, int], tuple[Change, Answered]] = {}
        self._task: asyncio.Task[None] | None = None

    def alter_partition(self, change: Any, answered: Answered) -> None:
        """Have one partition changed; exactly one callback follows, never inside the call.

        A newer proposal for a partition replaces one that was not sent yet, whose callback gets
        INVALID_UPDATE_VERSION.
        """
        key = (change.topic_id, change.index)
        older = self._waiting.get(key)
        if older is not None:
            self._environment.loop.call_soon(older[1], ErrorCode.INVALID_UPDATE_VERSION)
        self._waiting[key] = (change, answered)
        if self._task is None:
            self._task = self._environment.loop.create_task(self._send_all())

    def kill(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._send(batch)
        finally:
            self._task = None

    async def _send(self, batch: dict[tuple[UUID, int], tuple[Change, Answered]]) -> None:
        try:
            answer = await self._call(self._request(batch), AlterPartitionResponse, VERSION, _ATTEMPT, _LANE)
            code = error_code(answer.error_code)
        except KafkaError as error:
            code = error.code
        if code is not ErrorCode.NONE:
            if code not in _AGAIN:
                logger.warning("The controller refuses to change ISRs: %s", code.message)
            for key, entry in batch.items():
                if key in self._waiting:
                    self._call_back(entry[1], ErrorCode.INVALID_UPDATE_VERSION)
                else:
                    self._waiting[key] = entry
            await asyncio.sleep(_RETRY)
            return
        for topic in answer.topics:
            for row in topic.partitions:
                found = batch.pop((topic.topic_id, row.partition_index), None)
                if found is not None:
                    self._decided(found, row)
        for _, answered in batch.values():
            self._call_back(answered, ErrorCode.UNKNOWN_SERVER_ERROR)
        if self._waiting:
            await asyncio.sleep(0.001)  # let what comes at the same moment share the next request

    def _decided(self, entry: tuple[Change, Answered], row: PartitionData) -> None:
        code = error_code(row.error_code)
        if code is ErrorCode.NOT_CONTROLLER:
            self._environment.loop.call_later(_RETRY, self.alter_partition, *entry)
        elif code is not ErrorCode.NONE:
            self._call_back(entry[1], code)
        else:
            state = self._answer(
                row.leader_id, row.leader_epoch, row.partition_epoch, tuple(row.isr), row.leader_recovery_state
            )
            self._call_back(entry[1], state)

    def _call_back(self, answered: Answered, what: Any) -> None:
        try:
            answered(what)
        except Exception:
            logger.exception("The answer to a change of an ISR was not handled")

    def _request(self, batch: dict[tuple[UUID, int], tuple[Change, Answered]]) -> request.AlterPartitionRequest:
        topics: dict[UUID, request.TopicData] = {}
        for change, _ in batch.values():
            topic = topics.get(change.topic_id)
            if topic is None:
                topic = topics[change.topic_id] = request.TopicData(topic_id=change.topic_id)
            topic.partitions.append(
                request.PartitionData(
                    partition_index=change.index,
                    leader_epoch=change.leader_epoch,
                    new_isr_with_epochs=[
                        request.BrokerState(broker_id=member.broker_id, broker_epoch=member.broker_epoch)
                        for member in change.isr
                    ],
                    leader_recovery_state=change.leader_recovery_state,
                    partition_epoch=change.partition_epoch,
                )
            )
        return request.AlterPartitionRequest(
            broker_id=self._broker_id, broker_epoch=self._broker_epoch(), topics=list(topics.values())
        )
