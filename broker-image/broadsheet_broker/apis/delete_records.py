"""DeleteRecords (key 21): move the start of a log (KIP-107)."""

from __future__ import annotations

from functools import partial
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
    waits: list[tuple[Partition, int, DeleteRecordsPartitionResult]] = []
    for topic in request.body.topics:
        result = DeleteRecordsTopicResult(name=topic.name)
        response.topics.append(result)
        for wanted in topic.partitions:
            row = DeleteRecordsPartitionResult(partition_index=wanted.partition_index, low_watermark=-1)
            result.partitions.append(row)
            try:
                partition = _led(services, topic.name, wanted.partition_index)
                waits.append((partition, partition.delete_records_before(wanted.offset), row))
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
    """Waits until the followers have moved the starts of their logs too."""

    __slots__ = ("_loop", "_open", "_request", "_response", "_timer", "_waits")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request: Request[DeleteRecordsRequest],
        response: DeleteRecordsResponse,
        waits: list[tuple[Partition, int, DeleteRecordsPartitionResult]],
    ) -> None:
        self._loop = loop
        self._request = request
        self._response = response
        self._waits = waits
        self._open = len(waits)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, timeout_ms: int) -> None:
        for partition, offset, row in self._waits:
            row.error_code = ErrorCode.REQUEST_TIMED_OUT
            row.low_watermark = partition.low_watermark
            partition.on_low_watermark(offset, partial(self._deleted, partition, row))
        if self._open:
            self._timer = self._loop.call_later(max(timeout_ms, 0) / 1000, self._answer)
        elif not self._waits:
            self._answer()

    def _deleted(self, partition: Partition, row: DeleteRecordsPartitionResult, code: ErrorCode) -> None:
        if not self._open:
            return  # answered already: it took too long
        row.error_code = code
        row.low_watermark = -1 if code else partition.low_watermark
        self._open -= 1
        if not self._open:
            self._answer()

    def _answer(self) -> None:
        self._open = 0
        if self._timer is not None:
            self._timer.cancel()
        self._request.answer(self._response)
