"""The latest state of each object that the watches reported: reconcilers read it instead of asking the API server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.manifests import KINDS
from broadsheet_operator.api.meta import Resource
from broadsheet_operator.kubernetes.kinds import Kind, kind_of

Body = Mapping[str, Any]


class KubernetesStore:
    """Objects by kind and key."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[ResourceKey, Body]] = defaultdict(dict)

    def put(self, kind: Kind, body: Body) -> bool:
        """Take in an object; False if this very version of it is here already, which stays the same Python object."""
        key = ResourceKey.of(body)
        known = self._objects[kind].get(key)
        if known is not None and _version(known) == _version(body) != ("", ""):
            return False
        self._objects[kind][key] = slim(body)
        return True

    def remove(self, kind: Kind, key: ResourceKey) -> None:
        self._objects[kind].pop(key, None)

    def get(self, kind: Kind, key: ResourceKey) -> Body | None:
        return self._objects[kind].get(key)

    def list(self, kind: Kind) -> Iterator[tuple[ResourceKey, Body]]:
        yield from list(self._objects[kind].items())

    def count(self, kind: Kind) -> int:
        return len(self._objects[kind])


class KubernetesResources:
    """The project's own resources in a KubernetesStore, as models: a `ResourceReader`."""

    def __init__(self, store: KubernetesStore) -> None:
        self._store = store

    def get(self, kind: str, key: ResourceKey) -> Resource | None:
        """One resource by its kind and key."""
        body = self._store.get(kind_of(KINDS[kind]), key)
        return _resource(kind, body) if body is not None else None

    def list(self, kind: str) -> Sequence[Resource]:
        """All resources of a kind, by key."""
        found = (_resource(kind, body) for _, body in sorted(self._store.list(kind_of(KINDS[kind])), key=_key))
        return [resource for resource in found if resource is not None]


def _key(item: tuple[ResourceKey, Body]) -> ResourceKey:
    return item[0]


def _resource(kind: str, body: Body) -> Resource | None:
    try:
        return KINDS[kind].model_validate(known_fields(body))
    except ValidationError:
        return None


def known_fields(body: Body) -> dict[str, Any]:
    """What a model has of an object."""
    return {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec", "status") if key in body}


def slim(body: Body) -> Body:
    """An object without managedFields: the larger half of it, which is never read here."""
    return {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}


def contains(have: Any, wanted: Any) -> bool:
    """Whether everything we would apply is there already. Lists must agree item by item."""
    if isinstance(wanted, Mapping):
        return isinstance(have, Mapping) and all(key in have and contains(have[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        same = isinstance(have, list) and len(have) == len(wanted)
        return same and all(contains(a, b) for a, b in zip(have, wanted, strict=True))
    return bool(have == wanted)


def _version(body: Body) -> tuple[str, str]:
    metadata = body["metadata"]
    return metadata.get("uid", ""), metadata.get("resourceVersion", "")
