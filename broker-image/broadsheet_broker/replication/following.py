"""One partition on the way from its leader to this broker: how far it is, and what was requested last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition


class Following:
    """One partition that a fetcher copies."""

    __slots__ = (
        "active",
        "failures",
        "in_session",
        "leader_end",
        "leader_epoch",
        "partition",
        "sent_epoch",
        "sent_number",
        "sent_offset",
        "timer",
    )

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.leader_epoch = partition.leader_epoch
        self.active = True
        """False while it pauses: it is in no request then."""
        self.in_session = False
        self.leader_end = 0
        """High watermark in the leader's last response."""
        self.sent_offset = -1
        self.sent_epoch = -1
        self.sent_number = 0
        """The request that spoke of it last: what earlier ones are answered about it is old."""
        self.failures = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def lag(self) -> int:
        """Records up to the leader's high watermark that are not here yet."""
        return max(0, self.leader_end - self.partition.flushed_end_offset)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
