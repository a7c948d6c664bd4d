"""ElectLeaders (key 43): give partitions back to their preferred leaders, or elect an out-of-sync one (KIP-460)."""

from __future__ import annotations

from broadsheet_broker.apis.controllers import pass_on
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.elect_leaders_request import ElectLeadersRequest
from broadsheet_broker.wire.messages.elect_leaders_response import (
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)


def _refuse(body: ElectLeadersRequest, version: int, error: KafkaError) -> ElectLeadersResponse:
    results = [
        ReplicaElectionResult(
            topic=topic.topic,
            partition_result=[
                PartitionResult(partition_id=index, error_code=error.code, error_message=error.message)
                for index in topic.partitions
            ],
        )
        for topic in body.topic_partitions or ()
    ]
    top = ErrorCode.NONE if version == 0 else error.code
    return ElectLeadersResponse(error_code=top, replica_election_results=results)


@serves(43, "ElectLeaders", (0, 2), refuse=_refuse)
async def elect_leaders(services: Services, request: Request[ElectLeadersRequest]) -> None:
    await pass_on(services, request)
