"""Which controller a request speaks to: on a controller's listener it is this node's, or nobody.

A broker passes orders on to the active controller, wherever that is. A node that is asked on its controller listener
never does: it is the active controller or says NOT_CONTROLLER, so that no order goes in circles (KIP-590).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Rooms
    from broadsheet_broker.controller.active import ActiveController
    from broadsheet_broker.node import MetadataNode


def controller_of(rooms: Rooms, request: Request[Any]) -> MetadataNode | ActiveController:
    """Raises KafkaError(NOT_CONTROLLER) on a controller's listener of a node that is not the active one."""
    if request.connection.listener in rooms.config.controller_listener_names:
        return rooms.controller.active
    return rooms.controller
