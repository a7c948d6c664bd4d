"""Replicas on the move: reassignments (KIP-455) and the limits of what they may copy (KIP-73)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka.protocol.admin import (
    AlterPartitionReassignmentsRequest,
    DescribeConfigsRequest,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    ListPartitionReassignmentsRequest,
)
from kafka.protocol.metadata import MetadataRequest

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import Failure
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.topic_actions import (
    FOLLOWER_RATE,
    FOLLOWER_THROTTLED,
    LEADER_RATE,
    LEADER_THROTTLED,
    ElectLeaders,
    Reassign,
    Throttle,
    Unthrottle,
)

TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
SET, DELETE = 0, 1
PREFERRED = 0
ELECTION_NOT_NEEDED = 84
DYNAMIC_BROKER = 2
"""config_source of a value that was set for one broker while it runs."""
TIMEOUT_MS = 15_000
RATES = (LEADER_RATE, FOLLOWER_RATE)
REPLICAS = (LEADER_THROTTLED, FOLLOWER_THROTTLED)


def observe_rates(wire: Wire, nodes: Sequence[int]) -> dict[int, tuple[int | None, int | None]]:
    """By broker, the rates of its throttled replicas (leader's, follower's) as they were set; without who is silent."""
    resource = DescribeConfigsRequest.DescribeConfigsResource
    answers = wire.ask(
        [
            Call(
                DescribeConfigsRequest(
                    resources=[
                        resource(resource_type=BROKER_RESOURCE, resource_name=str(node), configuration_keys=list(RATES))
                    ],
                    include_synonyms=False,
                    include_documentation=False,
                ),
                f"describe the limits of broker {node}",
                node,
            )
            for node in nodes
        ]
    )
    rates: dict[int, tuple[int | None, int | None]] = {}
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, Failure) or any(entry.error_code for entry in answer.results):
            continue
        found = {
            config.name: int(config.value)
            for entry in answer.results
            for config in entry.configs
            if config.config_source == DYNAMIC_BROKER and config.value
        }
        rates[node] = (found.get(LEADER_RATE), found.get(FOLLOWER_RATE))
    return rates


def throttle(wire: Wire, actions: Sequence[Throttle]) -> dict[str, Failure | None]:
    """Name the limited replicas, and set the rate on the brokers that have them."""
    named = _alter_topics(wire, {action.name: dict(action.configs()) for action in actions})
    rate_of = {broker: action.rate for action in actions for broker in action.brokers}
    limited = _alter_brokers(wire, {broker: dict.fromkeys(RATES, str(rate)) for broker, rate in rate_of.items()})
    return {
        action.name: named[action.name] or next((limited[b] for b in action.brokers if limited[b] is not None), None)
        for action in actions
    }


def unthrottle(wire: Wire, actions: Sequence[Unthrottle]) -> dict[str, Failure | None]:
    """Remove the names of replicas; when nothing moves, remove the brokers' rates too."""
    result = _alter_topics(wire, {action.name: dict.fromkeys(REPLICAS) for action in actions})
    request = ListPartitionReassignmentsRequest(timeout_ms=TIMEOUT_MS, topics=None)
    moving = wire.ask_one(Call(request, "describe reassignments"))
    if isinstance(moving, Failure) or moving.error_code or moving.topics:
        return result  # what moves still needs them, and takes them away when it is through
    brokers = wire.ask_one(Call(MetadataRequest(topics=[], allow_auto_topic_creation=False), "describe the cluster"))
    if not isinstance(brokers, Failure):
        rates = observe_rates(wire, [b.node_id for b in brokers.brokers])
        _alter_brokers(wire, {node: dict.fromkeys(RATES) for node, found in rates.items() if found != (None, None)})
    return result


