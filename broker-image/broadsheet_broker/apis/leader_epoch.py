"""OffsetForLeaderEpoch (key 23): where a leader epoch ended, so that readers detect truncation (KIP-320)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages.offset_for_leader_epoch_response import (
    EpochEndOffset,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.offset_for_leader_epoch_request import OffsetForLeaderEpochRequest


def _refuse(body: OffsetForLeaderEpochRequest, version: int, error: KafkaError) -> OffsetForLeaderEpochResponse:
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    EpochEndOffset(error_code=error.code, partition=data.partition) for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


@serves(23, "OffsetForLeaderEpoch", (2, 4), refuse=_refuse)
def offset_for_leader_epoch(services: Services, request: Request[OffsetForLeaderEpochRequest]) -> None:
    response = OffsetForLeaderEpochResponse()
    for topic in request.body.topics:
        result = OffsetForLeaderTopicResult(topic=topic.topic)
        response.topics.append(result)
        for wanted in topic.partitions:
            row = EpochEndOffset(partition=wanted.partition, leader_epoch=-1, end_offset=-1)
            result.partitions.append(row)
            try:
                partition = services.replicas.partition(topic.topic, wanted.partition)
                partition.check_leader(wanted.current_leader_epoch)
                row.leader_epoch, row.end_offset = partition.log.end_offset_for_epoch(wanted.leader_epoch)
            except KafkaError as error:
                row.error_code = error.code
    request.answer(response)
