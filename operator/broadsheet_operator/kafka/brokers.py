"""Brokers and what they keep: the health of all partitions, where they are, how large; replicas moved."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from kafka.protocol.admin import (
    AlterPartitionReassignmentsRequest,
    DescribeConfigsRequest,
    DescribeLogDirsRequest,
    ListPartitionReassignmentsRequest,
)

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.topics import BATCH, TIMEOUT_MS, TOPIC_RESOURCE, Move, batches, metadata_request
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import (
    ClusterHealth,
    Failure,
    LackingPartition,
    LogDirectory,
    Storage,
    TopicPartition,
)
from broadsheet_operator.reconcilers.spreading import Placed

MIN_ISR = "min.insync.replicas"
NO_REASSIGNMENT_IN_PROGRESS = 85


def observe_health(wire: Wire) -> ClusterHealth | Failure:
    """How all partitions are."""
    answer = wire.ask_one(Call(metadata_request(None), "look at all partitions"))
    if isinstance(answer, Failure):
        return answer
    leaders: Counter[int] = Counter()
    replicas: Counter[int] = Counter()
    lacking: list[tuple[TopicPartition, Any]] = []
    single: dict[int, TopicPartition] = {}
    offline, internal = 0, []
    for topic in answer.topics:
        for p in topic.partitions:
            name = TopicPartition(topic.name, p.partition_index)
            if len(p.isr_nodes) < len(p.replica_nodes):
                lacking.append((name, p))
            if len(p.replica_nodes) == 1:
                single.setdefault(p.replica_nodes[0], name)
            if topic.is_internal:
                internal.append(len(p.replica_nodes))
            offline += p.leader_id < 0
            leaders[p.leader_id] += 1
            replicas.update(p.replica_nodes)
    minimum = _min_isr(wire, sorted({name.topic for name, _ in lacking}))
    if isinstance(minimum, Failure):
        return minimum
    return ClusterHealth(
        topics=sum(not t.is_internal for t in answer.topics),
        under_replicated=len(lacking),
        offline=offline,
        leaders=leaders,
        replicas=replicas,
        lacking=tuple(_lacking(name, p, minimum.get(name.topic, 1)) for name, p in lacking),
        single=single,
        internal_factor=min(internal, default=None),
    )


def _lacking(name: TopicPartition, p: Any, min_isr: int) -> LackingPartition:
    return LackingPartition(
        name=name,
        leader=p.leader_id if p.leader_id >= 0 else None,
        replicas=tuple(p.replica_nodes),
        isr=tuple(p.isr_nodes),
        min_isr=min(min_isr, len(p.replica_nodes)),
    )


def _min_isr(wire: Wire, topics: Sequence[str]) -> dict[str, int] | Failure:
    """min.insync.replicas of these topics, as in force."""
    resource = DescribeConfigsRequest.DescribeConfigsResource
    result: dict[str, int] = {}
    for some in batches(topics, BATCH):
        request = DescribeConfigsRequest(
            resources=[
                resource(resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=[MIN_ISR])
                for name in some
            ],
            include_synonyms=False,
            include_documentation=False,
        )
        answer = wire.ask_one(Call(request, "look at min.insync.replicas"))
        if isinstance(answer, Failure):
            return answer
        for entry in answer.results:
            found = next((c.value for c in entry.configs if c.name == MIN_ISR), None)
            if found is not None:
                result[entry.resource_name] = int(found)
    return result


def observe_placement(wire: Wire) -> tuple[Placed, ...] | Failure:
    """Every partition of every topic, with what is on the move."""
    listing = ListPartitionReassignmentsRequest(timeout_ms=TIMEOUT_MS, topics=None)
    metadata, moving = wire.ask(
        [Call(metadata_request(None), "look at all partitions"), Call(listing, "look at reassignments")]
    )
    if isinstance(metadata, Failure):
        return metadata
    if isinstance(moving, Failure):
        return moving
    failure = failure_of_code(moving.error_code, moving.error_message, "look at reassignments")
    if failure is not None:
        return failure
    moves = {
        TopicPartition(topic.name, p.partition_index): Move.of(p) for topic in moving.topics for p in topic.partitions
    }
    placed = []
    for topic in metadata.topics:
        for p in topic.partitions:
            name = TopicPartition(topic.name, p.partition_index)
            move, isr = moves.get(name, Move(tuple(p.replica_nodes))), tuple(p.isr_nodes)
            placed.append(Placed(name, move.replicas, isr, move.adding, move.removing, bool(topic.is_internal)))
    return tuple(sorted(placed, key=lambda p: p.name))


def observe_storage(wire: Wire, brokers: Sequence[int]) -> dict[int, Storage]:
    """What each broker keeps, and its disks; brokers that do not answer are left out."""
    answers = wire.ask([Call(DescribeLogDirsRequest(topics=None), "look at log directories", id) for id in brokers])
    return {
        id: _storage(answer) for id, answer in zip(brokers, answers, strict=True) if not isinstance(answer, Failure)
    }


def _storage(answer: Any) -> Storage:
    size = sum(p.partition_size for directory in answer.results for topic in directory.topics for p in topic.partitions)
    disks = (LogDirectory(d.log_dir, d.total_bytes, d.usable_bytes) for d in answer.results)
    # A directory that has failed, and one of a broker that does not know KIP-827, has -1.
    return Storage(size, tuple(disk for disk in disks if disk.capacity >= 0 and disk.available >= 0))


def move_replicas(
    wire: Wire, moves: Mapping[TopicPartition, tuple[int, ...]], cancel: Sequence[TopicPartition] = ()
) -> Failure | None:
    """Have partitions moved, and moves taken back; the first failure, None when all are under way."""
    wanted: dict[str, list[tuple[int, list[int] | None]]] = defaultdict(list)
    for name, replicas in moves.items():
        wanted[name.topic].append((name.partition, list(replicas)))
    for name in cancel:
        wanted[name.topic].append((name.partition, None))
    if not wanted:
        return None
    topic = AlterPartitionReassignmentsRequest.ReassignableTopic
    partition = topic.ReassignablePartition
    request = AlterPartitionReassignmentsRequest(
        topics=[
            topic(name=name, partitions=[partition(partition_index=i, replicas=r) for i, r in rows])
            for name, rows in wanted.items()
        ],
        timeout_ms=TIMEOUT_MS,
    )
    answer = wire.ask_one(Call(request, "move replicas"))
    if isinstance(answer, Failure):
        return answer
    failure = failure_of_code(answer.error_code, answer.error_message, "move replicas")
    if failure is not None:
        return failure
    for entry in answer.responses:
        for row in entry.partitions:
            if row.error_code != NO_REASSIGNMENT_IN_PROGRESS:
                what = f"move replicas of {entry.name}-{row.partition_index}"
                failure = failure or failure_of_code(row.error_code, row.error_message, what)
    return failure
