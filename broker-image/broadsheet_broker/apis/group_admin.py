"""DescribeGroups, ListGroups and DeleteGroups (keys 15, 16, 42): administration of groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.apis import authorized_operations
from broadsheet_broker.apis.group_membership import context_of
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages.delete_groups_response import DeletableGroupResult, DeleteGroupsResponse
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup, DescribeGroupsResponse

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.delete_groups_request import DeleteGroupsRequest
    from broadsheet_broker.wire.messages.describe_groups_request import DescribeGroupsRequest
    from broadsheet_broker.wire.messages.list_groups_request import ListGroupsRequest

OTHER_GROUPS = "groups of the consumer, share and streams protocols, which Apache Kafka may have left here"
"""For the reference: they are listed and their offsets can be read, and nothing else."""
GROUP_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
"""Bits of READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS (KIP-430): all of them, as nothing is denied."""


def _refuse_description(body: DescribeGroupsRequest, version: int, error: KafkaError) -> DescribeGroupsResponse:
    return DescribeGroupsResponse(
        groups=[DescribedGroup(group_id=group, error_code=error.code) for group in body.groups]
    )


@serves(15, "DescribeGroups", (0, 6), refuse=_refuse_description, without=authorized_operations.UNCHECKED)
def describe_groups(services: Services, request: Request[DescribeGroupsRequest]) -> None:
    body = request.body
    groups = services.groups.describe(body.groups, request.version)
    if body.include_authorized_operations:
        for group in groups:
            if not group.error_code:
                group.authorized_operations = GROUP_OPERATIONS
    request.answer(DescribeGroupsResponse(groups=groups))


@serves(16, "ListGroups", (0, 5))
def list_groups(services: Services, request: Request[ListGroupsRequest]) -> None:
    body = request.body
    request.answer(services.groups.list_groups(body.states_filter, body.types_filter))


def _refuse_deletion(body: DeleteGroupsRequest, version: int, error: KafkaError) -> DeleteGroupsResponse:
    return DeleteGroupsResponse(
        results=[DeletableGroupResult(group_id=group, error_code=error.code) for group in body.groups_names]
    )


@serves(42, "DeleteGroups", (0, 2), refuse=_refuse_deletion, without=OTHER_GROUPS)
def delete_groups(services: Services, request: Request[DeleteGroupsRequest]) -> None:
    def answer(results: list[DeletableGroupResult]) -> None:
        request.answer(DeleteGroupsResponse(results=results))

    services.groups.delete(request.body.groups_names, context_of(request), answer)
