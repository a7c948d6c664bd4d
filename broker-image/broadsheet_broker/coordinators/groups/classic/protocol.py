"""The protocol of classic groups, put together from its parts; one for all groups of a broker."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from broadsheet_broker.coordinators.groups.classic.joining import Joining
from broadsheet_broker.coordinators.groups.classic.rebalance import Rebalance
from broadsheet_broker.coordinators.groups.classic.sessions import Sessions
from broadsheet_broker.coordinators.groups.classic.syncing import Syncing
from broadsheet_broker.coordinators.groups.settings import GroupSettings


class ClassicProtocol:
    """JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and timeouts. It holds no state of any group."""

    __slots__ = ("joining", "sessions", "syncing")

    def __init__(self, settings: GroupSettings, new_uuid: Callable[[], UUID]) -> None:
        rebalance = Rebalance(settings)
        self.joining = Joining(settings, new_uuid, rebalance)
        self.syncing = Syncing(rebalance)
        self.sessions = Sessions(settings, rebalance)
