"""FindCoordinator (key 10): which broker coordinates a group.

The first request creates the topic of the groups. Apache Kafka answers that request COORDINATOR_NOT_AVAILABLE and the
client retries; here the answer waits for the topic, so that a first consumer starts sooner.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.transactions import log_unserved
from broadsheet_broker.config.internal_topics import GROUP_METADATA_TOPIC
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.find_coordinator_response import Coordinator, FindCoordinatorResponse

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.find_coordinator_request import FindCoordinatorRequest

GROUP = 0
TRANSACTION = 1
BATCHED_FROM = 4
"""The version from which many keys are asked at once (KIP-699)."""

_UNSERVED = "This broker coordinates groups only; transactions and share groups are not served yet."
_WITHOUT = "coordinators of transactions and share groups"


def _refuse(body: FindCoordinatorRequest, version: int, error: KafkaError) -> FindCoordinatorResponse:
    if version < BATCHED_FROM:
        return FindCoordinatorResponse(error_code=error.code, error_message=error.message, node_id=-1, port=-1)
    return FindCoordinatorResponse(
        coordinators=[_nowhere(key, error.code, error.message) for key in body.coordinator_keys]
    )


@serves(10, "FindCoordinator", (0, 6), refuse=_refuse, without=_WITHOUT)
def find_coordinator(services: Services, request: Request[FindCoordinatorRequest]) -> Awaitable[None] | None:
    if request.body.key_type == GROUP and GROUP_METADATA_TOPIC not in services.metadata.image.topics_by_name:
        return _after_creation(services, request)
    if request.body.key_type == TRANSACTION:
        log_unserved(services, request)
    _answer(services, request)
    return None


async def _after_creation(services: Services, request: Request[FindCoordinatorRequest]) -> None:
    try:
        await services.node.automatic_topics.ensure_internal(GROUP_METADATA_TOPIC)
    except KafkaError as error:
        # Retriable for the client, whatever prevented the creation; the message says what did.
        _answer(services, request, f"{GROUP_METADATA_TOPIC} cannot be created: {error.message}")
    else:
        _answer(services, request)


def _answer(services: Services, request: Request[FindCoordinatorRequest], trouble: str | None = None) -> None:
    body = request.body
    batched = request.version >= BATCHED_FROM
    keys = body.coordinator_keys if batched else [body.key]
    coordinators = [_coordinator(services, key, body.key_type, request.connection.listener, trouble) for key in keys]
    if batched:
        request.answer(FindCoordinatorResponse(coordinators=coordinators))
        return
    only = coordinators[0]
    request.answer(
        FindCoordinatorResponse(
            error_code=only.error_code,
            error_message=only.error_message,
            node_id=only.node_id,
            host=only.host,
            port=only.port,
        )
    )


def _coordinator(services: Services, key: str, key_type: int, listener: str, trouble: str | None) -> Coordinator:
    if key_type != GROUP:
        # Kafka's answer to an unknown type. It is not retriable: with COORDINATOR_NOT_AVAILABLE a transactional
        # producer would retry for ever, with this its initTransactions() fails and shows the message.
        return _nowhere(key, ErrorCode.INVALID_REQUEST, _UNSERVED)
    image = services.metadata.image
    index = services.groups.partitions.index_of(key)
    partition = image.partition(GROUP_METADATA_TOPIC, index)
    broker = None if partition is None else image.brokers.get(partition.leader)
    endpoint = None if broker is None else broker.endpoints.get(listener)
    if broker is None or endpoint is None or services.groups.partitions.may_be_replaced(index):
        return _nowhere(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, trouble)
    return Coordinator(
        key=key, node_id=broker.id, host=endpoint.host, port=endpoint.port, error_code=0, error_message=None
    )


def _nowhere(key: str, error: ErrorCode, message: str | None) -> Coordinator:
    return Coordinator(key=key, node_id=-1, host="", port=-1, error_code=error, error_message=message or error.message)
