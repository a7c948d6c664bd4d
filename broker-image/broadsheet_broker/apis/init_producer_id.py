"""InitProducerId (key 22): an id for an idempotent producer (KIP-98, KIP-360).

Ids come from blocks that the controller allocates, so that each id is unique in the cluster. A
producer that brings its old id gets a new one: without transactions there is nothing to fence with a higher epoch.
"""

from __future__ import annotations

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.apis.transactions import UNSERVED, log_unserved
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.init_producer_id_request import InitProducerIdRequest
from broadsheet_broker.wire.messages.init_producer_id_response import InitProducerIdResponse


@serves(22, "InitProducerId", (0, 5), without="transactional ids")
async def init_producer_id(services: Services, request: Request[InitProducerIdRequest]) -> None:
    body = request.body
    if body.transactional_id is not None:
        code = ErrorCode.INVALID_REQUEST if not body.transactional_id else ErrorCode.UNSUPPORTED_VERSION
        log_unserved(services, request)
        raise KafkaError(code, UNSERVED)
    if (body.producer_id == -1) != (body.producer_epoch == -1):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Producer id and epoch must be given together, or both left at -1.")
    producer_id = await services.node.producer_ids.next()
    request.answer(InitProducerIdResponse(producer_id=producer_id, producer_epoch=0))
