"""DescribeProducers (key 61): the idempotent and transactional producers of a partition (KIP-664)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages.describe_producers_response import (
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.describe_producers_request import DescribeProducersRequest


def _refuse(body: DescribeProducersRequest, version: int, error: KafkaError) -> DescribeProducersResponse:
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[
                    PartitionResponse(partition_index=index, error_code=error.code, error_message=error.message)
                    for index in topic.partition_indexes
                ],
            )
            for topic in body.topics
        ]
    )


@serves(61, "DescribeProducers", (0, 0), refuse=_refuse)
def describe_producers(services: Services, request: Request[DescribeProducersRequest]) -> None:
    response = DescribeProducersResponse()
    for topic in request.body.topics:
        result = TopicResponse(name=topic.name)
        response.topics.append(result)
        for index in topic.partition_indexes:
            row = PartitionResponse(partition_index=index)
            result.partitions.append(row)
            try:
                row.active_producers = _producers(services, topic.name, index)
            except KafkaError as error:
                row.error_code = error.code
                row.error_message = error.message
    request.answer(response)


def _producers(services: Services, topic: str, index: int) -> list[ProducerState]:
    partition = services.replicas.partition(topic, index)
    partition.check_leader()
    return [
        ProducerState(
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            last_sequence=producer.last_sequence,
            last_timestamp=producer.last_timestamp,
            coordinator_epoch=producer.coordinator_epoch,
            current_txn_start_offset=producer.transaction_first_offset,
        )
        for producer in partition.log.producers.producers.values()
    ]
