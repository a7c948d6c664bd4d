"""DescribeCluster (60), UpdateFeatures (57): the cluster as a whole."""

from __future__ import annotations

from broadsheet_broker.apis import authorized_operations
from broadsheet_broker.apis.controllers import pass_on
from broadsheet_broker.apis.metadata import visible_controller
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.describe_cluster_request import DescribeClusterRequest
from broadsheet_broker.wire.messages.describe_cluster_response import DescribeClusterBroker, DescribeClusterResponse
from broadsheet_broker.wire.messages.update_features_request import UpdateFeaturesRequest

_BROKERS, _CONTROLLERS = 1, 2
"""Types of endpoints that DescribeCluster returns (KIP-919)."""


@serves(60, "DescribeCluster", (0, 2), without=authorized_operations.UNCHECKED)
def describe_cluster(services: Services, request: Request[DescribeClusterRequest]) -> None:
    body, image, listener = request.body, services.metadata.image, request.connection.listener
    on_controller = listener in services.config.controller_listener_names
    if body.endpoint_type not in (_BROKERS, _CONTROLLERS):
        raise KafkaError(ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {body.endpoint_type}")
    if on_controller != (body.endpoint_type == _CONTROLLERS):
        here, there = ("CONTROLLER", "BROKER") if on_controller else ("BROKER", "CONTROLLER")
        raise KafkaError(
            ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            f"The request was sent to an endpoint of type {here}, but we wanted an endpoint of type {there}",
        )
    answer = DescribeClusterResponse(
        endpoint_type=body.endpoint_type,
        cluster_id=image.cluster_id,
        controller_id=image.controller_id if on_controller else visible_controller(image),
    )
    if on_controller:
        for controller in image.controllers.values():
            endpoint = controller.endpoints.get(listener)
            if endpoint is not None:
                answer.brokers.append(
                    DescribeClusterBroker(broker_id=controller.id, host=endpoint.host, port=endpoint.port)
                )
    else:
        for broker in image.brokers.values():
            endpoint = broker.endpoints.get(listener)
            if endpoint is not None and (body.include_fenced_brokers or not broker.fenced):
                answer.brokers.append(
                    DescribeClusterBroker(
                        broker_id=broker.id,
                        host=endpoint.host,
                        port=endpoint.port,
                        rack=broker.rack,
                        is_fenced=broker.fenced,
                    )
                )
    if body.include_cluster_authorized_operations:
        answer.cluster_authorized_operations = authorized_operations.CLUSTER
    request.answer(answer)


@serves(57, "UpdateFeatures", (0, 2))
async def update_features(services: Services, request: Request[UpdateFeaturesRequest]) -> None:
    await pass_on(services, request)
