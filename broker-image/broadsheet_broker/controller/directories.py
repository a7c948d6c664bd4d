"""In which of a broker's log directories a replica lives: AssignReplicasToDirs (KIP-858).

The controller must know it, so that it can have the partitions of a failed directory led elsewhere. What a broker with
one directory takes is written down with the assignment; one with several chooses, and reports it
(`node.directory_reports`). Both report a replica that was created again on a disk that took the place of another.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from broadsheet_broker.controller.brokers import check_epoch
from broadsheet_broker.controller.elections import replica_went, rules_of
from broadsheet_broker.controller.partition_change import Defaults, Target, change_partition
from broadsheet_broker.controller.plan import MAX_RECORDS, Plan
from broadsheet_broker.metadata.delta import merge_partition
from broadsheet_broker.metadata.image import NO_LEADER, BrokerInfo, ClusterImage, PartitionImage, TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import assign_replicas_to_dirs_request as asked
from broadsheet_broker.wire.messages import assign_replicas_to_dirs_response as answered
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord


def assign_replicas(
    image: ClusterImage, request: asked.AssignReplicasToDirsRequest, defaults: Defaults
) -> Plan[answered.AssignReplicasToDirsResponse]:
    """Plan the directories that a broker reports; each replica is accepted or refused by itself.

    A replica in a directory that has failed since is led elsewhere from now on. A replica that started empty because
    its directory is lost leaves the ISR and the eligible replicas. If it is the last of them it stays without a
    directory, so that no replica follows an empty log before an operator decides it.
    """
    broker = check_epoch(image, request.broker_id, request.broker_epoch)
    plan = Plan(answered.AssignReplicasToDirsResponse())
    for directory in request.directories:
        rows = answered.DirectoryData(id=directory.id)
        for topic in directory.topics:
            results = answered.TopicData(topic_id=topic.topic_id)
            for row in topic.partitions:
                code = ErrorCode.NONE
                try:
                    if broker.log_dirs:
                        found = _find(image, topic.topic_id, row.partition_index, broker.id)
                        plan.records += _assign(image, found, row.partition_index, broker, directory.id, defaults)
                except KafkaError as error:
                    code = error.code
                results.partitions.append(answered.PartitionData(partition_index=row.partition_index, error_code=code))
            rows.topics.append(results)
        plan.answer.directories.append(rows)
    plan.records = plan.records[:MAX_RECORDS]
    return plan


def _find(image: ClusterImage, topic_id: UUID, index: int, broker: int) -> TopicImage:
    topic = image.topics_by_id.get(topic_id)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
    if not 0 <= index < len(topic.partitions):
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if broker not in topic.partitions[index].replicas:
        raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    return topic


def _assign(
    image: ClusterImage, topic: TopicImage, index: int, broker: BrokerInfo, directory: UUID, defaults: Defaults
) -> list[Any]:
    partition = topic.partitions[index]
    directories = [
        directory if id == broker.id else known
        for id, known in zip(partition.replicas, partition.directories, strict=True)
    ]
    change = None
    if directory not in broker.log_dirs:
        change = replica_went(image, topic, index, broker.id, defaults)
    elif _counts(partition, broker.id) and not broker.has_directory(partition) and len(partition.replicas) > 1:
        change = replica_went(image, topic, index, broker.id, defaults, lost_tail=True)
        if _counts(partition if change is None else merge_partition(partition, change), broker.id):
            return [] if change is None else [change]
    elif partition.leader == NO_LEADER and partition.replicas == (broker.id,) and broker.is_active:
        # Its directory was another one: a disk was replaced, and no other replica has what is lost.
        rules = rules_of(image, topic.name, defaults)
        change = change_partition(topic.id, index, partition, Target(), rules, lambda id: id == broker.id)
    if change is None and tuple(directories) == partition.directories:
        return []
    change = change or PartitionChangeRecord(partition_id=index, topic_id=topic.id)
    change.directories = directories
    return [change]


def _counts(partition: PartitionImage, id: int) -> bool:
    """Whether a replica may be elected cleanly, or as the last that led."""
    return id in partition.isr or id in partition.elr or id in partition.last_known_elr
