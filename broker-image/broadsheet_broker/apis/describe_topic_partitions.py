"""DescribeTopicPartitions (key 75): topics with all their partitions, in pages (KIP-966)."""

from __future__ import annotations

from broadsheet_broker.apis import authorized_operations
from broadsheet_broker.apis.metadata import described
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.config.internal_topics import is_internal
from broadsheet_broker.controller.names import name_problem
from broadsheet_broker.metadata.image import TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.describe_topic_partitions_request import DescribeTopicPartitionsRequest
from broadsheet_broker.wire.messages.describe_topic_partitions_response import (
    Cursor,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from broadsheet_broker.wire.messages.metadata_response import MetadataResponseTopic


def _refuse(body: DescribeTopicPartitionsRequest, version: int, error: KafkaError) -> DescribeTopicPartitionsResponse:
    topics = [DescribeTopicPartitionsResponseTopic(error_code=error.code, name=topic.name) for topic in body.topics]
    return DescribeTopicPartitionsResponse(topics=topics)


@serves(75, "DescribeTopicPartitions", (0, 0), refuse=_refuse, without=authorized_operations.UNCHECKED)
def describe_topic_partitions(services: Services, request: Request[DescribeTopicPartitionsRequest]) -> None:
    body = request.body
    image = services.metadata.image
    everything = not body.topics
    names = sorted(image.topics_by_name if everything else {topic.name for topic in body.topics})
    first, first_index = "", 0
    if body.cursor is not None:
        first, first_index = body.cursor.topic_name, body.cursor.partition_index
        if first_index < 0:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"DescribeTopicPartitionsRequest cursor partition must be valid: {first_index}",
            )
        names = [name for name in names if name >= first]
    left = max(min(services.config.get_int("max.request.partition.size.limit"), body.response_partition_limit), 1)
    answer = DescribeTopicPartitionsResponse()
    for name in names:
        if left == 0:
            answer.next_cursor = Cursor(topic_name=name, partition_index=0)
            break
        topic = image.topics_by_name.get(name)
        if topic is None:
            answer.topics.append(_unknown(name))
            continue
        start = first_index if name == first else 0
        end = min(start + left, len(topic.partitions))
        told = described(image, topic, request.connection.listener)
        answer.topics.append(_topic(topic, told, start, end))
        left -= max(end - start, 0)
        if end < len(topic.partitions):
            answer.next_cursor = Cursor(topic_name=name, partition_index=end)
            break
    request.answer(answer)


def _unknown(name: str) -> DescribeTopicPartitionsResponseTopic:
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if name_problem(name) is None else ErrorCode.INVALID_TOPIC_EXCEPTION
    return DescribeTopicPartitionsResponseTopic(error_code=code, name=name, is_internal=is_internal(name))


def _topic(
    topic: TopicImage, told: MetadataResponseTopic, start: int, end: int
) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.id,
        is_internal=told.is_internal,
        topic_authorized_operations=authorized_operations.TOPIC,
        partitions=[
            DescribeTopicPartitionsResponsePartition(
                error_code=row.error_code,
                partition_index=row.partition_index,
                leader_id=row.leader_id,
                leader_epoch=row.leader_epoch,
                replica_nodes=row.replica_nodes,
                isr_nodes=row.isr_nodes,
                eligible_leader_replicas=list(topic.partitions[row.partition_index].elr),
                last_known_elr=list(topic.partitions[row.partition_index].last_known_elr),
                offline_replicas=row.offline_replicas,
            )
            for row in told.partitions[start:end]
        ],
    )
