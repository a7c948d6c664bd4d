"""Moving replicas between brokers: AlterPartitionReassignments and ListPartitionReassignments (KIP-455).

A reassignment first adds the new replicas; when all of them are in sync, the old ones go. On one node no partition can
get other replicas, so nothing is ever under way there: orders that change nothing succeed, others are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broadsheet_broker.controller.plan import Context, Plan
from broadsheet_broker.controller.topics import check_manual_assignment
from broadsheet_broker.metadata.image import ClusterImage, PartitionImage, TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.alter_partition_reassignments_request import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
)
from broadsheet_broker.wire.messages.alter_partition_reassignments_response import (
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from broadsheet_broker.wire.messages.list_partition_reassignments_request import ListPartitionReassignmentsRequest
from broadsheet_broker.wire.messages.list_partition_reassignments_response import (
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord


def alter_reassignments(
    context: Context, request: AlterPartitionReassignmentsRequest
) -> Plan[AlterPartitionReassignmentsResponse]:
    """Plan new replicas for partitions; null replicas cancel what is under way."""
    allowed = request.allow_replication_factor_change
    plan = Plan(AlterPartitionReassignmentsResponse(allow_replication_factor_change=allowed, error_message=None))
    for topic in request.topics:
        results = ReassignableTopicResponse(name=topic.name)
        for target in topic.partitions:
            result = ReassignablePartitionResponse(partition_index=target.partition_index, error_message=None)
            try:
                plan.records += _alter(context, topic.name, target, allow_factor_change=allowed)
            except KafkaError as error:
                result.error_code, result.error_message = error.code, error.message
            results.partitions.append(result)
        plan.answer.responses.append(results)
    return plan


def _alter(context: Context, name: str, target: ReassignablePartition, *, allow_factor_change: bool) -> list[Any]:
    topic = context.image.topics_by_name.get(name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {name}.")
    index = target.partition_index
    if not 0 <= index < len(topic.partitions):
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {name}:{index}.")
    partition = topic.partitions[index]
    if target.replicas is None:
        if not partition.is_reassigning:
            raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
        return [_revert(topic, index, partition)]
    check_manual_assignment(context.image, target.replicas, None, index)
    current = [id for id in partition.replicas if id not in partition.adding_replicas]
    if not allow_factor_change and len(current) != len(target.replicas):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor is changed from {len(current)} to {len(target.replicas)}",
        )
    adding = [id for id in target.replicas if id not in current]
    removing = [id for id in current if id not in target.replicas]
    if not adding and not removing:
        return _reorder(topic, index, partition, target.replicas)
    raise KafkaError(
        ErrorCode.UNSUPPORTED_VERSION,
        f"Moving the replicas of {name}-{index} to other brokers needs replication, which is not built yet.",
    )


def _reorder(topic: TopicImage, index: int, partition: PartitionImage, replicas: list[int]) -> list[Any]:
    """The same brokers, perhaps in another order of preference."""
    if tuple(replicas) == partition.replicas:
        return []
    directories = dict(zip(partition.replicas, partition.directories, strict=True))
    return [
        PartitionChangeRecord(
            partition_id=index,
            topic_id=topic.id,
            replicas=list(replicas),
            directories=[directories[id] for id in replicas],
        )
    ]


def _revert(topic: TopicImage, index: int, partition: PartitionImage) -> PartitionChangeRecord:
    """Back to the replicas from before the reassignment."""
    kept = [id for id in partition.replicas if id not in partition.adding_replicas]
    isr = [id for id in partition.isr if id in kept]
    if not isr:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Unable to revert partition assignment for {topic.name}:{index} because it would require an unclean "
            "leader election.",
        )
    directories = dict(zip(partition.replicas, partition.directories, strict=True))
    change = PartitionChangeRecord(
        partition_id=index,
        topic_id=topic.id,
        replicas=kept,
        directories=[directories[id] for id in kept],
        isr=isr,
        adding_replicas=[],
        removing_replicas=[],
    )
    if partition.leader not in isr:
        change.leader = isr[0]
    return change


def list_reassignments(
    image: ClusterImage, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """What is under way, of all topics or of those asked for."""
    response = ListPartitionReassignmentsResponse(error_message=None)
    wanted: Iterable[tuple[str, Iterable[int]]]
    if request.topics is None:
        wanted = ((topic.name, range(len(topic.partitions))) for topic in image.topics_by_name.values())
    else:
        wanted = ((topic.name, topic.partition_indexes) for topic in request.topics)
    for name, indexes in wanted:
        rows = []
        for index in indexes:
            partition = image.partition(name, index)
            if partition is not None and partition.is_reassigning:
                rows.append(
                    OngoingPartitionReassignment(
                        partition_index=index,
                        replicas=list(partition.replicas),
                        adding_replicas=list(partition.adding_replicas),
                        removing_replicas=list(partition.removing_replicas),
                    )
                )
        if rows:
            response.topics.append(OngoingTopicReassignment(name=name, partitions=rows))
    return response
