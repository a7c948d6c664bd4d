"""Changing configurations while the cluster runs: AlterConfigs and IncrementalAlterConfigs (KIP-133, KIP-339).

Values set here are kept in the metadata log: per topic, per broker, or for all brokers (a resource without a name).
A key that takes effect only at the start of a broker is refused, since setting it here would change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

from broadsheet_broker.config import CLUSTER_WIDE, KEYS, READ_ONLY, TOPIC_KEYS, ConfigError, Key, Kind, whole_number
from broadsheet_broker.controller import eligible_replicas
from broadsheet_broker.controller.names import validate_name
from broadsheet_broker.controller.plan import Context, Plan
from broadsheet_broker.metadata.image import ClusterImage, ResourceType
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import alter_configs_response as legacy
from broadsheet_broker.wire.messages import incremental_alter_configs_response as incremental
from broadsheet_broker.wire.messages.alter_configs_request import AlterConfigsRequest
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.incremental_alter_configs_request import IncrementalAlterConfigsRequest

MAX_VALUE_CHARACTERS: Final = 32767


class Operation(IntEnum):
    """What IncrementalAlterConfigs does with a value."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


Change = tuple[str, int, str | None]
"""Key, Operation, value."""


def incremental_alter_configs(
    context: Context, request: IncrementalAlterConfigsRequest
) -> Plan[incremental.IncrementalAlterConfigsResponse]:
    """Plan single changes; each resource succeeds or is refused as a whole."""
    plan = Plan(incremental.IncrementalAlterConfigsResponse())

    def values_of(resource: Any) -> dict[str, str | None]:
        changes = [(c.name, c.config_operation, c.value) for c in resource.configs]
        current = context.image.config(resource.resource_type, resource.resource_name)
        return _apply(resource.resource_type, changes, current)

    for resource, error in _each(context, request.resources, values_of, plan, replace_all=False):
        plan.answer.responses.append(
            incremental.AlterConfigsResourceResponse(
                error_code=error.code if error else ErrorCode.NONE,
                error_message=error.message if error else None,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    if request.validate_only:
        plan.records = []
    return plan


def alter_configs(context: Context, request: AlterConfigsRequest) -> Plan[legacy.AlterConfigsResponse]:
    """Plan whole configurations: what the request does not name goes back to its default."""
    plan = Plan(legacy.AlterConfigsResponse())

    def values_of(resource: Any) -> dict[str, str | None]:
        changes = [(c.name, Operation.SET, c.value) for c in resource.configs]
        return _apply(resource.resource_type, changes, {})

    for resource, error in _each(context, request.resources, values_of, plan, replace_all=True):
        plan.answer.responses.append(
            legacy.AlterConfigsResourceResponse(
                error_code=error.code if error else ErrorCode.NONE,
                error_message=error.message if error else None,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    if request.validate_only:
        plan.records = []
    return plan


def _each(
    context: Context,
    resources: Sequence[Any],
    values_of: Callable[[Any], dict[str, str | None]],
    plan: Plan[Any],
    *,
    replace_all: bool,
) -> list[tuple[Any, KafkaError | None]]:
    """Plan each resource by itself, and answer for each."""
    seen: dict[tuple[int, str], int] = {}
    for resource in resources:
        key = (resource.resource_type, resource.resource_name)
        seen[key] = seen.get(key, 0) + 1
    outcome: list[tuple[Any, KafkaError | None]] = []
    for resource in resources:
        try:
            if seen[resource.resource_type, resource.resource_name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
            changes = values_of(resource)
            plan.records += _change_resource(
                context, resource.resource_type, resource.resource_name, changes, replace_all=replace_all
            )
            outcome.append((resource, None))
        except KafkaError as error:
            outcome.append((resource, error))
    plan.records += eligible_replicas.forget_eligible(context.image, plan.records)
    return outcome


def _apply(type: int, changes: Sequence[Change], current: Mapping[str, str]) -> dict[str, str | None]:
    """The new value of each key that is named; None for one that goes."""
    names = [name for name, _, _ in changes]
    if len(set(names)) < len(names):
        raise KafkaError(ErrorCode.INVALID_CONFIG, "Error due to duplicate config keys")
    without = [name for name, operation, value in changes if value is None and operation != Operation.DELETE]
    if without:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Null value not supported for : " + ",".join(without))
    new: dict[str, str | None] = {}
    for name, operation, value in changes:
        match operation:
            case Operation.SET:
                new[name] = value
            case Operation.DELETE:
                new[name] = None
            case Operation.APPEND | Operation.SUBTRACT:
                new[name] = _change_list(type, name, Operation(operation), value or "", current.get(name))
            case _:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown operation {operation} for key {name}.")
    return new


def _change_list(type: int, name: str, operation: Operation, value: str, current: str | None) -> str:
    key = _key(type, name)
    if key is None or key.kind is not Kind.LIST:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG, f"Can't {operation.name} to key {name} because its type is not LIST."
        )
    text = current if current is not None else key.default
    items = [item for item in (text or "").split(",") if item]
    for item in value.split(","):
        if operation is Operation.APPEND:
            if item not in items:
                items.append(item)
        elif item in items:
            items.remove(item)
    return ",".join(items)


def _key(type: int, name: str) -> Key | None:
    return (TOPIC_KEYS if type == ResourceType.TOPIC else KEYS).get(name)


def _change_resource(
    context: Context, type: int, name: str, changes: Mapping[str, str | None], *, replace_all: bool
) -> list[ConfigRecord]:
    current = context.image.config(type, name)
    new = dict(changes)
    if replace_all:
        new.update({key: None for key in current if key not in changes})
    for key, value in new.items():
        if value is not None and len(value) > MAX_VALUE_CHARACTERS:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                f"The configuration value of {key} cannot be added because it exceeds the maximum value size of "
                f"{MAX_VALUE_CHARACTERS} characters.",
            )
    result = {key: value for key, value in {**current, **new}.items() if value is not None}
    match type:
        case ResourceType.TOPIC:
            _check_topic(context, name, result)
        case ResourceType.BROKER:
            _check_broker(context.image, name, new)
        case ResourceType.BROKER_LOGGER | ResourceType.CLIENT_METRICS | ResourceType.GROUP:
            kind = ResourceType(type).name
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Configurations of type {kind} are not supported.")
        case _:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {type}")
    # A broker's value is written even if it is the same: that makes the broker read its files again.
    return [
        ConfigRecord(resource_type=type, resource_name=name, name=key, value=value)
        for key, value in new.items()
        if current.get(key) != value or (type == ResourceType.BROKER and value is not None)
    ]


def _check_topic(context: Context, name: str, result: Mapping[str, str]) -> None:
    if not name:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
    validate_name(name)
    context.validate_topic_config(result)
    if name not in context.image.topics_by_name:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")


def _check_broker(image: ClusterImage, name: str, changes: Mapping[str, str | None]) -> None:
    if name:
        broker_id = whole_number(name, -(2**31))
        if broker_id is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Unable to parse broker name as a base 10 number.")
        if broker_id not in image.brokers and broker_id not in image.controllers:
            raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"No broker with id {broker_id} found.")
    unknown, fixed, single = [], [], []
    for key_name, value in changes.items():
        key = KEYS.get(key_name)
        if key is None:
            if value is not None:  # what another version set may always be removed
                unknown.append(key_name)
        elif key.update == READ_ONLY:
            fixed.append(key_name)
        elif key.update != CLUSTER_WIDE and not name:
            single.append(key_name)
        elif value is not None:
            try:
                key.parse(value)
            except ConfigError as error:
                raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from None
    if unknown:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown broker config name: {', '.join(unknown)}")
    if fixed:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Cannot update these configs dynamically: {', '.join(fixed)}. They are read when the broker starts: "
            "change them in its properties and restart it.",
        )
    if single:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Cannot update these configs at default cluster level: {', '.join(single)}. Name a broker.",
        )
    if eligible_replicas.MIN_ISR in changes and eligible_replicas.is_on(image):
        if name:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
            )
        if changes[eligible_replicas.MIN_ISR] is None:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."
            )
