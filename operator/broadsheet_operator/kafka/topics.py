"""Topics: observed in few calls for many, changed in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka.protocol.admin import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest,
    ListPartitionReassignmentsRequest,
)
from kafka.protocol.metadata import MetadataRequest

from broadsheet_operator.kafka import moves
from broadsheet_operator.kafka.failures import UNKNOWN_TOPIC_OR_PARTITION, failure_of_code
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import (
    BrokerView,
    ClusterView,
    ConfigView,
    Failure,
    PartitionView,
    TopicView,
)
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.topic_actions import (
    FOLLOWER_THROTTLED,
    LEADER_THROTTLED,
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    DeleteTopic,
    ElectLeaders,
    Reassign,
    Throttle,
    TopicAction,
    Unthrottle,
)

BATCH = 500
"""Topics per request."""
TOPIC_RESOURCE = 2
SET, DELETE = 0, 1
TOPIC_CONFIG_SOURCE = 1
TIMEOUT_MS = 15_000

T = TypeVar("T")
Sizes = dict[int, dict[int, int]]
"""Bytes by partition and broker."""


@dataclass(frozen=True, slots=True)
class Move:
    """A partition's replicas while it is reassigned, as one answer of the controller has them (KIP-455).

    The metadata that another broker answers may be from before the reassignment: all replicas from there, less those
    that the controller is removing, would be too few.
    """

    replicas: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()

    @classmethod
    def of(cls, partition: Any) -> Move:
        """From what ListPartitionReassignments says of a partition."""
        return cls(tuple(partition.replicas), tuple(partition.adding_replicas), tuple(partition.removing_replicas))


Moves = dict[int, Move]
"""Partitions that move."""


@dataclass(frozen=True, slots=True)
class Details:
    """What is known of a topic beside its metadata and configuration."""

    moving: Moves
    sizes: Sizes | None
    rates: Mapping[int, tuple[int | None, int | None]]


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """The items in slices."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def metadata_request(names: Sequence[str] | None) -> Any:
    """Metadata of these topics (None: all), without creating any."""
    topics = None if names is None else [MetadataRequest.MetadataRequestTopic(name=n) for n in names]
    return MetadataRequest(topics=topics, allow_auto_topic_creation=False)


def observe_cluster(wire: Wire) -> ClusterView | Failure:
    """Brokers and controller."""
    answer = wire.ask_one(Call(metadata_request([]), "describe the cluster"))
    if isinstance(answer, Failure):
        return answer
    brokers = tuple(
        BrokerView(b.node_id, b.host, b.port, b.rack) for b in sorted(answer.brokers, key=lambda b: b.node_id)
    )
    return ClusterView(answer.cluster_id or "", answer.controller_id if answer.controller_id >= 0 else None, brokers)


def list_topics(wire: Wire) -> list[str] | Failure:
    """Names of all topics, without Kafka's internal ones."""
    answer = wire.ask_one(Call(metadata_request(None), "list topics"))
    if isinstance(answer, Failure):
        return answer
    return sorted(t.name for t in answer.topics if not t.is_internal)


def observe_topics(wire: Wire, names: Sequence[str]) -> dict[str, TopicView | Failure | None]:
    """Each topic with its configs, moves and size; None where there is none."""
    result: dict[str, TopicView | Failure | None] = {}
    for some in batches(sorted(set(names))):
        result |= _observe(wire, some)
    return result


def _observe(wire: Wire, names: Sequence[str]) -> dict[str, TopicView | Failure | None]:
    answer = wire.ask_one(Call(metadata_request(names), "describe topics"))
    if isinstance(answer, Failure):
        return dict.fromkeys(names, answer)
    found: dict[str, Any] = {}
    result: dict[str, TopicView | Failure | None] = {}
    for topic in answer.topics:
        failure = failure_of_code(topic.error_code, None, f"describe the topic {topic.name}")
        if failure is None:
            found[topic.name] = topic
        else:
            result[topic.name] = None if topic.error_code == UNKNOWN_TOPIC_OR_PARTITION else failure
    if found:
        nodes = [b.node_id for b in answer.brokers]
        configs, moving, sizes = _details(wire, found, nodes)
        rates = moves.observe_rates(wire, nodes) if any(_is_limited(c) for c in configs.values()) else {}
        for name, topic in found.items():
            what = configs.get(name, Failure(Reason.KAFKA_ERROR, f"the cluster left out the configuration of {name}"))
            details = Details(moving.get(name, {}), sizes.get(name, {}) if sizes is not None else None, rates)
            result[name] = what if isinstance(what, Failure) else _view(topic, what, details)
    return {name: result.get(name) for name in names}


