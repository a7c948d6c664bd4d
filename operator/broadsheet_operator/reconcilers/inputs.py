"""What a broker is started with, remembered beside its hash, and what has changed in it since. Pure.

The inputs are an annotation of the pod template, so every pod has those that it was started with: a restart can say
which difference it is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

ANNOTATION = "broadsheet.io/started-with"
RESTART = "restart"
"""The input that a person changes to have brokers restarted: the value of the annotation that asks for it."""
LONGEST_VALUE = 120
SECRET = re.compile(r"password|secret|credential|token|jaas|private|keystore[.]key|sasl[.]", re.IGNORECASE)
"""Properties whose values are not shown."""
WORDS = {
    "advertised_listeners": "advertised listeners",
    "template_labels": "labels",
    "template_annotations": "annotations",
    "node_selector": "nodeSelector",
    "priority_class_name": "priorityClassName",
    "topology_key": "rack.topologyKey",
    "rack_from_pod": "",
}
"""How inputs are called, where that is not their name; empty: another input says the same."""


def remembered(inputs: Mapping[str, Any]) -> str:
    """The annotation's text. Secrets are left out: the hash beside it shows when they change."""
    shown = {key: value for key, value in inputs["properties"].items() if not SECRET.search(key)}
    return json.dumps({**inputs, "properties": shown}, sort_keys=True)


def started_with(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a pod was started with, or a template will be, with the properties among it; empty where it does not say."""
    return _read(item) or {}


def difference(pod: Mapping[str, Any], template: Mapping[str, Any]) -> str:
    """What changed from what the pod was started with to what the template says; empty when that is not known."""
    before, after = _read(pod), _read(template)
    if before is None or after is None:
        return ""
    return "; ".join(_changes(before, after)) or "a property changed whose value is a secret"


def is_restart_alone(pod: Mapping[str, Any], template: Mapping[str, Any]) -> bool:
    """Whether nothing has changed but that a restart was asked for."""
    before, after = _read(pod), _read(template)
    if before is None or after is None or before.get(RESTART) == after.get(RESTART):
        return False
    return {**before, RESTART: None} == {**after, RESTART: None}


def _read(item: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        found = json.loads((item["metadata"].get("annotations") or {})[ANNOTATION])
        properties = dict(found.pop("properties"))
        return {**found, **properties}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        name, old, new = WORDS.get(key, key), before.get(key), after.get(key)
        if old == new or not name:
            continue
        if key == RESTART:
            yield f"a restart was requested ({_show(new)})"
            continue
        if old in (None, {}, []):
            yield f"{name} set to {_show(new)}"
        elif new in (None, {}, []):
            yield f"{name} {_show(old)} removed"
        else:
            yield f"{name} changed from {_show(old)} to {_show(new)}"


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
