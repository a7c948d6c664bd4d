"""Metadata (key 3), versions 0-13: the brokers, and the topics that a client asks about, by name or by id.

* Null topics (in version 0: an empty list) means all of them; an empty list means none.
* A topic that does not exist is created when the client lets it (`allow_auto_topic_creation`) and
  `auto.create.topics.enable` is on. The answer is still that there is none, as in Apache Kafka: clients that look
  whether a topic is gone rely on it. It waits a moment for the creation, so that the next request finds the topic.
* From version 12 on topics may be given by id; an unknown id is answered with UNKNOWN_TOPIC_ID.
* Addresses are those of the listener that the request came on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from uuid import UUID

from broadsheet_broker.apis import authorized_operations
from broadsheet_broker.apis.encoded import EncodedAnswer
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.config.internal_topics import is_internal
from broadsheet_broker.controller.names import name_problem
from broadsheet_broker.metadata.image import NO_LEADER, ClusterImage, TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.metadata_response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from broadsheet_broker.wire.primitives import ZERO_UUID

_CREATION_SECONDS = 1.0
"""How long an answer waits for the creation of what it names: the existing topics in it should not wait for long."""
_MOST_KEPT = 8
"""Encoded answers that are kept for an image: one for each version, listener and set of flags that clients use."""
_MOST_KEPT_BYTES = 4 * 1024 * 1024
"""Size up to which one is kept: some 40,000 partitions."""
_IDS_FROM = 12
_ERROR_FROM = 13
"""Version from which the whole answer has an error code (KIP-1102)."""


def _refuse(body: MetadataRequest, version: int, error: KafkaError) -> MetadataResponse | None:
    """Below version 13 only topics can carry an error; if no topic is named, no answer can, and the connection ends."""
    topics = [
        MetadataResponseTopic(error_code=error.code, name=topic.name, topic_id=topic.topic_id)
        for topic in body.topics or ()
        if version >= _IDS_FROM or topic.name is not None
    ]
    return MetadataResponse(topics=topics, error_code=error.code) if topics or version >= _ERROR_FROM else None


@serves(3, "Metadata", (0, 13), refuse=_refuse, without=authorized_operations.UNCHECKED)
def metadata(services: Services, request: Request[MetadataRequest]) -> Awaitable[None] | None:
    body = request.body
    image = services.metadata.image
    wanted = body.topics
    if wanted is None or (request.version == 0 and not wanted):
        _answer_all(image, request)
        return None
    _check(wanted, request.version)
    if body.allow_auto_topic_creation and services.config.get_bool("auto.create.topics.enable"):
        missing = [
            topic.name
            for topic in wanted
            if topic.name is not None and topic.topic_id == ZERO_UUID and topic.name not in image.topics_by_name
        ]
        if missing:
            return _create_and_answer(services, request, list(dict.fromkeys(missing)))
    _answer(image, request, list(_found(image, wanted, request.connection.listener, {})))
    return None


async def _create_and_answer(services: Services, request: Request[MetadataRequest], missing: list[str]) -> None:
    refused = await services.node.automatic_topics.begin(missing, _CREATION_SECONDS)
    codes = {name: refused.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) for name in missing}
    image = services.metadata.image
    _answer(image, request, list(_found(image, request.body.topics or [], request.connection.listener, codes)))


def _answer_all(image: ClusterImage, request: Request[MetadataRequest]) -> None:
    """Answer with every topic. The bytes are kept for as long as the image is the newest: many clients ask at once."""
    body, listener = request.body, request.connection.listener
    key = (
        request.version,
        listener,
        body.include_topic_authorized_operations,
        body.include_cluster_authorized_operations,
    )
    kept: dict[object, EncodedAnswer] = image.derived.setdefault("metadata", {})
    answer = kept.get(key)
    if answer is None:
        topics = [described(image, topic, listener) for topic in image.topics_by_name.values()]
        answer = EncodedAnswer(_response(image, request, topics), request.version)
        if answer.size <= _MOST_KEPT_BYTES:
            if len(kept) >= _MOST_KEPT:
                del kept[next(iter(kept))]
            kept[key] = answer
    request.answer(answer)


def _answer(image: ClusterImage, request: Request[MetadataRequest], topics: list[MetadataResponseTopic]) -> None:
    request.answer(_response(image, request, topics))


def _response(
    image: ClusterImage, request: Request[MetadataRequest], topics: list[MetadataResponseTopic]
) -> MetadataResponse:
    body = request.body
    if body.include_topic_authorized_operations:
        topics = [_with_operations(topic) for topic in topics]
    answer = MetadataResponse(
        brokers=list(broker_addresses(image, request.connection.listener)),
        cluster_id=image.cluster_id,
        controller_id=visible_controller(image),
        topics=topics,
    )
    if body.include_cluster_authorized_operations:
        answer.cluster_authorized_operations = authorized_operations.CLUSTER
    return answer


def _check(wanted: Iterable[MetadataRequestTopic], version: int) -> None:
    if version >= _IDS_FROM:
        return
    for topic in wanted:
        if topic.name is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Topic name can not be null for version {version}")
        if topic.topic_id != ZERO_UUID:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"Topic IDs are not supported in requests for version {version}"
            )


def _found(
    image: ClusterImage, wanted: Iterable[MetadataRequestTopic], listener: str, missing: Mapping[str, ErrorCode]
) -> Iterable[MetadataResponseTopic]:
    """A row for each topic; `missing` has those that did not exist when the request came, with what to say."""
    seen: set[str | UUID] = set()
    for asked in wanted:
        by_id = asked.topic_id != ZERO_UUID
        key = asked.topic_id if by_id else asked.name or ""
        if key in seen:
            continue
        seen.add(key)
        topic = image.topics_by_id.get(asked.topic_id) if by_id else image.topics_by_name.get(asked.name or "")
        if topic is not None and (by_id or asked.name not in missing):
            yield described(image, topic, listener)
        elif by_id:
            yield MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=asked.topic_id)
        else:
            name = asked.name or ""
            code = missing.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            if name_problem(name) is not None:
                code = ErrorCode.INVALID_TOPIC_EXCEPTION
            yield MetadataResponseTopic(error_code=code, name=name, is_internal=is_internal(name))


def described(image: ClusterImage, topic: TopicImage, listener: str) -> MetadataResponseTopic:
    """A topic as the answer has it; built once for each state of the topic and the brokers."""
    cached = topic.described
    if cached is not None and cached[0] is image.brokers and cached[1] == listener:
        answer: MetadataResponseTopic = cached[2]
        return answer
    reachable = {id for id, broker in image.brokers.items() if not broker.fenced and listener in broker.endpoints}
    partitions = []
    for index, partition in enumerate(topic.partitions):
        leader, error = partition.leader, ErrorCode.NONE
        if leader == NO_LEADER:
            error = ErrorCode.LEADER_NOT_AVAILABLE
        elif leader not in reachable:
            broker = image.brokers.get(leader)
            up = broker is not None and not broker.fenced
            leader, error = NO_LEADER, ErrorCode.LISTENER_NOT_FOUND if up else ErrorCode.LEADER_NOT_AVAILABLE
        partitions.append(
            MetadataResponsePartition(
                error_code=error,
                partition_index=index,
                leader_id=leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=list(partition.replicas),
                isr_nodes=list(partition.isr),
                offline_replicas=[
                    id
                    for id in partition.replicas
                    if id not in reachable or not image.brokers[id].has_directory(partition)
                ],
            )
        )
    answer = MetadataResponseTopic(
        name=topic.name, topic_id=topic.id, is_internal=is_internal(topic.name), partitions=partitions
    )
    topic.described = (image.brokers, listener, answer)
    return answer


def _with_operations(topic: MetadataResponseTopic) -> MetadataResponseTopic:
    """A copy with authorized operations; the cached answer must not have them."""
    if topic.error_code == ErrorCode.UNKNOWN_TOPIC_ID:
        return topic
    return MetadataResponseTopic(
        error_code=topic.error_code,
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=topic.partitions,
        topic_authorized_operations=authorized_operations.TOPIC,
    )


def broker_addresses(image: ClusterImage, listener: str) -> Iterable[MetadataResponseBroker]:
    """The brokers that clients of this listener can reach."""
    for broker in image.brokers.values():
        endpoint = broker.endpoints.get(listener)
        if endpoint is not None and not broker.fenced:
            yield MetadataResponseBroker(node_id=broker.id, host=endpoint.host, port=endpoint.port, rack=broker.rack)


def visible_controller(image: ClusterImage) -> int:
    """The broker to which clients send controller requests: every broker forwards them, so any unfenced one will do."""
    up = [broker.id for broker in image.brokers.values() if not broker.fenced]
    return image.controller_id if image.controller_id in up else next(iter(up), -1)
