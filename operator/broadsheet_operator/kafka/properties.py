"""Broker properties that are altered while brokers run: the cluster-wide defaults of KIP-226."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kafka.protocol.admin import DescribeConfigsRequest, IncrementalAlterConfigsRequest

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import Failure

BROKER_RESOURCE = 4
ALL_BROKERS = ""
SET, DELETE = 0, 1
UNKNOWN_TYPE = 0
DYNAMIC_DEFAULT = 3
"""config_source of a value that was set for all brokers."""


def observe_properties(wire: Wire) -> dict[str, str | None] | Failure:
    """What is set for all brokers, None for a secret."""
    resource = DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=BROKER_RESOURCE, resource_name=ALL_BROKERS, configuration_keys=None
    )
    request = DescribeConfigsRequest(resources=[resource], include_synonyms=False, include_documentation=False)
    what = "look at the brokers' properties"
    answer = wire.ask_one(Call(request, what))
    if isinstance(answer, Failure):
        return answer
    for entry in answer.results:
        failure = failure_of_code(entry.error_code, entry.error_message, what)
        if failure is not None:
            return failure
        return {c.name: c.value for c in entry.configs if c.config_source == DYNAMIC_DEFAULT}
    return {}


def observe_known_properties(wire: Wire, broker: int) -> frozenset[str] | Failure:
    """The names of all properties that this broker knows.

    Apache Kafka also lists what is in its file and it does not know, without a type (ConfigHelper).
    """
    resource = DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=BROKER_RESOURCE, resource_name=str(broker), configuration_keys=None
    )
    request = DescribeConfigsRequest(resources=[resource], include_synonyms=False, include_documentation=False)
    what = f"look at the properties that broker {broker} knows"
    answer = wire.ask_one(Call(request, what, broker))
    if isinstance(answer, Failure):
        return answer
    failures = (failure_of_code(entry.error_code, entry.error_message, what) for entry in answer.results)
    failure = next((failure for failure in failures if failure), None)
    known = (config for entry in answer.results for config in entry.configs if config.config_type != UNKNOWN_TYPE)
    return failure or frozenset(config.name for config in known)


def alter_properties(wire: Wire, changes: Mapping[str, str], resets: Iterable[str]) -> Failure | None:
    """Set some for all brokers, and give others back to each broker's file."""
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource
    config = resource.AlterableConfig
    request = IncrementalAlterConfigsRequest(
        resources=[
            resource(
                resource_type=BROKER_RESOURCE,
                resource_name=ALL_BROKERS,
                configs=[
                    *(config(name=key, config_operation=SET, value=value) for key, value in changes.items()),
                    *(config(name=key, config_operation=DELETE, value=None) for key in resets),
                ],
            )
        ],
        validate_only=False,
    )
    what = "alter the brokers' properties"
    answer = wire.ask_one(Call(request, what))
    if isinstance(answer, Failure):
        return answer
    failures = (failure_of_code(entry.error_code, entry.error_message, what) for entry in answer.responses)
    return next((failure for failure in failures if failure), None)
