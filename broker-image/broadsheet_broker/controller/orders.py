"""The orders that the active controller carries out: one row for each class of request.

A new order costs a planner, a row here and a handler in `apis`. A row names the request, its answer, and the planner
that decides; a method of `ActiveController` where a planner is not enough. What else it may say:

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

from broadsheet_broker.controller import alter_partition, directories, elections, features, reassignments, topics
from broadsheet_broker.controller.active import ActiveController
from broadsheet_broker.controller.plan import Context, Plan
from broadsheet_broker.metadata.image import ClusterImage
from broadsheet_broker.wire.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from broadsheet_broker.wire.messages.allocate_producer_ids_response import AllocateProducerIdsResponse
from broadsheet_broker.wire.messages.alter_configs_request import AlterConfigsRequest
from broadsheet_broker.wire.messages.alter_configs_response import AlterConfigsResponse
from broadsheet_broker.wire.messages.alter_partition_reassignments_request import AlterPartitionReassignmentsRequest
from broadsheet_broker.wire.messages.alter_partition_reassignments_response import AlterPartitionReassignmentsResponse
from broadsheet_broker.wire.messages.alter_partition_request import AlterPartitionRequest
from broadsheet_broker.wire.messages.alter_partition_response import AlterPartitionResponse
from broadsheet_broker.wire.messages.assign_replicas_to_dirs_request import AssignReplicasToDirsRequest
from broadsheet_broker.wire.messages.assign_replicas_to_dirs_response import AssignReplicasToDirsResponse
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest
from broadsheet_broker.wire.messages.broker_heartbeat_response import BrokerHeartbeatResponse
from broadsheet_broker.wire.messages.broker_registration_request import BrokerRegistrationRequest
from broadsheet_broker.wire.messages.broker_registration_response import BrokerRegistrationResponse
from broadsheet_broker.wire.messages.controller_registration_request import ControllerRegistrationRequest
from broadsheet_broker.wire.messages.controller_registration_response import ControllerRegistrationResponse
from broadsheet_broker.wire.messages.create_partitions_request import CreatePartitionsRequest
from broadsheet_broker.wire.messages.create_partitions_response import CreatePartitionsResponse
from broadsheet_broker.wire.messages.create_topics_request import CreateTopicsRequest
from broadsheet_broker.wire.messages.create_topics_response import CreateTopicsResponse
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.elect_leaders_request import ElectLeadersRequest
from broadsheet_broker.wire.messages.elect_leaders_response import ElectLeadersResponse
from broadsheet_broker.wire.messages.incremental_alter_configs_request import IncrementalAlterConfigsRequest
from broadsheet_broker.wire.messages.incremental_alter_configs_response import IncrementalAlterConfigsResponse
from broadsheet_broker.wire.messages.unregister_broker_request import UnregisterBrokerRequest
from broadsheet_broker.wire.messages.unregister_broker_response import UnregisterBrokerResponse
from broadsheet_broker.wire.messages.update_features_request import UpdateFeaturesRequest
from broadsheet_broker.wire.messages.update_features_response import UpdateFeaturesResponse
from broadsheet_broker.wire.schema import Message

Asked = TypeVar("Asked", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of requests is carried out; see the module."""

    answer: type[Message]
    carry_out: Callable[[ActiveController, Any, int], Awaitable[Message]]
    by_version: bool = False
    newest: Callable[[Any], Message] | None = None
    seen: Callable[[Any, Any, ClusterImage], bool] | None = None


def _planned(
    request: type[Asked],
    answer: type[Answer],
    planner: Callable[[Context, Asked, int], Plan[Answer]],
    *,
    by_version: bool = False,
    seen: Callable[[Asked, Answer, ClusterImage], bool] | None = None,
) -> tuple[type[Message], Row]:
    """An order for which a planner is enough: `planner(context, request, version)`."""

    def carry_out(active: ActiveController, asked: Asked, version: int) -> Awaitable[Answer]:
        return active.carry_out(lambda context: planner(context, asked, version))

    return request, Row(answer, carry_out, by_version=by_version, seen=seen)


def _order(
    request: type[Asked],
    answer: type[Answer],
    method: Callable[[ActiveController, Asked], Awaitable[Answer]],
    *,
    newest: Callable[[Asked], Asked] | None = None,
    seen: Callable[[Asked, Answer, ClusterImage], bool] | None = None,
) -> tuple[type[Message], Row]:
    """An order that takes more than a planner, sessions or timers for example: a method of the active controller."""

    def carry_out(active: ActiveController, asked: Asked, version: int) -> Awaitable[Answer]:
        return method(active, asked)

    return request, Row(answer, carry_out, newest=newest, seen=seen)


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
        _planned(
            CreateTopicsRequest,
            CreateTopicsResponse,
            lambda context, request, _: topics.create_topics(context, request),
            seen=_topics_are_there,
        ),
        _order(
            DeleteTopicsRequest,
            DeleteTopicsResponse,
            ActiveController.delete_topics,
            newest=_with_states,
            seen=_topics_are_gone,
        ),
        _planned(
            CreatePartitionsRequest,
            CreatePartitionsResponse,
            lambda context, request, _: topics.create_partitions(context, request),
            seen=_partitions_are_there,
        ),
        _order(AlterConfigsRequest, AlterConfigsResponse, ActiveController.alter_configs),
        _order(
            IncrementalAlterConfigsRequest,
            IncrementalAlterConfigsResponse,
            ActiveController.incremental_alter_configs,
        ),
        _planned(
            ElectLeadersRequest,
            ElectLeadersResponse,
            lambda context, request, _: elections.elect_leaders(context.image, request),
        ),
        _planned(
            AlterPartitionReassignmentsRequest,
            AlterPartitionReassignmentsResponse,
            lambda context, request, _: reassignments.alter_reassignments(context, request),
        ),
        _order(UnregisterBrokerRequest, UnregisterBrokerResponse, ActiveController.unregister_broker),
        _planned(
            UpdateFeaturesRequest,
            UpdateFeaturesResponse,
            lambda context, request, version: features.update_features(
                context.image, request, version, context.defaults
            ),
            by_version=True,
        ),
        # Orders of nodes.
        _order(AllocateProducerIdsRequest, AllocateProducerIdsResponse, ActiveController.allocate_producer_ids),
        _planned(
            AlterPartitionRequest,
            AlterPartitionResponse,
            lambda context, request, version: alter_partition.alter_partition(
                context.image, request, version, context.defaults
            ),
            by_version=True,
        ),
        _planned(
            AssignReplicasToDirsRequest,
            AssignReplicasToDirsResponse,
            lambda context, request, _: directories.assign_replicas(context.image, request, context.defaults),
        ),
        _order(BrokerRegistrationRequest, BrokerRegistrationResponse, ActiveController.register_broker),
        _order(BrokerHeartbeatRequest, BrokerHeartbeatResponse, ActiveController.heartbeat),
        _order(ControllerRegistrationRequest, ControllerRegistrationResponse, ActiveController.register_controller),
    )
)


async def carry_out(active: ActiveController, request: Message, version: int) -> Message:
    """Have this node's active controller carry out an order; raises KafkaError when it refuses all of it."""
    return await ORDERS[type(request)].carry_out(active, request, version)
