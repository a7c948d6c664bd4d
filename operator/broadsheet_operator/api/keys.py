"""How a resource is named, the same everywhere: in stores, queues, rounds and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class ResourceKey(NamedTuple):
    """Namespace and name. With `broadsheet up` there are no namespaces, so that is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ResourceKey:
        """The key of an object as plain data."""
        return cls(body["metadata"].get("namespace", ""), body["metadata"]["name"])
