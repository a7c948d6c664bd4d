"""Whether a partition takes an append now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition

ALL_ACKS = -1
CLIENT = "client"
IN_DOUBT = "Another broker may lead this partition by now; this one waits for the controller."


def check_append(partition: Partition, required_acks: int, origin: str = CLIENT) -> None:
    """Raise why nothing can be appended: this broker does not lead the partition, or too few replicas are in sync."""
    if not partition.is_leader:
        raise KafkaError(partition.retired or ErrorCode.NOT_LEADER_OR_FOLLOWER)
    if origin == CLIENT and partition.may_be_replaced:
        raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, IN_DOUBT)
    least = partition.effective_min_insync_replicas
    if required_acks == ALL_ACKS and len(partition.isr) < least:
        raise KafkaError(
            ErrorCode.NOT_ENOUGH_REPLICAS,
            f"The size of the current ISR {sorted(partition.isr)} is insufficient to satisfy the min.isr requirement "
            f"of {least} for partition {partition.topic}-{partition.index}",
        )
