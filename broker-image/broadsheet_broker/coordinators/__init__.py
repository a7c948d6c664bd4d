"""Coordinators: groups, and later transactions and share groups."""

from broadsheet_broker.coordinators.groups import Context, GroupCoordinator, GroupSettings
from broadsheet_broker.coordinators.runtime import ReplicatedStorage, Storage

__all__ = ["Context", "GroupCoordinator", "GroupSettings", "ReplicatedStorage", "Storage"]
