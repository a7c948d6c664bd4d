"""What nodes ask the active controller: BrokerRegistration (62), BrokerHeartbeat (63), ControllerRegistration (70),
AlterPartition (56), AllocateProducerIds (67), AssignReplicasToDirs (73); and UnregisterBroker (64), which an operator
asks any broker.
"""

from __future__ import annotations

from broadsheet_broker.apis.controllers import carry_out_here, pass_on
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.wire.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from broadsheet_broker.wire.messages.alter_partition_request import AlterPartitionRequest
from broadsheet_broker.wire.messages.assign_replicas_to_dirs_request import AssignReplicasToDirsRequest
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest
from broadsheet_broker.wire.messages.broker_registration_request import BrokerRegistrationRequest
from broadsheet_broker.wire.messages.controller_registration_request import ControllerRegistrationRequest
from broadsheet_broker.wire.messages.unregister_broker_request import UnregisterBrokerRequest


@serves(56, "AlterPartition", (2, 3))
async def alter_partition(services: Services, request: Request[AlterPartitionRequest]) -> None:
    await carry_out_here(services, request)


@serves(62, "BrokerRegistration", (0, 4))
async def broker_registration(services: Services, request: Request[BrokerRegistrationRequest]) -> None:
    await carry_out_here(services, request)


@serves(63, "BrokerHeartbeat", (0, 1))
async def broker_heartbeat(services: Services, request: Request[BrokerHeartbeatRequest]) -> None:
    await carry_out_here(services, request)


@serves(64, "UnregisterBroker", (0, 0))
async def unregister_broker(services: Services, request: Request[UnregisterBrokerRequest]) -> None:
    await pass_on(services, request)


@serves(67, "AllocateProducerIds", (0, 0))
async def allocate_producer_ids(services: Services, request: Request[AllocateProducerIdsRequest]) -> None:
    await carry_out_here(services, request)


@serves(70, "ControllerRegistration", (0, 0))
async def controller_registration(services: Services, request: Request[ControllerRegistrationRequest]) -> None:
    await carry_out_here(services, request)


@serves(73, "AssignReplicasToDirs", (0, 0))
async def assign_replicas_to_dirs(services: Services, request: Request[AssignReplicasToDirsRequest]) -> None:
    await carry_out_here(services, request)
