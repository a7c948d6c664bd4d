"""DeleteRecords (key 21): move the start of a log (KIP-107)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.apis.produce import INTERNAL_TOPICS
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.delete_records_response import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Rooms
    from broadsheet_broker.wire.messages.delete_records_request import DeleteRecordsRequest


@serves(21, "DeleteRecords", (0, 2))
def delete_records(rooms: Rooms, request: Request[DeleteRecordsRequest]) -> None:
    response = DeleteRecordsResponse()
    for topic in request.body.topics:
        result = DeleteRecordsTopicResult(name=topic.name)
        response.topics.append(result)
        for wanted in topic.partitions:
            row = DeleteRecordsPartitionResult(partition_index=wanted.partition_index, low_watermark=-1)
            result.partitions.append(row)
            try:
                row.low_watermark = _delete(rooms, topic.name, wanted.partition_index, wanted.offset)
            except KafkaError as error:
                row.error_code = error.code
    request.answer(response)


def _delete(rooms: Rooms, topic: str, index: int, offset: int) -> int:
    """Delete before `offset` (-1: the high watermark); the low watermark afterwards."""
    if topic in INTERNAL_TOPICS:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
    partition = rooms.replicas.partition(topic, index)
    partition.check_leader()
    if not partition.log.config.deletes:
        raise KafkaError(ErrorCode.POLICY_VIOLATION)
    return partition.delete_records_before(offset)
