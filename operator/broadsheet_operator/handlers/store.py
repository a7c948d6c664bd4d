"""The latest of each object that the watches have told of: what reconcilers read instead of asking the API server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from broadsheet_operator.kubernetes.kinds import Kind

Body = Mapping[str, Any]


class Key(NamedTuple):
    """An object by its namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def of(cls, body: Body) -> Key:
        return cls(body["metadata"].get("namespace", ""), body["metadata"]["name"])


class Store:
    """Objects by kind and key."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, Body]] = {kind: {} for kind in Kind}

    def put(self, kind: Kind, body: Body) -> bool:
        """Take in an object; False if this very version of it is here already, which stays the same Python object."""
        key = Key.of(body)
        known = self._objects[kind].get(key)
        if known is not None and _version(known) == _version(body) != ("", ""):
            return False
        self._objects[kind][key] = slim(body)
        return True

    def remove(self, kind: Kind, key: Key) -> None:
        self._objects[kind].pop(key, None)

    def get(self, kind: Kind, key: Key) -> Body | None:
        return self._objects[kind].get(key)

    def all(self, kind: Kind) -> Iterator[tuple[Key, Body]]:
        yield from list(self._objects[kind].items())

    def count(self, kind: Kind) -> int:
        return len(self._objects[kind])


def slim(body: Body) -> Body:
    """An object without who set which field: the larger half of it, which nobody here reads."""
    return {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}


def _version(body: Body) -> tuple[str, str]:
    metadata = body["metadata"]
    return metadata.get("uid", ""), metadata.get("resourceVersion", "")
