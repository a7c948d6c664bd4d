"""DescribeAcls (key 29), CreateAcls (30), DeleteAcls (31): SECURITY_DISABLED, as Kafka answers without an authorizer.

Tools understand that answer: MirrorMaker 2 stops copying ACLs, kafka-acls says that no authorizer is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.create_acls_response import AclCreationResult, CreateAclsResponse
from broadsheet_broker.wire.messages.delete_acls_response import DeleteAclsFilterResult, DeleteAclsResponse
from broadsheet_broker.wire.messages.describe_acls_response import DescribeAclsResponse

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.create_acls_request import CreateAclsRequest
    from broadsheet_broker.wire.messages.delete_acls_request import DeleteAclsRequest
    from broadsheet_broker.wire.messages.describe_acls_request import DescribeAclsRequest

_WITHOUT: Final = "an authorizer: the answer is SECURITY_DISABLED"
_DISABLED: Final = KafkaError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured.")


@serves(29, "DescribeAcls", (1, 3), without=_WITHOUT)
def describe_acls(services: Services, request: Request[DescribeAclsRequest]) -> None:
    request.answer(
        DescribeAclsResponse(
            error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer is configured on the broker"
        )
    )


def _refuse_creation(body: CreateAclsRequest, version: int, error: KafkaError) -> CreateAclsResponse:
    refused = [AclCreationResult(error_code=error.code, error_message=error.message) for _ in body.creations]
    return CreateAclsResponse(results=refused)


@serves(30, "CreateAcls", (1, 3), refuse=_refuse_creation, without=_WITHOUT)
def create_acls(services: Services, request: Request[CreateAclsRequest]) -> None:
    request.answer(_refuse_creation(request.body, request.version, _DISABLED))


def _refuse_deletion(body: DeleteAclsRequest, version: int, error: KafkaError) -> DeleteAclsResponse:
    refused = [DeleteAclsFilterResult(error_code=error.code, error_message=error.message) for _ in body.filters]
    return DeleteAclsResponse(filter_results=refused)


@serves(31, "DeleteAcls", (1, 3), refuse=_refuse_deletion, without=_WITHOUT)
def delete_acls(services: Services, request: Request[DeleteAclsRequest]) -> None:
    request.answer(_refuse_deletion(request.body, request.version, _DISABLED))
