"""One member of a classic group. State only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broadsheet_broker.coordinators.runtime.turn import NEVER

Protocols = list[tuple[str, bytes]]
"""Names of assignors in the member's order of preference, each with the member's subscription as opaque bytes."""


class Member:
    """One member of a classic group."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "deadline",
        "instance_id",
        "is_new",
        "join_reply",
        "member_id",
        "protocol_type",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "stored_id",
        "sync_reply",
    )

    def __init__(
        self,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocol_type: str,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        """Set for static members (KIP-345)."""
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocol_type = protocol_type
        self.protocols = protocols
        self.assignment = assignment
        self.join_reply: Callable[[Any], None] | None = None
        """The answer of a JoinGroup that waits for the rebalance."""
        self.sync_reply: Callable[[Any], None] | None = None
        """The answer of a SyncGroup that waits for the leader's assignment."""
        self.is_new = False
        """Waits in its first join: it does not know its id yet and cannot send heartbeats."""
        self.deadline = NEVER
        """Monotonic seconds after which the member is removed."""
        self.stored_id = member_id
        """The id of a static member in the log; differs from `member_id` while its new id is not committed."""

    @property
    def waits(self) -> bool:
        """A member that waits for the coordinator needs no heartbeat, unless it is new (its client may be gone)."""
        return not self.is_new and (self.join_reply is not None or self.sync_reply is not None)

    def metadata(self, protocol: str | None) -> bytes:
        """The member's subscription for an assignor."""
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        return b""

    def vote(self, candidates: set[str]) -> str | None:
        """The first of the member's protocols that every member supports."""
        for name, _ in self.protocols:
            if name in candidates:
                return name
        return None