def _details(
    wire: Wire, found: Mapping[str, Any], nodes: Sequence[int]
) -> tuple[dict[str, dict[str, ConfigView] | Failure], dict[str, Moves], dict[str, Sizes] | None]:
    """Configs, partitions on the move and sizes of these topics, asked for at once."""
    resource = DescribeConfigsRequest.DescribeConfigsResource
    listed = ListPartitionReassignmentsRequest.ListPartitionReassignmentsTopics
    described = DescribeLogDirsRequest.DescribableLogDirTopic
    indexes = {name: [p.partition_index for p in topic.partitions] for name, topic in found.items()}
    calls = [
        Call(
            DescribeConfigsRequest(
                resources=[
                    resource(resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None)
                    for name in found
                ],
                include_synonyms=False,
                include_documentation=False,
            ),
            "describe configurations",
        ),
        Call(
            ListPartitionReassignmentsRequest(
                timeout_ms=TIMEOUT_MS, topics=[listed(name=n, partition_indexes=i) for n, i in indexes.items()]
            ),
            "describe reassignments",
        ),
        *(
            Call(
                DescribeLogDirsRequest(topics=[described(topic=n, partitions=i) for n, i in indexes.items()]),
                "describe log directories",
                node,
            )
            for node in nodes
        ),
    ]
    config_answer, moving_answer, *dir_answers = wire.ask(calls)
    return _configs(config_answer, found), _moving(moving_answer), _sizes(nodes, dir_answers)


def _configs(answer: Any | Failure, found: Mapping[str, Any]) -> dict[str, dict[str, ConfigView] | Failure]:
    if isinstance(answer, Failure):
        return dict.fromkeys(found, answer)
    result: dict[str, dict[str, ConfigView] | Failure] = {}
    for entry in answer.results:
        what = f"describe the configuration of {entry.resource_name}"
        failure = failure_of_code(entry.error_code, entry.error_message, what)
        result[entry.resource_name] = failure or {
            c.name: ConfigView(c.value, c.config_source == TOPIC_CONFIG_SOURCE) for c in entry.configs
        }
    return result


def _is_limited(configs: dict[str, ConfigView] | Failure) -> bool:
    return not isinstance(configs, Failure) and any(
        key in configs and configs[key].overridden for key in (LEADER_THROTTLED, FOLLOWER_THROTTLED)
    )


def _moving(answer: Any | Failure) -> dict[str, Moves]:
    # A cluster that cannot list them (too old, or not ready) counts as having none.
    if isinstance(answer, Failure) or answer.error_code:
        return {}
    return {t.name: {p.partition_index: Move.of(p) for p in t.partitions} for t in answer.topics}


def _sizes(nodes: Sequence[int], answers: Sequence[Any | Failure]) -> dict[str, Sizes] | None:
    sizes: dict[str, Sizes] = {}
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, Failure):
            return None
        for directory in answer.results:
            for topic in directory.topics:
                for p in topic.partitions:
                    of_partition = sizes.setdefault(topic.name, {}).setdefault(p.partition_index, {})
                    of_partition[node] = of_partition.get(node, 0) + p.partition_size
    return sizes


def _view(topic: Any, configs: dict[str, ConfigView], details: Details) -> TopicView:
    def partition(p: Any) -> PartitionView:
        move = details.moving.get(p.partition_index, Move(tuple(p.replica_nodes)))
        return PartitionView(
            index=p.partition_index,
            leader=p.leader_id if p.leader_id >= 0 else None,
            replicas=move.replicas,
            isr=tuple(p.isr_nodes),
            moving=p.partition_index in details.moving,
            adding=move.adding,
            removing=move.removing,
            sizes=details.sizes.get(p.partition_index, {}) if details.sizes is not None else {},
        )

    partitions = tuple(map(partition, sorted(topic.partitions, key=lambda p: p.partition_index)))
    size = None if details.sizes is None else sum(sum(by_broker.values()) for by_broker in details.sizes.values())
    return TopicView(topic.name, str(topic.topic_id), partitions, configs, bool(topic.is_internal), size, details.rates)


