"""The orders that the active controller carries out: one row for each class of request.

A new order costs a row here and a handler in `apis`. What a row says beside the method:

* `by_version`: what the request means depends on its version, so it is forwarded in the version that it came in. Every
  other order is forwarded in the newest version.
* `newest`: how a request of an older version is put as the newest version has it.
* `seen`: whether an image shows what was done. A client that created a topic asks the same broker for it next, so the
  answer waits until the broker that was asked has the records too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from broadsheet_broker.controller.active import ActiveController
from broadsheet_broker.metadata.image import ClusterImage
from broadsheet_broker.wire.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from broadsheet_broker.wire.messages.alter_configs_request import AlterConfigsRequest
from broadsheet_broker.wire.messages.alter_partition_reassignments_request import AlterPartitionReassignmentsRequest
from broadsheet_broker.wire.messages.alter_partition_request import AlterPartitionRequest
from broadsheet_broker.wire.messages.assign_replicas_to_dirs_request import AssignReplicasToDirsRequest
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest
from broadsheet_broker.wire.messages.broker_registration_request import BrokerRegistrationRequest
from broadsheet_broker.wire.messages.controller_registration_request import ControllerRegistrationRequest
from broadsheet_broker.wire.messages.create_partitions_request import CreatePartitionsRequest
from broadsheet_broker.wire.messages.create_partitions_response import CreatePartitionsResponse
from broadsheet_broker.wire.messages.create_topics_request import CreateTopicsRequest
from broadsheet_broker.wire.messages.create_topics_response import CreateTopicsResponse
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.elect_leaders_request import ElectLeadersRequest
from broadsheet_broker.wire.messages.incremental_alter_configs_request import IncrementalAlterConfigsRequest
from broadsheet_broker.wire.messages.unregister_broker_request import UnregisterBrokerRequest
from broadsheet_broker.wire.messages.update_features_request import UpdateFeaturesRequest
from broadsheet_broker.wire.schema import Message

Asked = TypeVar("Asked", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of requests is carried out; see the module."""

    carry_out: Callable[[ActiveController, Any, int], Awaitable[Message]]
    by_version: bool = False
    newest: Callable[[Any], Message] | None = None
    seen: Callable[[Any, Any, ClusterImage], bool] | None = None


def _order(
    request: type[Asked],
    method: Callable[[ActiveController, Asked], Awaitable[Answer]],
    *,
    newest: Callable[[Asked], Asked] | None = None,
    seen: Callable[[Asked, Answer, ClusterImage], bool] | None = None,
) -> tuple[type[Message], Row]:
    def carry_out(active: ActiveController, asked: Asked, version: int) -> Awaitable[Answer]:
        return method(active, asked)

    return request, Row(carry_out, newest=newest, seen=seen)


def _by_version(
    request: type[Asked], method: Callable[[ActiveController, Asked, int], Awaitable[Answer]]
) -> tuple[type[Message], Row]:
    return request, Row(method, by_version=True)


def _topics_are_there(request: CreateTopicsRequest, answer: CreateTopicsResponse, image: ClusterImage) -> bool:
    return request.validate_only or all(
        topic.name in image.topics_by_name for topic in answer.topics if not topic.error_code
    )


def _topics_are_gone(request: DeleteTopicsRequest, answer: DeleteTopicsResponse, image: ClusterImage) -> bool:
    return not any(topic.topic_id in image.topics_by_id for topic in answer.responses if not topic.error_code)


def _partitions_are_there(
    request: CreatePartitionsRequest, answer: CreatePartitionsResponse, image: ClusterImage
) -> bool:
    grown = {topic.name for topic in answer.results if not topic.error_code}
    return request.validate_only or all(
        image.partition(topic.name, topic.count - 1) is not None for topic in request.topics if topic.name in grown
    )


def _with_states(request: DeleteTopicsRequest) -> DeleteTopicsRequest:
    """From version 6 on names and ids are in one list."""
    states = [DeleteTopicState(name=name) for name in request.topic_names]
    return DeleteTopicsRequest(topics=[*request.topics, *states], timeout_ms=request.timeout_ms)


ORDERS: Final[Mapping[type[Message], Row]] = dict(
    (
        # Orders of clients.
        _order(CreateTopicsRequest, ActiveController.create_topics, seen=_topics_are_there),
        _order(DeleteTopicsRequest, ActiveController.delete_topics, newest=_with_states, seen=_topics_are_gone),
        _order(CreatePartitionsRequest, ActiveController.create_partitions, seen=_partitions_are_there),
        _order(AlterConfigsRequest, ActiveController.alter_configs),
        _order(IncrementalAlterConfigsRequest, ActiveController.incremental_alter_configs),
        _order(ElectLeadersRequest, ActiveController.elect_leaders),
        _order(AlterPartitionReassignmentsRequest, ActiveController.alter_partition_reassignments),
        _order(UnregisterBrokerRequest, ActiveController.unregister_broker),
        _by_version(UpdateFeaturesRequest, ActiveController.update_features),
        # Orders of nodes.
        _order(AllocateProducerIdsRequest, ActiveController.allocate_producer_ids),
        _by_version(AlterPartitionRequest, ActiveController.alter_partition),
        _order(AssignReplicasToDirsRequest, ActiveController.assign_replicas),
        _order(BrokerRegistrationRequest, ActiveController.register_broker),
        _order(BrokerHeartbeatRequest, ActiveController.heartbeat),
        _order(ControllerRegistrationRequest, ActiveController.register_controller),
    )
)


async def carry_out(active: ActiveController, request: Message, version: int) -> Message:
    """Have this node's active controller carry out an order; raises KafkaError when it refuses all of it."""
    return await ORDERS[type(request)].carry_out(active, request, version)
