"""Who leads a partition: elections when brokers come and go, and ElectLeaders (KIP-460).

A leader is taken from the in-sync replicas on active brokers, in the order of the replica list; from the eligible ones
when none is in sync (KIP-966). A replica that is neither is elected only when the topic allows it
(unclean.leader.election.enable) or the operator asks for it. One whose log directory its broker has lost is never
elected: its log would start empty, and all others would follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from broadsheet_broker.controller import eligible_replicas
from broadsheet_broker.controller.partition_change import Defaults, Election, Rules, Target, change_partition
from broadsheet_broker.controller.plan import Plan
from broadsheet_broker.metadata.image import (
    NO_LEADER,
    ClusterImage,
    PartitionImage,
    ResourceType,
    TopicImage,
)
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

UNCLEAN_KEY: Final = "unclean.leader.election.enable"


_DEFAULTS: Final = Defaults()


def rules_of(image: ClusterImage, topic: str, defaults: Defaults) -> Rules:
    """The rules for elections of a topic: its own values, then those of all brokers, then the configuration's."""
    own = image.config(ResourceType.TOPIC, topic)
    shared = image.config(ResourceType.BROKER, "")
    unclean = own.get(UNCLEAN_KEY, shared.get(UNCLEAN_KEY))
    min_isr = own.get(eligible_replicas.MIN_ISR, shared.get(eligible_replicas.MIN_ISR))
    return Rules(
        unclean=defaults.unclean if unclean is None else unclean.strip().lower() == "true",
        min_isr=defaults.min_isr if min_isr is None else int(min_isr),
        eligible_leader_replicas=eligible_replicas.is_on(image),
    )


def broker_went(
    image: ClusterImage, broker: int, defaults: Defaults = _DEFAULTS, *, lost_tail: bool = False
) -> Iterator[PartitionChangeRecord]:
    """Changes when a broker is fenced, registers again or shuts down: it leads nothing, and leaves each ISR of which it
    is not the last member.

    `lost_tail`: it came back from an unclean stop, so it is no longer an eligible replica (KIP-966).
    """

    for topic, index, partition in _partitions(image):
        if broker in partition.isr or partition.leader == broker or (lost_tail and broker in partition.elr):
            change = replica_went(image, topic, index, broker, defaults, lost_tail=lost_tail)
            if change is not None:
                yield change


def replica_went(
    image: ClusterImage, topic: TopicImage, index: int, broker: int, defaults: Defaults, *, lost_tail: bool = False
) -> PartitionChangeRecord | None:
    """The change when a broker can no longer serve its replica."""
    partition = topic.partitions[index]
    target = Target(isr=[id for id in partition.isr if id != broker], lost_tail=(broker,) if lost_tail else ())

    def is_acceptable(id: int) -> bool:
        return id != broker and may_lead(image, partition, id)

    return change_partition(topic.id, index, partition, target, rules_of(image, topic.name, defaults), is_acceptable)


def broker_came(image: ClusterImage, broker: int, defaults: Defaults = _DEFAULTS) -> Iterator[PartitionChangeRecord]:
    """Changes when a broker is unfenced: it leads what has no leader and may be led by it."""
    for topic, index, partition in _partitions(image):
        if partition.leader == NO_LEADER and broker in partition.replicas:
            change = elect_leader(image, topic, index, defaults, unfenced=broker)
            if change is not None:
                yield change


def elect_leader(
    image: ClusterImage,
    topic: TopicImage,
    index: int,
    defaults: Defaults,
    *,
    unfenced: int | None = None,
    election: Election | None = None,
) -> PartitionChangeRecord | None:
    """The change that gives a partition a leader; None when no other one can lead. `unfenced`: a broker
    that this batch of records unfences."""
    partition = topic.partitions[index]

    def is_acceptable(id: int) -> bool:
        if id == unfenced:
            return image.brokers[id].has_directory(partition)
        return may_lead(image, partition, id)

    rules = rules_of(image, topic.name, defaults)
    return change_partition(topic.id, index, partition, Target(), rules, is_acceptable, election=election)


def leads_any(image: ClusterImage, broker: int) -> bool:
    return any(partition.leader == broker for _, _, partition in _partitions(image))


def elect_where_allowed(image: ClusterImage, defaults: Defaults, topics: Iterable[str]) -> list[PartitionChangeRecord]:
    """Elections for partitions without leader after topics were allowed unclean ones."""
    changes = []
    for name in topics:
        topic = image.topics_by_name.get(name)
        for index, partition in enumerate(topic.partitions if topic is not None else ()):
            if topic is not None and partition.leader == NO_LEADER:
                change = elect_leader(image, topic, index, defaults)
                if change is not None:
                    changes.append(change)
    return changes


def rebalance_leaders(image: ClusterImage, most: int = 1000) -> list[PartitionChangeRecord]:
    """Give partitions back to their preferred leaders where those are in sync (auto.leader.rebalance.enable)."""
    changes: list[PartitionChangeRecord] = []
    for topic, index, partition in _partitions(image):
        preferred = partition.replicas[0]
        if (
            partition.leader not in (preferred, NO_LEADER)
            and preferred in partition.isr
            and may_lead(image, partition, preferred)
        ):
            changes.append(PartitionChangeRecord(partition_id=index, topic_id=topic.id, leader=preferred))
            if len(changes) == most:
                break
    return changes


def _partitions(image: ClusterImage) -> Iterator[tuple[TopicImage, int, PartitionImage]]:
    for topic in image.topics_by_id.values():
        for index, partition in enumerate(topic.partitions):
            yield topic, index, partition


def may_lead(image: ClusterImage, partition: PartitionImage, id: int) -> bool:
    """Whether the broker is active and has its replica (org.apache.kafka.controller.LeaderAcceptor)."""
    broker = image.brokers.get(id)
    return broker is not None and broker.is_active and broker.has_directory(partition)


def elect_leaders(image: ClusterImage, request: ElectLeadersRequest) -> Plan[ElectLeadersResponse]:
    """Plan the elections that an operator asks for; null topics means all, and then only changes are reported."""
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
    election = Election.PREFERRED if kind == PREFERRED else Election.UNCLEAN
    change = elect_leader(image, topic, index, _DEFAULTS, election=election)
    if kind == PREFERRED and (change is None or change.leader != preferred):
        raise KafkaError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE)
    if change is None or change.leader == NO_LEADER:
        raise KafkaError(ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE)
    return change
