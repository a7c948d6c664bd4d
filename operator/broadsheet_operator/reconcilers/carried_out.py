"""What of a paused Cluster's spec is carried out. Pure.

A pause raises the generation as any change does, so the generation does not say whether something else changed with it.
What was carried out is therefore remembered: a short hash of every field, in an annotation of the StatefulSet, written
when the Cluster is Ready and nothing goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from broadsheet_operator.api.cluster import ClusterSpec

ANNOTATION = "broadsheet.io/carried-out"
"""Annotation of the StatefulSet: the fields that were carried out, each with a hash of its value."""
MOST_NAMES = 5
"""So many fields are named; a message is read by people."""
WHILE = "while spec.paused is true"


def text(spec: ClusterSpec) -> str:
    """The annotation for a spec that is carried out. `paused` is not part of it, and neither are defaults: a newer
    operator that knows more fields finds the same."""
    return json.dumps(_hashes(spec), sort_keys=True, separators=(",", ":"))


def not_done(spec: ClusterSpec, remembered: str, *, exists: bool) -> str:
    """What is not carried out while the Cluster is paused, as a sentence; empty when all of it is.

    `remembered`: the annotation's text; `exists`: there is something that it could be remembered of.
    """
    if not exists:
        return f"nothing is created {WHILE}"
    before = _read(remembered)
    if before is None:
        return f"the spec was not carried out before the pause, and is not {WHILE}"
    now = _hashes(spec)
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if not changed:
        return ""
    names = ", ".join(f"spec.{key}" for key in changed[:MOST_NAMES])
    more = f" and {len(changed) - MOST_NAMES} more" if len(changed) > MOST_NAMES else ""
    return f"changed, and not carried out {WHILE}: {names}{more}"


def _hashes(spec: ClusterSpec) -> dict[str, str]:
    """By field, and by field of a field, a hash of the value."""
    found: dict[str, str] = {}
    declared = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"paused"})
    for key, value in declared.items():
        if isinstance(value, dict) and value:
            found |= {f"{key}.{inner}": _hash(part) for inner, part in value.items()}
        else:
            found[key] = _hash(value)
    return found


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _read(remembered: str) -> Mapping[str, str] | None:
    try:
        found = json.loads(remembered)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
