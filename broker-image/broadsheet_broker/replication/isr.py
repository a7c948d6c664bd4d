"""How a leader proposes changes of its ISR, and what it makes of the controller's answers (kafka.cluster.Partition)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from broadsheet_broker.replication.in_sync import Follower, IsrAnswer, IsrAnswered, IsrChange, Member
from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broadsheet_broker.replication.partition import Partition

logger = logging.getLogger(__name__)

_REFUSED = (ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.INELIGIBLE_REPLICA)
"""The controller has changed nothing: the ISR is what it was."""
_OVERTAKEN = (
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.INVALID_UPDATE_VERSION,
    ErrorCode.INVALID_REQUEST,
    ErrorCode.NEW_LEADER_ELECTED,
)
"""The controller knows something newer, and the metadata will tell what: until then the cautious view stays."""


def about_to_join(partition: Partition, follower: Follower) -> bool:
    """A follower out of the ISR that keeps up: the high watermark waits for it, or it could never join."""
    if not follower.caught_up_ms and follower.log_end_offset < 0:
        return False
    cluster = partition.cluster
    return follower.is_caught_up(
        partition.flushed_end_offset, cluster.time_ms(), cluster.lag_ms
    ) and cluster.may_join_isr(follower.broker_id, follower.broker_epoch)


def propose_member(partition: Partition, follower: Follower) -> None:
    """Propose a follower for the ISR if it has all that is committed and all from before this leader."""
    end = follower.log_end_offset
    if (
        partition.pending_isr is None
        and partition.is_leader
        and end >= partition.high_watermark
        and end >= partition.epoch_start_offset
        and follower.broker_id not in partition.isr
        and partition.cluster.may_join_isr(follower.broker_id, follower.broker_epoch)
    ):
        isr = (*partition.isr, follower.broker_id)
        logger.info("%s-%d: %s joins the ISR %s", partition.topic, partition.index, follower.broker_id, partition.isr)
        partition.maximal_isr = isr
        _propose(partition, isr)


def propose_without_laggards(partition: Partition, now_ms: int) -> None:
    """Propose an ISR without the followers that have not caught up for `replica.lag.time.max.ms`."""
    end, lag_ms = partition.flushed_end_offset, partition.cluster.lag_ms
    stay: list[int] = []
    for replica in partition.isr:
        follower = partition.followers.get(replica)
        if replica == partition.broker_id or (follower is not None and follower.is_caught_up(end, now_ms, lag_ms)):
            stay.append(replica)
    if len(stay) < len(partition.isr):
        logger.info(
            "%s-%d: the ISR shrinks from %s to %s; the others have not had everything below offset %d for %d ms",
            *(partition.topic, partition.index, partition.isr, stay, end, lag_ms),
        )
        _propose(partition, stay)


def _propose(partition: Partition, isr: Sequence[int]) -> None:
    members = tuple(Member(replica, _epoch_of(partition, replica)) for replica in isr)
    change = IsrChange(partition.topic_id, partition.index, partition.leader_epoch, partition.partition_epoch, members)
    partition.pending_isr = change
    partition.cluster.alter_partition(change, _answered(partition, change))


def _epoch_of(partition: Partition, replica: int) -> int:
    if replica == partition.broker_id:
        return partition.cluster.broker_epoch(replica)
    follower = partition.followers.get(replica)
    return -1 if follower is None else follower.broker_epoch


def _answered(partition: Partition, change: IsrChange) -> IsrAnswered:
    def answered(outcome: IsrAnswer | ErrorCode) -> None:
        if partition.pending_isr is not change:
            return  # the metadata were faster
        if isinstance(outcome, IsrAnswer):
            _accepted(partition, outcome)
            return
        partition.cluster.isr_refused()
        if outcome in _REFUSED:
            logger.info("%s-%d: the ISR stays as it was: %s", partition.topic, partition.index, outcome.name)
            partition.commit_isr(partition.isr)
        elif outcome not in _OVERTAKEN:
            logger.warning("%s-%d: the ISR was not changed: %s", partition.topic, partition.index, outcome.name)
            partition.cluster.alter_partition_later(change, answered)

    return answered


def _accepted(partition: Partition, answer: IsrAnswer) -> None:
    if answer.leader_epoch != partition.leader_epoch or answer.partition_epoch < partition.partition_epoch:
        return  # older or newer than what we know: the metadata will tell
    if answer.partition_epoch > partition.partition_epoch and len(answer.isr) < len(partition.isr):
        # A smaller ISR is taken up with the metadata only, which have a larger min.insync.replicas from before it: the
        # controller relies on it that a replica which left it then has everything that is committed (KIP-966).
        return
    partition.cluster.isr_changed(len(answer.isr) - len(partition.isr))
    partition.partition_epoch = answer.partition_epoch
    partition.commit_isr(answer.isr)


def credit_followers(partition: Partition) -> None:
    """A follower that has everything had it when its broker fetched last, even if not this partition.

    (A quiet partition is left out of incremental fetches and answers.)
    """
    end = partition.flushed_end_offset
    seen = partition.cluster.last_fetch_ms
    for follower in partition.followers.values():
        if follower.log_end_offset == end:
            last = seen.get(follower.broker_id, 0)
            if last > follower.caught_up_ms:
                follower.caught_up_ms = last


def followers_of(partition: Partition, caught_up_ms: Mapping[int, int]) -> dict[int, Follower]:
    """The other replicas of a partition that is led here: those known stay, new ones count as caught up then."""
    known = partition.followers
    return {
        replica: known.get(replica) or Follower(replica, caught_up_ms.get(replica, 0))
        for replica in partition.replicas
        if replica != partition.broker_id
    }
