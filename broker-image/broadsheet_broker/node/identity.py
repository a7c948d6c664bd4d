"""Who a node is, as its log directories say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, as its directories say."""

    cluster_id: str
    node_id: int
    directories: Mapping[str, UUID]
    """Ids of the usable log directories, by path, in the order of log.dirs."""
    metadata_directory: str
    """The directory that holds the metadata log."""
    metadata_directory_id: UUID
    failures: Mapping[str, str] = field(default_factory=dict)
    """Log directories that cannot be used, and why; the node runs without them."""
