"""Which replica a consumer should read from (KIP-392)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadsheet_broker.metadata.image import ClusterImage
    from broadsheet_broker.replication.partition import Partition

RACK_AWARE = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
NO_PREFERENCE = -1


def preferred_replica(partition: Partition, image: ClusterImage, listener: str, rack: str, fetch_offset: int) -> int:
    """A follower in the consumer's rack, if the leader is not there: the one that has most.

    Only followers in the ISR that hold the offset and can be reached on the consumer's listener come into question.
    """
    own = image.brokers.get(partition.broker_id)
    if own is not None and own.rack == rack:
        return NO_PREFERENCE
    best, best_rank = NO_PREFERENCE, (-1, -1)
    for follower in partition.followers.values():
        broker = image.brokers.get(follower.broker_id)
        if (
            broker is None
            or broker.fenced
            or broker.rack != rack
            or listener not in broker.endpoints
            or follower.broker_id not in partition.isr
            or not follower.log_start_offset <= fetch_offset <= follower.log_end_offset
        ):
            continue
        rank = follower.log_end_offset, follower.caught_up_ms
        if rank > best_rank:
            best, best_rank = follower.broker_id, rank
    return best
