"""AlterPartitionReassignments (45) and ListPartitionReassignments (46): moving replicas (KIP-455)."""

from __future__ import annotations

from broadsheet_broker.apis.controllers import pass_on
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.controller.reassignments import list_reassignments
from broadsheet_broker.wire.messages.alter_partition_reassignments_request import AlterPartitionReassignmentsRequest
from broadsheet_broker.wire.messages.list_partition_reassignments_request import ListPartitionReassignmentsRequest


@serves(45, "AlterPartitionReassignments", (0, 1))
async def alter_partition_reassignments(
    services: Services, request: Request[AlterPartitionReassignmentsRequest]
) -> None:
    await pass_on(services, request)


@serves(46, "ListPartitionReassignments", (0, 0))
def list_partition_reassignments(services: Services, request: Request[ListPartitionReassignmentsRequest]) -> None:
    request.answer(list_reassignments(services.metadata.image, request.body))
