"""Moving replicas between brokers: AlterPartitionReassignments and ListPartitionReassignments (KIP-455).

A reassignment first adds the new replicas. When all of them are in sync, the old ones go: the AlterPartition with which
the leader takes the last new replica into the ISR is that step. Until then the reassignment can be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broadsheet_broker.controller.elections import may_lead, rules_of
from broadsheet_broker.controller.partition_change import Target, change_partition
from broadsheet_broker.controller.plan import Context, Plan
from broadsheet_broker.controller.topics import check_manual_assignment
from broadsheet_broker.metadata.image import ClusterImage, TopicImage
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
        return _revert(context, topic, index)
    check_manual_assignment(context.image, target.replicas, None, index)
    current = [id for id in partition.replicas if id not in partition.adding_replicas]
    if not allow_factor_change and len(current) != len(target.replicas):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor is changed from {len(current)} to {len(target.replicas)}",
        )
    merged = [*target.replicas, *(id for id in partition.replicas if id not in target.replicas)]
    change = Target(
        replicas=merged,
        adding=[id for id in target.replicas if id not in partition.replicas or id in partition.adding_replicas],
        removing=[id for id in partition.replicas if id not in target.replicas],
    )
    record = _change(context, topic, index, change)
    return [] if record is None else [record]


def _change(context: Context, topic: TopicImage, index: int, change: Target) -> PartitionChangeRecord | None:
    partition = topic.partitions[index]
    return change_partition(
        topic.id,
        index,
        partition,
        change,
        rules_of(context.image, topic.name, context.defaults),
        lambda id: may_lead(context.image, partition, id),
        directory_of=context.directory_of,
    )


def _revert(context: Context, topic: TopicImage, index: int) -> list[Any]:
    """Back to the replicas from before the reassignment."""
    partition = topic.partitions[index]
    kept = [id for id in partition.replicas if id not in partition.adding_replicas]
    isr = [id for id in partition.isr if id in kept]
    rules = rules_of(context.image, topic.name, context.defaults)
    if not isr and not rules.unclean:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Unable to revert partition assignment for {topic.name}:{index} because it would require an unclean "
            "leader election.",
        )
    record = _change(context, topic, index, Target(isr=isr, replicas=kept, adding=[], removing=[]))
    return [] if record is None else [record]


def list_reassignments(
    image: ClusterImage, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """The reassignments under way, of all topics or of those in the request."""
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
