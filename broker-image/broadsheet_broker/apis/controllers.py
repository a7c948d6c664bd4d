"""Orders for the active controller: carried out on this node, or passed on to it.

A broker passes orders on to the active controller, wherever that is. A node that is asked on its controller listener
never does: it is the active controller or answers NOT_CONTROLLER, so that orders cannot circulate (KIP-590).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from broadsheet_broker.controller.orders import carry_out
from broadsheet_broker.node.forwarding import expect
from broadsheet_broker.wire.api_messages import response_class
from broadsheet_broker.wire.schema import Message

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services

Answer = TypeVar("Answer", bound=Message)


async def order(services: Services, request: Request[Any], answer: type[Answer]) -> Answer:
    """The active controller's answer; KafkaError(NOT_CONTROLLER) on a controller's listener of another node."""
    if request.connection.listener in services.config.controller_listener_names:
        return expect(await carry_out(services.node.active, request.body, request.version), answer)
    return await services.node.order(request.body, answer, request.version)


async def pass_on(services: Services, request: Request[Any]) -> None:
    """Answer an order of a client with what the active controller answers."""
    request.answer(await order(services, request, response_class(request.api_key)))


async def carry_out_here(services: Services, request: Request[Any]) -> None:
    """Answer an order of a node, which is given to the active controller only: KafkaError(NOT_CONTROLLER) elsewhere."""
    request.answer(await carry_out(services.node.active, request.body, request.version))
