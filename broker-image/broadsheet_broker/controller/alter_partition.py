"""Plans AlterPartition: leaders propose an ISR, the controller decides (KIP-497, KIP-841, KIP-903)."""

from __future__ import annotations

from typing import Any

from broadsheet_broker.controller.brokers import check_epoch
from broadsheet_broker.controller.elections import may_lead, rules_of
from broadsheet_broker.controller.partition_change import RECOVERED, RECOVERING, Defaults, Target, change_partition
from broadsheet_broker.controller.plan import Plan
from broadsheet_broker.metadata.delta import merge_partition
from broadsheet_broker.metadata.image import ClusterImage, PartitionImage, TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import alter_partition_request as asked
from broadsheet_broker.wire.messages import alter_partition_response as answered

ANY_EPOCH = -1


def alter_partition(
    image: ClusterImage, request: asked.AlterPartitionRequest, version: int, defaults: Defaults
) -> Plan[answered.AlterPartitionResponse]:
    """Plan the changes of one leader's partitions; each is accepted or refused by itself."""
    check_epoch(image, request.broker_id, request.broker_epoch)
    plan = Plan(answered.AlterPartitionResponse())
    for rows in request.topics:
        topic = image.topics_by_id.get(rows.topic_id)
        results = answered.TopicData(topic_id=rows.topic_id)
        for row in rows.partitions:
            try:
                state, record = _alter(image, topic, request.broker_id, row, version, defaults)
            except KafkaError as error:
                results.partitions.append(
                    answered.PartitionData(partition_index=row.partition_index, error_code=error.code)
                )
                continue
            if record is not None:
                plan.records.append(record)
            results.partitions.append(_row_of(row.partition_index, state, request.broker_id))
        plan.answer.topics.append(results)
    return plan


def _row_of(index: int, state: PartitionImage, asking: int) -> answered.PartitionData:
    if state.leader != asking:
        # The change completed a reassignment that took the leader itself away.
        return answered.PartitionData(partition_index=index, error_code=ErrorCode.NEW_LEADER_ELECTED)
    return answered.PartitionData(
        partition_index=index,
        leader_id=state.leader,
        leader_epoch=state.leader_epoch,
        isr=list(state.isr),
        leader_recovery_state=state.leader_recovery_state,
        partition_epoch=state.partition_epoch,
    )


def _alter(
    image: ClusterImage,
    topic: TopicImage | None,
    leader: int,
    row: asked.PartitionData,
    version: int,
    defaults: Defaults,
) -> tuple[PartitionImage, Any]:
    """The partition after the change, and the record that makes it (None: it is so already)."""
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
    if not 0 <= row.partition_index < len(topic.partitions):
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    partition = topic.partitions[row.partition_index]
    members = (
        {member.broker_id: member.broker_epoch for member in row.new_isr_with_epochs}
        if version >= 3
        else dict.fromkeys(row.new_isr, ANY_EPOCH)
    )
    _check(partition, leader, row, members)
    _check_eligible(image, members)
    target = Target(isr=list(members), recovery_state=row.leader_recovery_state)
    record = change_partition(
        topic.id,
        row.partition_index,
        partition,
        target,
        rules_of(image, topic.name, defaults),
        lambda id: may_lead(image, partition, id),
    )
    return (partition, None) if record is None else (merge_partition(partition, record), record)


def _check(partition: PartitionImage, leader: int, row: asked.PartitionData, members: dict[int, int]) -> None:
    """Refuse a proposal that is out of date or impossible."""
    if row.leader_epoch > partition.leader_epoch or row.partition_epoch > partition.partition_epoch:
        raise KafkaError(ErrorCode.NOT_CONTROLLER)  # the leader knows more than this controller
    if row.leader_epoch < partition.leader_epoch:
        raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
    if leader != partition.leader:
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if row.partition_epoch < partition.partition_epoch:
        raise KafkaError(ErrorCode.INVALID_UPDATE_VERSION)
    if leader not in members or not set(members) <= set(partition.replicas):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    recovering = row.leader_recovery_state == RECOVERING
    if recovering and (len(members) > 1 or partition.leader_recovery_state == RECOVERED):
        raise KafkaError(ErrorCode.INVALID_REQUEST)


def _check_eligible(image: ClusterImage, members: dict[int, int]) -> None:
    """Refuse members that are fenced, are stopping, or were restarted since (stale broker epoch)."""
    for id, epoch in members.items():
        broker = image.brokers.get(id)
        if broker is None or not broker.is_active or epoch not in (ANY_EPOCH, broker.epoch):
            raise KafkaError(ErrorCode.INELIGIBLE_REPLICA)