def apply_topics(wire: Wire, actions: Sequence[TopicAction]) -> list[Failure | None]:
    """All actions, one kind after the other, many topics per request."""
    outcome: dict[int, Failure | None] = {}
    appliers: list[tuple[type[Any], Any]] = [
        (CreateTopic, _create),
        (AddPartitions, _add_partitions),
        (AlterConfigs, _alter_configs),
        # Limits go before those that other topics need are set, and are there before anything moves.
        (Unthrottle, moves.unthrottle),
        (Throttle, moves.throttle),
        (Reassign, moves.reassign),
        (ElectLeaders, moves.elect),
        (DeleteTopic, _delete),
    ]
    for kind, apply in appliers:
        chosen = [(i, a) for i, a in enumerate(actions) if isinstance(a, kind)]
        for some in batches(chosen):
            by_name: dict[str, Failure | None] = apply(wire, [a for _, a in some])
            for i, action in some:
                missing = Failure(Reason.KAFKA_ERROR, f"the cluster did not say what became of {action.name}")
                outcome[i] = by_name.get(action.name, missing)
    return [outcome[i] for i in range(len(actions))]


def _create(wire: Wire, actions: Sequence[CreateTopic]) -> dict[str, Failure | None]:
    topic, config = CreateTopicsRequest.CreatableTopic, CreateTopicsRequest.CreatableTopic.CreatableTopicConfig
    placed = topic.CreatableReplicaAssignment
    request = CreateTopicsRequest(
        topics=[
            topic(
                name=a.name,
                num_partitions=-1 if a.partitions is None else a.partitions,
                replication_factor=-1 if a.replication_factor is None else a.replication_factor,
                assignments=[placed(partition_index=i, broker_ids=list(ids)) for i, ids in a.assignments.items()],
                configs=[config(name=k, value=v) for k, v in a.configs.items()],
            )
            for a in actions
        ],
        timeout_ms=TIMEOUT_MS,
        validate_only=False,
    )
    answer = wire.ask_one(Call(request, "create topics"))
    if isinstance(answer, Failure):
        return {a.name: answer for a in actions}
    return {t.name: failure_of_code(t.error_code, t.error_message, f"create {t.name}") for t in answer.topics}


def _add_partitions(wire: Wire, actions: Sequence[AddPartitions]) -> dict[str, Failure | None]:
    topic = CreatePartitionsRequest.CreatePartitionsTopic
    placed = topic.CreatePartitionsAssignment
    request = CreatePartitionsRequest(
        topics=[
            topic(
                name=a.name,
                count=a.count,
                assignments=[placed(broker_ids=list(ids)) for ids in a.assignments] if a.assignments else None,
            )
            for a in actions
        ],
        timeout_ms=TIMEOUT_MS,
        validate_only=False,
    )
    answer = wire.ask_one(Call(request, "add partitions"))
    if isinstance(answer, Failure):
        return {a.name: answer for a in actions}
    return {
        r.name: failure_of_code(r.error_code, r.error_message, f"add partitions to {r.name}") for r in answer.results
    }


def _alter_configs(wire: Wire, actions: Sequence[AlterConfigs]) -> dict[str, Failure | None]:
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource
    config = resource.AlterableConfig
    request = IncrementalAlterConfigsRequest(
        resources=[
            resource(
                resource_type=TOPIC_RESOURCE,
                resource_name=a.name,
                configs=[
                    *(config(name=k, config_operation=SET, value=v) for k, v in a.changes.items()),
                    *(config(name=k, config_operation=DELETE, value=None) for k in a.resets),
                ],
            )
            for a in actions
        ],
        validate_only=False,
    )
    answer = wire.ask_one(Call(request, "change configurations"))
    if isinstance(answer, Failure):
        return {a.name: answer for a in actions}
    return {
        r.resource_name: failure_of_code(r.error_code, r.error_message, f"change settings of {r.resource_name}")
        for r in answer.responses
    }


def _delete(wire: Wire, actions: Sequence[DeleteTopic]) -> dict[str, Failure | None]:
    topic = DeleteTopicsRequest.DeleteTopicState
    request = DeleteTopicsRequest(
        topics=[topic(name=a.name) for a in actions], topic_names=[a.name for a in actions], timeout_ms=TIMEOUT_MS
    )
    answer = wire.ask_one(Call(request, "delete topics"))
    if isinstance(answer, Failure):
        return {a.name: answer for a in actions}
    return {
        r.name: None
        if r.error_code == UNKNOWN_TOPIC_OR_PARTITION
        else failure_of_code(r.error_code, getattr(r, "error_message", None), f"delete {r.name}")
        for r in answer.responses
    }