def _alter_topics(wire: Wire, changes: Mapping[str, Mapping[str, str | None]]) -> dict[str, Failure | None]:
    """Set properties of topics; None gives one back to its default."""
    request = _request(TOPIC_RESOURCE, changes)
    answer = wire.ask_one(Call(request, "limit the copying of replicas"))
    if isinstance(answer, Failure):
        return dict.fromkeys(changes, answer)
    done = {
        r.resource_name: failure_of_code(r.error_code, r.error_message, f"limit the copying of {r.resource_name}")
        for r in answer.responses
    }
    missing = Failure(Reason.KAFKA_ERROR, "the cluster did not say what became of a limit")
    return {name: done.get(name, missing) for name in changes}


def _alter_brokers(wire: Wire, changes: Mapping[int, Mapping[str, str | None]]) -> dict[int, Failure | None]:
    """Set properties of single brokers. Each is asked itself, as Kafka wants it."""
    what = "limit the copying of broker {}"
    calls = [
        Call(_request(BROKER_RESOURCE, {str(broker): change}), what.format(broker), broker)
        for broker, change in changes.items()
    ]
    result: dict[int, Failure | None] = {}
    for broker, answer in zip(changes, wire.ask(calls), strict=True):
        if isinstance(answer, Failure):
            result[broker] = answer
            continue
        failures = (failure_of_code(r.error_code, r.error_message, what.format(broker)) for r in answer.responses)
        result[broker] = next((failure for failure in failures if failure), None)
    return result


def _request(kind: int, changes: Mapping[str, Mapping[str, str | None]]) -> Any:
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource
    return IncrementalAlterConfigsRequest(
        resources=[
            resource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    resource.AlterableConfig(name=key, config_operation=DELETE if value is None else SET, value=value)
                    for key, value in change.items()
                ],
            )
            for name, change in changes.items()
        ],
        validate_only=False,
    )


def reassign(wire: Wire, actions: Sequence[Reassign]) -> dict[str, Failure | None]:
    """Begin moves, or end some that are going on."""
    topic = AlterPartitionReassignmentsRequest.ReassignableTopic
    request = AlterPartitionReassignmentsRequest(
        topics=[
            topic(
                name=a.name,
                partitions=[
                    topic.ReassignablePartition(partition_index=i, replicas=None if r is None else list(r))
                    for i, r in a.replicas.items()
                ],
            )
            for a in actions
        ],
        timeout_ms=TIMEOUT_MS,
    )
    answer = wire.ask_one(Call(request, "move replicas"))
    if not isinstance(answer, Failure):
        answer = failure_of_code(answer.error_code, answer.error_message, "move replicas") or answer
    if isinstance(answer, Failure):
        return {a.name: answer for a in actions}
    result: dict[str, Failure | None] = {}
    for entry in answer.responses:
        failures = (
            failure_of_code(p.error_code, p.error_message, f"move replicas of {entry.name}-{p.partition_index}")
            for p in entry.partitions
        )
        result[entry.name] = next((f for f in failures if f), None)
    return result


def elect(wire: Wire, actions: Sequence[ElectLeaders]) -> dict[str, Failure | None]:
    """Elect preferred leaders. That one leads already is no failure."""
    topic = ElectLeadersRequest.TopicPartitions
    request = ElectLeadersRequest(
        election_type=PREFERRED,
        topic_partitions=[topic(topic=a.name, partitions=list(a.partitions)) for a in actions],
        timeout_ms=TIMEOUT_MS,
    )
    answer = wire.ask_one(Call(request, "elect leaders"))
    if not isinstance(answer, Failure):
        answer = failure_of_code(getattr(answer, "error_code", 0), None, "elect leaders") or answer
    if isinstance(answer, Failure):
        return {a.name: answer for a in actions}
    result: dict[str, Failure | None] = {a.name: None for a in actions}
    for entry in answer.replica_election_results:
        for p in entry.partition_result:
            if p.error_code != ELECTION_NOT_NEEDED:
                what = f"elect the leader of {entry.topic}-{p.partition_id}"
                failure = failure_of_code(p.error_code, p.error_message, what)
                result[entry.topic] = result.get(entry.topic) or failure
    return result
