"""Who leads a partition: elections when brokers come and go, and ElectLeaders (KIP-460).

A leader is taken from the in-sync replicas on active brokers, in the order of the replica list. A replica that is out
of sync is elected only when the topic allows it (unclean.leader.election.enable) or the operator asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import UUID

from broadsheet_broker.controller.plan import Plan
from broadsheet_broker.metadata.image import NO_LEADER, ClusterImage, PartitionImage, TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.elect_leaders_request import ElectLeadersRequest
from broadsheet_broker.wire.messages.elect_leaders_response import (
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord

PREFERRED: Final = 0
UNCLEAN: Final = 1

_RECOVERING: Final = 1
"""Leader recovery state after an unclean election (KIP-704)."""

IsActive = Callable[[int], bool]


def broker_went(image: ClusterImage, broker: int) -> Iterator[PartitionChangeRecord]:
    """Changes when a broker is fenced, registers anew or shuts down: it leads nothing, and leaves each ISR of which it
    is not the last member."""

    def is_active(id: int) -> bool:
        return id != broker and _active(image, id)

    for topic_id, index, partition in _partitions(image):
        isr = tuple(id for id in partition.isr if id != broker)
        if not isr:
            isr = partition.isr
        change = PartitionChangeRecord(partition_id=index, topic_id=topic_id)
        if isr != partition.isr:
            change.isr = list(isr)
        if partition.leader == broker:
            change.leader = _best(partition.replicas, isr, is_active)
        if isr != partition.isr or partition.leader == broker:
            yield change


def broker_came(image: ClusterImage, broker: int) -> Iterator[PartitionChangeRecord]:
    """Changes when a broker is unfenced: it leads what has no leader and counts it as in sync.

    Where eligible leader replicas are on (KIP-966; Apache Kafka switches them on), an ISR may be empty: then a replica
    of the ELR has every committed record as well. When that is empty too, the last replica that was known to be
    eligible leads, since no other will ever have more; it may have lost its tail, so the partition is recovering.
    """
    for topic_id, index, partition in _partitions(image):
        if partition.leader != NO_LEADER:
            continue
        change = PartitionChangeRecord(partition_id=index, topic_id=topic_id, leader=broker)
        if broker in partition.isr:
            yield change
        elif broker in partition.elr:
            change.isr = [*partition.isr, broker]
            change.eligible_leader_replicas = [id for id in partition.elr if id != broker]
            change.last_known_elr = []
            yield change
        elif not partition.isr and not partition.elr and partition.last_known_elr == (broker,):
            change.isr = [broker]
            change.last_known_elr = []
            change.leader_recovery_state = _RECOVERING
            yield change


def _partitions(image: ClusterImage) -> Iterator[tuple[UUID, int, PartitionImage]]:
    for topic in image.topics_by_id.values():
        for index, partition in enumerate(topic.partitions):
            yield topic.id, index, partition


def _active(image: ClusterImage, id: int) -> bool:
    broker = image.brokers.get(id)
    return broker is not None and broker.is_active


def _best(replicas: tuple[int, ...], isr: tuple[int, ...], is_active: IsActive) -> int:
    return next((id for id in replicas if id in isr and is_active(id)), NO_LEADER)


def elect_leaders(image: ClusterImage, request: ElectLeadersRequest) -> Plan[ElectLeadersResponse]:
    """Plan the elections that an operator asks for; null topics means all, of which only changes are told."""
    plan = Plan(ElectLeadersResponse())
    if request.election_type not in (PREFERRED, UNCLEAN):
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown election type {request.election_type}")
    everything = request.topic_partitions is None
    wanted: Iterator[tuple[str, Any]]
    if request.topic_partitions is None:
        wanted = ((topic.name, range(len(topic.partitions))) for topic in image.topics_by_name.values())
    else:
        wanted = ((topic.topic, topic.partitions) for topic in request.topic_partitions)
    for name, indexes in wanted:
        results = ReplicaElectionResult(topic=name)
        for index in indexes:
            try:
                plan.records.append(_elect(image, image.topics_by_name.get(name), name, index, request.election_type))
                results.partition_result.append(PartitionResult(partition_id=index, error_message=None))
            except KafkaError as error:
                if everything and error.code is ErrorCode.ELECTION_NOT_NEEDED:
                    continue
                results.partition_result.append(
                    PartitionResult(partition_id=index, error_code=error.code, error_message=error.message)
                )
        plan.answer.replica_election_results.append(results)
    return plan


def _elect(image: ClusterImage, topic: TopicImage | None, name: str, index: int, kind: int) -> PartitionChangeRecord:
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    if not 0 <= index < len(topic.partitions):
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}")
    partition = topic.partitions[index]
    preferred = partition.replicas[0]
    if partition.leader == preferred or (kind == UNCLEAN and partition.leader != NO_LEADER):
        raise KafkaError(ErrorCode.ELECTION_NOT_NEEDED)
    change = PartitionChangeRecord(partition_id=index, topic_id=topic.id)
    if kind == PREFERRED:
        if preferred not in partition.isr or not _active(image, preferred):
            raise KafkaError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE)
        change.leader = preferred
        return change
    change.leader = _best(partition.replicas, partition.isr, lambda id: _active(image, id))
    if change.leader == NO_LEADER:
        change.leader = _best(partition.replicas, partition.replicas, lambda id: _active(image, id))
        if change.leader == NO_LEADER:
            raise KafkaError(ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE)
        # Records that only the old ISR has are lost from here on; that is what was asked for.
        change.isr = [change.leader]
        change.leader_recovery_state = _RECOVERING
    return change
