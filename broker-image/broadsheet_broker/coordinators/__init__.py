"""Coordinators: groups, and later transactions and share groups."""

from broadsheet_broker.coordinators.groups import (
    GROUP_METADATA_TOPIC,
    Context,
    GroupCoordinator,
    GroupSettings,
    ReplicatedStorage,
    Storage,
)

__all__ = ["GROUP_METADATA_TOPIC", "Context", "GroupCoordinator", "GroupSettings", "ReplicatedStorage", "Storage"]
