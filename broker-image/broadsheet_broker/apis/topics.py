"""CreateTopics (19), DeleteTopics (20) and CreatePartitions (37): the controller's work, passed on.

Refusals of single topics are in the controller's answer; what concerns the whole request comes as KafkaError.
"""

from __future__ import annotations

from broadsheet_broker.apis.controllers import order, pass_on
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.config import describe_topic
from broadsheet_broker.metadata.image import ResourceType
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.create_partitions_request import CreatePartitionsRequest
from broadsheet_broker.wire.messages.create_partitions_response import (
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)
from broadsheet_broker.wire.messages.create_topics_request import CreateTopicsRequest
from broadsheet_broker.wire.messages.create_topics_response import (
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsResponse,
)
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest
from broadsheet_broker.wire.messages.delete_topics_response import DeletableTopicResult, DeleteTopicsResponse

_CONFIGS_FROM = 5
"""Version from which CreateTopics answers with the configuration of new topics (KIP-525)."""
_STATES_FROM = 6
"""Version from which DeleteTopics has names and ids in one list."""
_DELETION_DISABLED_FROM = 3
"""Version from which clients know TOPIC_DELETION_DISABLED."""


def _refuse_creation(body: CreateTopicsRequest, version: int, error: KafkaError) -> CreateTopicsResponse:
    return CreateTopicsResponse(
        topics=[
            CreatableTopicResult(name=topic.name, error_code=error.code, error_message=error.message)
            for topic in body.topics
        ]
    )


@serves(19, "CreateTopics", (2, 7), refuse=_refuse_creation)
async def create_topics(services: Services, request: Request[CreateTopicsRequest]) -> None:
    answer = await order(services, request, CreateTopicsResponse)
    if request.version >= _CONFIGS_FROM:
        set_on = {topic.name: topic.configs for topic in request.body.topics}
        for result in answer.topics:
            if result.error_code == ErrorCode.NONE:
                own = {config.name: config.value for config in set_on[result.name] if config.value is not None}
                result.configs = _configs(services, own)
    request.answer(answer)


def _configs(services: Services, own: dict[str, str]) -> list[CreatableTopicConfigs]:
    image = services.metadata.image
    dynamic = image.config(ResourceType.BROKER, str(services.config.node_id))
    entries = describe_topic(services.config, own, dynamic, image.config(ResourceType.BROKER, ""))
    return [
        CreatableTopicConfigs(
            name=entry.name,
            value=None if entry.sensitive else entry.value,
            read_only=entry.read_only,
            config_source=entry.source,
            is_sensitive=entry.sensitive,
        )
        for entry in entries
    ]


def _refuse_deletion(body: DeleteTopicsRequest, version: int, error: KafkaError) -> DeleteTopicsResponse:
    if version < _STATES_FROM:
        named = [DeletableTopicResult(name=name, error_code=error.code) for name in body.topic_names]
        return DeleteTopicsResponse(responses=named)
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(name=topic.name, topic_id=topic.topic_id, error_code=error.code)
            for topic in body.topics
        ]
    )


@serves(20, "DeleteTopics", (1, 6), refuse=_refuse_deletion)
async def delete_topics(services: Services, request: Request[DeleteTopicsRequest]) -> None:
    try:
        answer = await order(services, request, DeleteTopicsResponse)
    except KafkaError as error:
        if error.code is ErrorCode.TOPIC_DELETION_DISABLED and request.version < _DELETION_DISABLED_FROM:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Topic deletion is disabled.") from None
        raise
    request.answer(answer)


def _refuse_partitions(body: CreatePartitionsRequest, version: int, error: KafkaError) -> CreatePartitionsResponse:
    return CreatePartitionsResponse(
        results=[
            CreatePartitionsTopicResult(name=topic.name, error_code=error.code, error_message=error.message)
            for topic in body.topics
        ]
    )


@serves(37, "CreatePartitions", (0, 3), refuse=_refuse_partitions)
async def create_partitions(services: Services, request: Request[CreatePartitionsRequest]) -> None:
    await pass_on(services, request)
