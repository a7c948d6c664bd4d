"""Plans CreateTopics, DeleteTopics and CreatePartitions (KIP-4, KIP-195, KIP-516).

Pure planners: they read an image and return records and an answer. The rules and the texts of refusals are those of
Kafka's ReplicationControlManager, because people and tools search for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from broadsheet_broker.config.internal_topics import CLUSTER_METADATA_TOPIC
from broadsheet_broker.controller.names import name_problem
from broadsheet_broker.controller.placement import ReplicaPlacer, UsableBroker
from broadsheet_broker.controller.plan import Context, Plan
from broadsheet_broker.metadata.image import ClusterImage, ResourceType, TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.create_partitions_request import CreatePartitionsRequest, CreatePartitionsTopic
from broadsheet_broker.wire.messages.create_partitions_response import (
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.create_topics_response import CreatableTopicResult, CreateTopicsResponse
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest
from broadsheet_broker.wire.messages.delete_topics_response import DeletableTopicResult, DeleteTopicsResponse
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.remove_topic_record import RemoveTopicRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from broadsheet_broker.wire.primitives import ZERO_UUID

MAX_NEW_PARTITIONS: Final = 10_000
"""Partitions that one request may create."""


def create_topics(context: Context, request: CreateTopicsRequest) -> Plan[CreateTopicsResponse]:
    """Plan all topics of a request; each is created or refused by itself, and all of them in one batch."""
    plan = Plan(CreateTopicsResponse())
    wanted, duplicates = _once_each(request.topics, lambda topic: topic.name)
    total = sum(_new_partitions(context, topic) for topic in wanted)
    for topic in wanted:
        try:
            if total > MAX_NEW_PARTITIONS:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION,
                    f"Excessively large number of partitions per request: {total} partitions, and "
                    f"{MAX_NEW_PARTITIONS} are allowed.",
                )
            records, result = _create_topic(context, topic)
            plan.records += records
            plan.answer.topics.append(result)
        except KafkaError as error:
            plan.answer.topics.append(_not_created(topic.name, error.code, error.message))
    for name in duplicates:
        plan.answer.topics.append(_not_created(name, ErrorCode.INVALID_REQUEST, "Duplicate topic name."))
    if request.validate_only:
        plan.records = []
    return plan


def _not_created(name: str, code: ErrorCode, message: str | None) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=code, error_message=message)


def _new_partitions(context: Context, topic: CreatableTopic) -> int:
    if topic.assignments:
        return len(topic.assignments)
    return context.num_partitions if topic.num_partitions == -1 else max(topic.num_partitions, 0)


def _create_topic(context: Context, topic: CreatableTopic) -> tuple[list[Any], CreatableTopicResult]:
    name = topic.name
    if name in context.image.topics_by_name:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    _check_new_name(context, name)
    config = _creation_config(topic)
    context.validate_topic_config(config)
    assignments = _manual_assignments(context.image, topic) if topic.assignments else _placed(context, topic)
    topic_id = context.new_id()
    records: list[Any] = [TopicRecord(name=name, topic_id=topic_id)]
    records += (
        ConfigRecord(resource_type=ResourceType.TOPIC, resource_name=name, name=key, value=value)
        for key, value in config.items()
    )
    records += partition_records(context, topic_id, assignments, first=0)
    return records, CreatableTopicResult(
        name=name,
        topic_id=topic_id,
        error_message=None,
        num_partitions=len(assignments),
        replication_factor=len(assignments[0]),
    )


def _check_new_name(context: Context, name: str) -> None:
    problem = name_problem(name)
    if problem is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    if name == CLUSTER_METADATA_TOPIC:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited."
        )
    colliding = context.colliding(name)
    if colliding is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {colliding}")


def _creation_config(topic: CreatableTopic) -> dict[str, str]:
    without_value = [config.name for config in topic.configs if config.value is None]
    if without_value:
        names = ",".join(without_value)
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {names}")
    return {config.name: config.value for config in topic.configs if config.value is not None}


def _placed(context: Context, topic: CreatableTopic) -> list[list[int]]:
    """Replicas chosen by the controller."""
    if topic.replication_factor < -1 or topic.replication_factor == 0:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if topic.num_partitions < -1 or topic.num_partitions == 0:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    partitions = context.num_partitions if topic.num_partitions == -1 else topic.num_partitions
    factor = context.replication_factor if topic.replication_factor == -1 else topic.replication_factor
    return place(context, partitions, factor)


def place(context: Context, partitions: int, factor: int) -> list[list[int]]:
    """Replicas for new partitions, or KafkaError(INVALID_REPLICATION_FACTOR) with the reason."""
    brokers = usable_brokers(context.image)
    try:
        rotation = len(context.image.topics_by_name) + context.placed
        assignments = ReplicaPlacer(brokers, rotation).place(partitions, factor)
        context.placed += 1
    except KafkaError as error:
        raise KafkaError(error.code, f"Unable to replicate the partition {factor} time(s): {error.message}") from None
    for replicas in assignments:
        if not active(context.image, replicas):
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"Unable to replicate the partition {factor} time(s): "
                "All brokers are currently fenced or in controlled shutdown.",
            )
    return assignments


def usable_brokers(image: ClusterImage) -> list[UsableBroker]:
    """Brokers that can be given replicas: all that have a log directory which is not cordoned."""
    return [
        UsableBroker(broker.id, broker.rack, not broker.is_active)
        for broker in image.brokers.values()
        if broker.cordoned_log_dirs is None or set(broker.log_dirs) - set(broker.cordoned_log_dirs)
    ]


def active(image: ClusterImage, replicas: Sequence[int]) -> list[int]:
    """The replicas on brokers that may be in an ISR."""
    return [id for id in replicas if id in image.brokers and image.brokers[id].is_active]


def _manual_assignments(image: ClusterImage, topic: CreatableTopic) -> list[list[int]]:
    """Replicas as the request lists them, in the order of partitions."""
    if topic.replication_factor != -1:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    if topic.num_partitions != -1:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    found: dict[int, list[int]] = {}
    for assignment in topic.assignments:
        index, replicas = assignment.partition_index, assignment.broker_ids
        if index in found:
            raise _bad_assignment(f"Found multiple manual partition assignments for partition {index}")
        factor = len(next(iter(found.values()))) if found else None
        check_manual_assignment(image, replicas, factor, index)
        found[index] = replicas
    if sorted(found) != list(range(len(found))):
        raise _bad_assignment("partitions should be a consecutive 0-based integer sequence")
    return [found[index] for index in range(len(found))]


def check_manual_assignment(image: ClusterImage, replicas: Sequence[int], factor: int | None, index: int) -> None:
    """Raise KafkaError(INVALID_REPLICA_ASSIGNMENT) unless a partition can have these replicas."""
    prefix = "The manual partition assignment includes"
    if not replicas:
        raise _bad_assignment(f"{prefix} an empty replica list.")
    previous = None
    for broker in sorted(replicas):
        if broker not in image.brokers:
            raise _bad_assignment(f"{prefix} broker {broker}, but no such broker is registered.")
        if broker == previous:
            raise _bad_assignment(f"{prefix} the broker {broker} more than once.")
        previous = broker
    if factor is not None and len(replicas) != factor:
        raise _bad_assignment(
            f"{prefix} a partition with {len(replicas)} replica(s), but this is not consistent with previous "
            f"partitions, which have {factor} replica(s)."
        )
    if not active(image, replicas):
        raise _bad_assignment(
            f"All brokers specified in the manual partition assignment for partition {index} are fenced or in "
            "controlled shutdown."
        )


def _bad_assignment(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)


def partition_records(
    context: Context, topic_id: UUID, assignments: Sequence[Sequence[int]], first: int
) -> list[PartitionRecord]:
    """New partitions, numbered from `first`, each led by its first active replica."""
    records = []
    for index, replicas in enumerate(assignments, first):
        isr = active(context.image, replicas)
        records.append(
            PartitionRecord(
                partition_id=index,
                topic_id=topic_id,
                replicas=list(replicas),
                isr=isr,
                leader=isr[0],
                leader_epoch=0,
                partition_epoch=0,
                directories=[context.directory_of(broker) for broker in replicas],
            )
        )
    return records


def delete_topics(image: ClusterImage, request: DeleteTopicsRequest) -> Plan[DeleteTopicsResponse]:
    """Plan the deletion of topics, given by name or, from version 6 on, by id."""
    plan = Plan(DeleteTopicsResponse())
    answers = plan.answer.responses

    def refuse(name: str | None, topic_id: UUID, code: ErrorCode, message: str | None = None) -> None:
        text = code.message if message is None else message
        answers.append(DeletableTopicResult(name=name, topic_id=topic_id, error_code=code, error_message=text))

    names: list[str] = list(request.topic_names)
    ids: list[UUID] = []
    for topic in request.topics:
        if topic.name is not None and topic.topic_id != ZERO_UUID:
            words = "You may not specify both topic name and topic id."
            refuse(topic.name, topic.topic_id, ErrorCode.INVALID_REQUEST, words)
        elif topic.name is not None:
            names.append(topic.name)
        elif topic.topic_id != ZERO_UUID:
            ids.append(topic.topic_id)
        else:
            words = "Neither topic name nor id were specified."
            refuse(None, ZERO_UUID, ErrorCode.INVALID_REQUEST, words)
    single_ids, duplicate_ids = _once_each(ids, lambda id: id)
    single_names, duplicate_names = _once_each(names, lambda name: name)
    for name in duplicate_names:
        refuse(name, ZERO_UUID, ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
    for topic_id in duplicate_ids:
        refuse(None, topic_id, ErrorCode.INVALID_REQUEST, "Duplicate topic id.")
    doomed: dict[UUID, TopicImage] = {}
    for topic_id in single_ids:
        found = image.topics_by_id.get(topic_id)
        if found is None:
            refuse(None, topic_id, ErrorCode.UNKNOWN_TOPIC_ID)
        else:
            doomed[topic_id] = found
    for name in single_names:
        found = image.topics_by_name.get(name)
        if found is None:
            refuse(name, ZERO_UUID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        elif found.id in doomed or found.id in duplicate_ids:
            doomed.pop(found.id, None)
            words = "The provided topic name maps to an ID that was already supplied."
            refuse(name, found.id, ErrorCode.INVALID_REQUEST, words)
        else:
            doomed[found.id] = found
    for found in doomed.values():
        plan.records.append(RemoveTopicRecord(topic_id=found.id))
        answers.append(DeletableTopicResult(name=found.name, topic_id=found.id, error_message=None))
    return plan


def create_partitions(context: Context, request: CreatePartitionsRequest) -> Plan[CreatePartitionsResponse]:
    """Plan more partitions for existing topics; their number never shrinks."""
    plan = Plan(CreatePartitionsResponse())
    wanted, duplicates = _once_each(request.topics, lambda topic: topic.name)
    for name in duplicates:
        plan.answer.results.append(
            CreatePartitionsTopicResult(
                name=name, error_code=ErrorCode.INVALID_REQUEST, error_message="Duplicate topic name."
            )
        )
    for topic in wanted:
        try:
            plan.records += _create_partitions(context, topic)
            plan.answer.results.append(CreatePartitionsTopicResult(name=topic.name, error_message=None))
        except KafkaError as error:
            plan.answer.results.append(
                CreatePartitionsTopicResult(name=topic.name, error_code=error.code, error_message=error.message)
            )
    if request.validate_only:
        plan.records = []
    return plan


def _create_partitions(context: Context, topic: CreatePartitionsTopic) -> list[PartitionRecord]:
    existing = context.image.topics_by_name.get(topic.name)
    if existing is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION.message)
    current = len(existing.partitions)
    if topic.count == current:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {current} partition(s).")
    if topic.count < current:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {current} partition(s); {topic.count} would not be an increase.",
        )
    additional = topic.count - current
    if additional > MAX_NEW_PARTITIONS:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"Excessively large number of partitions per request: {additional} partitions, and "
            f"{MAX_NEW_PARTITIONS} are allowed.",
        )
    factor = len(existing.partitions[0].replicas)
    if topic.assignments is None:
        return partition_records(context, existing.id, place(context, additional, factor), current)
    if len(topic.assignments) != additional:
        raise _bad_assignment(
            f"Attempted to add {additional} additional partition(s), but only {len(topic.assignments)} "
            "assignment(s) were specified."
        )
    assignments = [assignment.broker_ids for assignment in topic.assignments]
    for index, replicas in enumerate(assignments, current):
        check_manual_assignment(context.image, replicas, factor, index)
    return partition_records(context, existing.id, assignments, current)


def _once_each(items: Sequence[Any], key: Any) -> tuple[list[Any], list[Any]]:
    """The items whose key comes once, and the keys that come more often."""
    counts: dict[Any, int] = {}
    for item in items:
        counts[key(item)] = counts.get(key(item), 0) + 1
    return [item for item in items if counts[key(item)] == 1], [name for name, count in counts.items() if count > 1]
