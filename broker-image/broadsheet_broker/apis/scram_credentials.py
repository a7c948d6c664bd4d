"""DescribeUserScramCredentials (key 50): mechanisms and iterations of the credentials in the metadata (KIP-554).

None can be made here; Apache Kafka may have left some. The credentials themselves are never returned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.describe_user_scram_credentials_response import (
    CredentialInfo,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.describe_user_scram_credentials_request import (
        DescribeUserScramCredentialsRequest,
    )


@serves(50, "DescribeUserScramCredentials", (0, 0), without="SCRAM authentication: shows what Apache Kafka has left")
def describe_user_scram_credentials(services: Services, request: Request[DescribeUserScramCredentialsRequest]) -> None:
    found: dict[str, list[CredentialInfo]] = defaultdict(list)
    for (user, mechanism), credential in services.metadata.image.scram.items():
        found[user].append(CredentialInfo(mechanism=mechanism, iterations=credential.iterations))
    asked = Counter(user.name for user in request.body.users or ()) or Counter(dict.fromkeys(found, 1))
    answer = DescribeUserScramCredentialsResponse(error_message=None)
    for user, times in asked.items():
        result = DescribeUserScramCredentialsResult(user=user, error_message=None)
        if times > 1:
            result.error_code = ErrorCode.DUPLICATE_RESOURCE
            result.error_message = (
                f"Cannot describe SCRAM credentials for the same user twice in a single request: {user}"
            )
        elif user not in found:
            result.error_code = ErrorCode.RESOURCE_NOT_FOUND
            result.error_message = f"Attempt to describe a user credential that does not exist: {user}"
        else:
            result.credential_infos = found[user]
        answer.results.append(result)
    request.answer(answer)
