"""Where the leader is: what Produce 10+ and Fetch 16+ add to a refusal, so that clients need no Metadata (KIP-951)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Services

MOVED = frozenset((ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH))
"""The errors after which a client should look elsewhere."""

Node = TypeVar("Node")


class LeaderHints(Generic[Node]):
    """Gathers the leaders of the partitions that one answer refuses, and their addresses.

    `leader` and `node` are the classes that the answer's message has for them. An address is the one on the listener
    that the client used; a broker without that listener is left out. A partition that another broker may lead by now,
    although this one leads it in the metadata here, gets no hint.
    """

    __slots__ = ("_image", "_leader", "_listener", "_node", "_replicas", "_seen")

    def __init__(
        self, services: Services, listener: str, leader: Callable[..., Any], node: Callable[..., Node]
    ) -> None:
        self._image = services.metadata.image
        self._replicas = services.replicas
        self._listener = listener
        self._leader = leader
        self._node = node
        self._seen: set[int] = set()

    def add(self, row: Any, topic: str | UUID, index: int) -> None:
        """Name the partition's leader in its row of the answer, if the row is refused since the leader has moved."""
        if row.error_code not in MOVED:
            return
        if isinstance(topic, UUID):
            known = self._image.topics_by_id.get(topic)
            topic = "" if known is None else known.name
        partition = self._image.partition(topic, index)
        if partition is not None and not self._replicas.is_in_doubt(topic, index):
            row.current_leader = self._leader(leader_id=partition.leader, leader_epoch=partition.leader_epoch)
            self._seen.add(partition.leader)

    def endpoints(self) -> list[Node]:
        """Addresses of the leaders named, by broker id."""
        found = []
        for id in sorted(self._seen):
            broker = self._image.brokers.get(id)
            address = None if broker is None else broker.endpoints.get(self._listener)
            if broker is not None and address is not None:
                found.append(self._node(node_id=id, host=address.host, port=address.port, rack=broker.rack))
        return found
