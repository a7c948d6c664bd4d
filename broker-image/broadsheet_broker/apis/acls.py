"""DescribeAcls (key 29), CreateAcls (30), DeleteAcls (31): SECURITY_DISABLED, as Kafka answers without an authorizer.

Tools know that answer: MirrorMaker 2 stops copying ACLs, kafka-acls says that no authorizer is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.create_acls_response import AclCreationResult, CreateAclsResponse
from broadsheet_broker.wire.messages.delete_acls_response import DeleteAclsFilterResult, DeleteAclsResponse
from broadsheet_broker.wire.messages.describe_acls_response import DescribeAclsResponse

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.create_acls_request import CreateAclsRequest
    from broadsheet_broker.wire.messages.delete_acls_request import DeleteAclsRequest
    from broadsheet_broker.wire.messages.describe_acls_request import DescribeAclsRequest

_DISABLED: Final = "No Authorizer is configured."


@serves(29, "DescribeAcls", (1, 3))
def describe_acls(services: Services, request: Request[DescribeAclsRequest]) -> None:
    request.answer(
        DescribeAclsResponse(
            error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer is configured on the broker"
        )
    )


@serves(30, "CreateAcls", (1, 3))
def create_acls(services: Services, request: Request[CreateAclsRequest]) -> None:
    refused = [
        AclCreationResult(error_code=ErrorCode.SECURITY_DISABLED, error_message=_DISABLED)
        for _ in request.body.creations
    ]
    request.answer(CreateAclsResponse(results=refused))


@serves(31, "DeleteAcls", (1, 3))
def delete_acls(services: Services, request: Request[DeleteAclsRequest]) -> None:
    refused = [
        DeleteAclsFilterResult(error_code=ErrorCode.SECURITY_DISABLED, error_message=_DISABLED)
        for _ in request.body.filters
    ]
    request.answer(DeleteAclsResponse(filter_results=refused))
