"""DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44), ListConfigResources (74).

Every known property is described: value, source, type, documentation, and all places that set it. The value of a
secret is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broadsheet_broker.apis import broker_loggers
from broadsheet_broker.apis.controllers import order, pass_on
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.config import (
    KEYS,
    Entry,
    Key,
    Kind,
    Setting,
    Source,
    describe_broker,
    describe_topic,
    whole_number,
)
from broadsheet_broker.controller.names import validate_name
from broadsheet_broker.metadata.image import ResourceType
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import alter_configs_response as alter
from broadsheet_broker.wire.messages import incremental_alter_configs_response as incremental
from broadsheet_broker.wire.messages.alter_configs_request import AlterConfigsRequest
from broadsheet_broker.wire.messages.describe_configs_request import DescribeConfigsRequest, DescribeConfigsResource
from broadsheet_broker.wire.messages.describe_configs_response import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from broadsheet_broker.wire.messages.incremental_alter_configs_request import (
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from broadsheet_broker.wire.messages.incremental_alter_configs_response import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsResponse,
)
from broadsheet_broker.wire.messages.list_config_resources_request import ListConfigResourcesRequest
from broadsheet_broker.wire.messages.list_config_resources_response import ConfigResource, ListConfigResourcesResponse

_MOST_KEPT = 64
"""Different sets of settings of topics whose description is kept for an image."""

_OTHER_RESOURCES = "resources of the types CLIENT_METRICS and GROUP"


def _refuse_description(body: DescribeConfigsRequest, version: int, error: KafkaError) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(
        results=[
            DescribeConfigsResult(
                error_code=error.code,
                error_message=error.message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in body.resources
        ]
    )


@serves(32, "DescribeConfigs", (1, 4), refuse=_refuse_description, without="defaults of resources of the type GROUP")
def describe_configs(services: Services, request: Request[DescribeConfigsRequest]) -> None:
    body = request.body
    answer = DescribeConfigsResponse()
    for resource in body.resources:
        result = DescribeConfigsResult(
            error_message=None, resource_type=resource.resource_type, resource_name=resource.resource_name
        )
        try:
            result.configs = _rows(services, body, resource)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        answer.results.append(result)
    request.answer(answer)


def _rows(
    services: Services, body: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> list[DescribeConfigsResourceResult]:
    """The rows of one resource. All topics with the same settings share theirs while the image is the newest: most
    topics have none of their own, and tools describe all topics at once."""
    image, names = services.metadata.image, resource.configuration_keys
    kept: dict[object, list[DescribeConfigsResourceResult]] | None = None
    key: object = None
    if resource.resource_type == ResourceType.TOPIC and not names and resource.resource_name in image.topics_by_name:
        own = image.config(ResourceType.TOPIC, resource.resource_name)
        key = (tuple(own.items()), body.include_synonyms, body.include_documentation)
        kept = image.derived.setdefault("configurations", {})
        if key in kept:
            return kept[key]
    rows = [
        _row(entry, with_synonyms=body.include_synonyms, with_documentation=body.include_documentation)
        for entry in _selected(_entries(services, resource), names)
    ]
    if kept is not None:
        if len(kept) >= _MOST_KEPT:
            del kept[next(iter(kept))]
        kept[key] = rows
    return rows


def _selected(entries: Iterable[Entry], names: list[str] | None) -> Iterator[Entry]:
    """Null means all names, and so does an empty list."""
    wanted = set(names) if names else None
    return (entry for entry in entries if wanted is None or entry.name in wanted)


def _entries(services: Services, resource: DescribeConfigsResource) -> Iterable[Entry]:
    image, name = services.metadata.image, resource.resource_name
    defaults = image.config(ResourceType.BROKER, "")
    own_broker = image.config(ResourceType.BROKER, str(services.config.node_id))
    match resource.resource_type:
        case ResourceType.TOPIC:
            validate_name(name)
            if name not in image.topics_by_name:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            return describe_topic(services.config, image.config(ResourceType.TOPIC, name), own_broker, defaults)
        case ResourceType.BROKER if not name:
            return [_default_entry(KEYS.get(key), key, value) for key, value in defaults.items()]
        case ResourceType.BROKER:
            _check_is_this_broker(services, name, " or empty string")
            return describe_broker(services.config, own_broker, defaults)
        case ResourceType.BROKER_LOGGER:
            _check_is_this_broker(services, name)
            return [_plain_entry(logger, level, Source.BROKER_LOGGER) for logger, level in broker_loggers.levels()]
        case ResourceType.CLIENT_METRICS | ResourceType.GROUP as type if name:
            source = Source.GROUP if type == ResourceType.GROUP else Source.CLIENT_METRICS
            return [_plain_entry(key, value, source) for key, value in image.config(type, name).items()]
        case ResourceType.CLIENT_METRICS:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty")
        case ResourceType.GROUP:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
        case _:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {resource.resource_type}")


def _plain_entry(name: str, value: str, source: Source) -> Entry:
    """A value of what has no table of properties here."""
    return Entry(name, value, source, Kind.STRING, False, False, "", [])


def _check_is_this_broker(services: Services, name: str, or_else: str = "") -> None:
    if not name and not or_else:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
    broker_id = whole_number(name, -(2**31))
    if broker_id is None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    if broker_id != services.config.node_id:
        expected = f"expected {services.config.node_id}{or_else}"
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unexpected broker id, {expected}, but received {name}")


def _default_entry(key: Key | None, name: str, value: str) -> Entry:
    """A value that is set for all brokers."""
    source = Source.DYNAMIC_DEFAULT_BROKER
    settings = [Setting(name, value, source)]
    if key is None:
        return Entry(name, value, source, Kind.STRING, False, False, "", settings)
    shown = None if key.sensitive else value
    return Entry(name, shown, source, key.kind, False, key.sensitive, key.doc, settings)


def _row(entry: Entry, *, with_synonyms: bool, with_documentation: bool) -> DescribeConfigsResourceResult:
    synonyms = []
    if with_synonyms:
        synonyms = [
            DescribeConfigsSynonym(
                name=setting.name, value=None if entry.sensitive else setting.value, source=setting.source
            )
            for setting in entry.synonyms
        ]
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=None if entry.sensitive else entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.sensitive,
        synonyms=synonyms,
        config_type=entry.kind,
        documentation=entry.documentation if with_documentation else None,
    )


def _refuse_alter(body: AlterConfigsRequest, version: int, error: KafkaError) -> alter.AlterConfigsResponse:
    return alter.AlterConfigsResponse(
        responses=[
            alter.AlterConfigsResourceResponse(
                error_code=error.code,
                error_message=error.message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in body.resources
        ]
    )


@serves(33, "AlterConfigs", (0, 2), refuse=_refuse_alter, without=_OTHER_RESOURCES)
async def alter_configs(services: Services, request: Request[AlterConfigsRequest]) -> None:
    await pass_on(services, request)


def _refuse_incremental(
    body: IncrementalAlterConfigsRequest, version: int, error: KafkaError
) -> incremental.IncrementalAlterConfigsResponse:
    return incremental.IncrementalAlterConfigsResponse(
        responses=[
            incremental.AlterConfigsResourceResponse(
                error_code=error.code,
                error_message=error.message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in body.resources
        ]
    )


@serves(44, "IncrementalAlterConfigs", (0, 1), refuse=_refuse_incremental, without=_OTHER_RESOURCES)
async def incremental_alter_configs(services: Services, request: Request[IncrementalAlterConfigsRequest]) -> None:
    """Log levels are changed in this process; everything else is an order for the active controller."""
    own = [resource for resource in request.body.resources if resource.resource_type == ResourceType.BROKER_LOGGER]
    if not own:
        await pass_on(services, request)
        return
    done = [_alter_loggers(services, resource, request.body.validate_only) for resource in own]
    request.body.resources = [resource for resource in request.body.resources if resource not in own]
    answer = IncrementalAlterConfigsResponse()
    if request.body.resources:
        answer = await order(services, request, IncrementalAlterConfigsResponse)
    answer.responses = [*done, *answer.responses]
    request.answer(answer)


def _alter_loggers(
    services: Services, resource: AlterConfigsResource, validate_only: bool
) -> AlterConfigsResourceResponse:
    row = AlterConfigsResourceResponse(
        error_message=None, resource_type=resource.resource_type, resource_name=resource.resource_name
    )
    try:
        _check_is_this_broker(services, resource.resource_name)
        broker_loggers.alter(resource.configs, validate_only=validate_only)
    except KafkaError as error:
        row.error_code, row.error_message = error.code, error.message
    return row


_LISTED = (
    ResourceType.TOPIC,
    ResourceType.BROKER,
    ResourceType.BROKER_LOGGER,
    ResourceType.CLIENT_METRICS,
    ResourceType.GROUP,
)


@serves(74, "ListConfigResources", (0, 1))
def list_config_resources(services: Services, request: Request[ListConfigResourcesRequest]) -> None:
    """Which resources there are to configure (KIP-1142). Version 0 asks for client metrics only."""
    image = services.metadata.image
    types: list[int] = list(request.body.resource_types) or list(_LISTED)
    if request.version == 0:
        types = [ResourceType.CLIENT_METRICS]
    answer = ListConfigResourcesResponse()
    if not set(types) <= set(_LISTED):
        answer.error_code = ErrorCode.UNSUPPORTED_VERSION
        request.answer(answer)
        return
    for type in types:
        match type:
            case ResourceType.TOPIC:
                names: Iterable[str] = image.topics_by_name
            case ResourceType.BROKER | ResourceType.BROKER_LOGGER:
                names = map(str, image.brokers)
            case _:
                names = (resource.name for resource in image.configs if resource.type == type)
        answer.config_resources += (ConfigResource(resource_name=name, resource_type=type) for name in names)
    request.answer(answer)
