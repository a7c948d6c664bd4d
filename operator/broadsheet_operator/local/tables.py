"""Resources as tables like kubectl's, as JSON or as YAML."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.definitions import DEFINITIONS
from broadsheet_operator.api.manifests import KINDS, AnyResource
from broadsheet_operator.api.quantities import format_duration

Cell = Callable[[Any], object]
NAMES = {
    word: definition.model.__name__
    for definition in DEFINITIONS
    for word in (definition.model.__name__.lower(), definition.model.PLURAL, *definition.short_names)
} | dict.fromkeys(("group", "groups"), "ConsumerGroup")
"""What people may type for a kind."""


def _ready(resource: AnyResource) -> str:
    condition = resource.status.condition("Ready") if resource.status else None
    return condition.status if condition else "Unknown"


def _reason(resource: AnyResource) -> str:
    condition = resource.status.condition("Ready") if resource.status else None
    return condition.reason if condition else "Pending"


def _message(resource: AnyResource) -> str:
    condition = resource.status.condition("Ready") if resource.status else None
    return condition.message if condition else ""


def _age(resource: AnyResource) -> str:
    try:
        born = datetime.fromisoformat(resource.metadata.creation_timestamp)
    except ValueError:
        return "<unknown>"
    return format_duration(max(0, int((datetime.now(UTC) - born).total_seconds())) * 1000).replace("0ms", "0s")


def _of_status(name: str) -> Cell:
    return lambda resource: getattr(resource.status, name, None) if resource.status else None


def _up(resource: Cluster) -> str | None:
    if resource.status is None or resource.status.replicas is None:
        return None
    return f"{resource.status.ready_replicas or 0}/{resource.status.replicas}"


_REST: list[tuple[str, Cell]] = [("READY", _ready), ("AGE", _age)]
_WIDE: list[tuple[str, Cell]] = [("REASON", _reason), ("MESSAGE", _message)]

COLUMNS: dict[str, list[tuple[str, Cell]]] = {
    "Cluster": [
        ("NAME", lambda r: r.metadata.name),
        ("BROKERS", _up),
        ("BOOTSTRAP", _of_status("bootstrap_servers")),
        ("TOPICS", _of_status("topics")),
        *_REST,
    ],
    "Topic": [
        ("NAME", lambda r: r.metadata.name),
        ("CLUSTER", lambda r: r.spec.cluster),
        ("PARTITIONS", _of_status("partitions")),
        ("REPLICAS", _of_status("replication_factor")),
        ("IN-SYNC", _of_status("in_sync")),
        *_REST,
    ],
    "ConsumerGroup": [
        ("NAME", lambda r: r.metadata.name),
        ("GROUP", lambda r: r.group_id),
        ("STATE", _of_status("state")),
        ("MEMBERS", _of_status("members")),
        ("LAG", _of_status("lag")),
        ("LAG-SECONDS", _of_status("lag_seconds")),
        ("VERDICT", _of_status("verdict")),
        *_REST,
    ],
}
EXTRA: dict[str, list[tuple[str, Cell]]] = {
    "Cluster": [("OFFLINE", _of_status("offline_partitions")), *_WIDE],
    "Topic": [("SIZE", _of_status("size")), *_WIDE],
    "ConsumerGroup": [("UNCOMMITTED", _of_status("uncommitted_partitions")), *_WIDE],
}


def _columns(kind: str) -> list[tuple[str, Cell]]:
    """A kind without columns of its own shows what all have."""
    return COLUMNS.get(kind) or [("NAME", lambda r: r.metadata.name), ("CLUSTER", lambda r: r.spec.cluster), *_REST]


def table(kind: str, resources: Sequence[AnyResource], *, wide: bool = False) -> str:
    """Resources of one kind, a line each."""
    columns = _columns(kind) + (EXTRA.get(kind, _WIDE) if wide else [])
    rows = [[name for name, _ in columns]]
    rows += [[_text(cell(resource)) for _, cell in columns] for resource in resources]
    return align(rows)


def tables(resources: Sequence[AnyResource], *, wide: bool = False) -> str:
    """A table for each kind that there is."""
    parts = []
    for kind in KINDS:
        some = [r for r in resources if type(r).__name__ == kind]
        if some:
            parts.append(table(kind, some, wide=wide))
    return "\n\n".join(parts)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns under each other, three spaces apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("   ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _text(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def plain(resource: AnyResource) -> dict[str, Any]:
    """The resource as plain data, status included."""
    data = resource.manifest()
    order = ("apiVersion", "kind", "metadata", "spec", "status")
    return {"apiVersion": resource.api_version, "kind": resource.kind} | {k: data[k] for k in order if k in data}


def as_json(resources: Sequence[AnyResource], *, single: bool) -> str:
    """One object, or a List as kubectl prints it."""
    return json.dumps(_object(resources, single), indent=2)


def as_yaml(resources: Sequence[AnyResource], *, single: bool) -> str:
    """One object, or a List as kubectl prints it."""
    return yaml.safe_dump(_object(resources, single), sort_keys=False).rstrip("\n")


def _object(resources: Sequence[AnyResource], single: bool) -> dict[str, Any]:
    if single:
        return plain(resources[0])
    return {"apiVersion": "v1", "kind": "List", "items": [plain(r) for r in resources]}


__all__ = ["NAMES", "align", "as_json", "as_yaml", "plain", "table", "tables"]
