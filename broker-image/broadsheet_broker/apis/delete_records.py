"""DeleteRecords (key 21): move the start of a log (KIP-107)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.config.internal_topics import INTERNAL_TOPICS
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.delete_records_response import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    import asyncio

    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.replication import Partition
    from broadsheet_broker.wire.messages.delete_records_request import DeleteRecordsRequest


def _refuse(body: DeleteRecordsRequest, version: int, error: KafkaError) -> DeleteRecordsResponse:
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[
                    DeleteRecordsPartitionResult(
                        partition_index=data.partition_index, low_watermark=-1, error_code=error.code
                    )
                    for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


@serves(21, "DeleteRecords", (0, 2), refuse=_refuse)
def delete_records(services: Services, request: Request[DeleteRecordsRequest]) -> None:
    response = DeleteRecordsResponse()
    waits: list[_Wait] = []
    for topic in request.body.topics:
        result = DeleteRecordsTopicResult(name=topic.name)
        response.topics.append(result)
        for wanted in topic.partitions:
            row = DeleteRecordsPartitionResult(partition_index=wanted.partition_index, low_watermark=-1)
            result.partitions.append(row)
            try:
                partition = _led(services, topic.name, wanted.partition_index)
                waits.append(_Wait(partition, partition.delete_records_before(wanted.offset), row))
            except KafkaError as error:
                row.error_code = error.code
    _Pending(services.environment.loop, request, response, waits).start(request.body.timeout_ms)


def _led(services: Services, topic: str, index: int) -> Partition:
    if topic in INTERNAL_TOPICS:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
    partition = services.replicas.partition(topic, index)
    partition.check_leader()
    if not partition.log.config.deletes:
        raise KafkaError(ErrorCode.POLICY_VIOLATION)
    return partition


class _Pending:
    """Waits until the followers have moved their log start offsets too."""

    __slots__ = ("_loop", "_open", "_request", "_response", "_timer", "_waits")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request: Request[DeleteRecordsRequest],
        response: DeleteRecordsResponse,
        waits: list[_Wait],
    ) -> None:
        self._loop = loop
        self._request = request
        self._response = response
        self._waits = waits
        self._open = len(waits)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, timeout_ms: int) -> None:
        waits = self._waits
        for wait in waits:
            wait.row.error_code = ErrorCode.REQUEST_TIMED_OUT
            wait.row.low_watermark = wait.partition.low_watermark
            wait.pending = self
            wait.partition.on_low_watermark(wait.offset, wait)
        if self._open:
            self._timer = self._loop.call_later(max(timeout_ms, 0) / 1000, self.answer)
            self._request.on_gone = self.answer
        elif not waits:
            self.answer()

    def deleted(self) -> None:
        """One of the partitions is done."""
        self._open -= 1
        if not self._open:
            self.answer()

    def answer(self) -> None:
        """Answer with the current state, and stop waiting."""
        waits, self._waits = self._waits, []
        for wait in waits:
            wait.pending = None
            wait.partition.stop_waiting_for_start(wait.offset, wait)
        if self._timer is not None:
            self._timer.cancel()
        self._request.answer(self._response)


class _Wait:
    """One partition of a pending DeleteRecords."""

    __slots__ = ("offset", "partition", "pending", "row")

    def __init__(self, partition: Partition, offset: int, row: DeleteRecordsPartitionResult) -> None:
        self.partition = partition
        self.offset = offset
        self.row = row
        self.pending: _Pending | None = None

    def __call__(self, code: ErrorCode) -> None:
        if self.pending is None:
            return  # answered already: it took too long
        self.row.error_code = code
        self.row.low_watermark = -1 if code else self.partition.low_watermark
        pending, self.pending = self.pending, None
        pending.deleted()
