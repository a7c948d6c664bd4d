"""Where the leader is: what Produce 10+ and Fetch 16+ add to a refusal, so that clients need no Metadata (KIP-951)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Services

MOVED = frozenset((ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH))
"""The errors after which a client should look elsewhere."""


def current_leader(services: Services, topic: str, index: int) -> tuple[int, int] | None:
    """Leader and its epoch as the metadata has them; None for a partition that does not exist, and where this broker
    leads in the metadata that it has and another may by now."""
    found = services.metadata.image.partition(topic, index)
    if found is None or services.replicas.is_in_doubt(topic, index):
        return None
    return found.leader, found.leader_epoch


def endpoint(services: Services, broker_id: int, listener: str) -> tuple[str, int, str | None] | None:
    """Host, port and rack of a broker, on the listener that the client used; None where it has no such listener."""
    broker = services.metadata.image.brokers.get(broker_id)
    if broker is None or listener not in broker.endpoints:
        return None
    address = broker.endpoints[listener]
    return address.host, address.port, broker.rack
