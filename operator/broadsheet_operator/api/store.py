"""How resources are read, wherever they are kept: from the API server's watches, or from a directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.meta import Resource


class ResourceReader(Protocol):
    """Resources with their statuses, as they are now. One that is not valid is left out, as if it were not there."""

    def get(self, kind: str, key: ResourceKey) -> Resource | None:
        """One resource by its kind (`Topic`) and key."""

    def list(self, kind: str) -> Sequence[Resource]:
        """All resources of a kind, by key."""
