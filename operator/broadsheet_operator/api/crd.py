"""CustomResourceDefinitions from the models: `python -m broadsheet_operator.api.crd` writes crds/*.yaml, and
a copy for the chart.

Pydantic's JSON schema is turned into what the API server calls a structural schema: references are put in place,
unions with null become the type itself, constants become enums, and what a schema cannot say is said in CEL. Every
string, list and map is bounded, or the API server would refuse the CRD for the estimated cost of its rules.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from broadsheet_operator.api.definitions import DEFINITIONS, Column, Definition, Rule
from broadsheet_operator.api.meta import GROUP, VERSION

Schema = dict[str, Any]

FIRST_CONDITION = {
    "type": "Ready",
    "status": "Unknown",
    "reason": "Pending",
    "message": "Waiting for the operator",
    "lastTransitionTime": "1970-01-01T00:00:00Z",
}
"""What a new object says of itself until the operator has looked at it, so that no tool takes it for a healthy one."""


def definition(what: Definition) -> Schema:
    """One CustomResourceDefinition as plain data."""
    kind = what.model.__name__
    schema = what.model.model_json_schema(by_alias=True)
    shapes = schema.get("$defs", {})
    spec = _structural(schema["properties"]["spec"], shapes)
    status = _structural(schema["properties"]["status"], shapes)
    status["description"] = "What really is, written by the operator."
    status.pop("required", None)
    status["default"] = {"conditions": [dict(FIRST_CONDITION)]}
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": what.model.PLURAL,
        "singular": kind.lower(),
        "shortNames": list(what.short_names),
        "categories": list(what.categories),
    }
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(c) for c in what.columns],
        "subresources": {"status": {}} | ({"scale": what.scale} if what.scale else {}),
        "schema": {
            "openAPIV3Schema": {
                "description": _one_line(what.model.__doc__ or ""),
                "type": "object",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"description": f"{GROUP}/{VERSION}", "type": "string"},
                    "kind": {"description": kind, "type": "string"},
                    "metadata": {"type": "object"},
                    "spec": spec,
                    "status": status,
                },
            }
        },
    }
    _add_rules(version["schema"]["openAPIV3Schema"], what.rules)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{what.model.PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _column(column: Column) -> Schema:
    shape: Schema = {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "jsonPath": column.path,
    }
    return shape | ({"priority": column.priority} if column.priority else {})


def _add_rules(root: Schema, rules: tuple[Rule, ...]) -> None:
    for rule in rules:
        place = root
        for part in filter(None, rule.place.split(".")):
            place = place["properties"][part.removesuffix("[]")]
            if part.endswith("[]"):
                place = place["items"]
        shape: Schema = {"rule": rule.rule, "message": rule.message}
        if rule.at_creation:
            shape = {"rule": f"oldSelf.hasValue() || ({rule.rule})", "message": rule.message, "optionalOldSelf": True}
        if rule.field_path:
            shape["fieldPath"] = rule.field_path
        place.setdefault("x-kubernetes-validations", []).append(shape)


_KEPT = ("pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties", "enum")
_LONGEST_INTEGER = 2**63 - 1


def _structural(node: Schema, shapes: dict[str, Schema]) -> Schema:
    """A node of pydantic's schema as the API server wants it."""
    node = _resolved(node, shapes)
    out: Schema = {}
    if node.get("description"):
        out["description"] = _one_line(node["description"])
    if node.get("x-int-or-string"):
        out["x-kubernetes-int-or-string"] = True
        out |= {k: node[k] for k in ("pattern", "maxLength") if k in node}
        if "x-help" in node:
            _explain(node, out, "type(self) == int || ")
        if node.get("x-nullable"):
            out["nullable"] = True
        return out
    kind = node.get("type", "object")
    out["type"] = kind
    for key in _KEPT:
        if key in node and not (key in ("minimum", "maximum") and abs(node[key]) >= _LONGEST_INTEGER):
            out[key] = node[key]
    if "x-help" in node:
        _explain(node, out)
    if node.get("format") == "date-time" or kind == "integer":
        out["format"] = "int64" if kind == "integer" else "date-time"
    _default(node, out)
    if kind == "array":
        _list(node, out, shapes)
    elif kind == "object":
        _object(node, out, shapes)
    return out


def _default(node: Schema, out: Schema) -> None:
    """The default as words: the models know it, and one that the API server filled in would be in the object and not in
    Git. In a list Argo CD takes that for a difference, which it can never put right."""
    default = node.get("default")
    if not isinstance(default, (str, int)) or not default or isinstance(default, bool):
        return
    if node.get("x-filled-in"):
        out["default"] = default
        return
    words = out.get("description", "")
    if "default" not in words.lower() and "left out" not in words.lower():
        out["description"] = f"{words} Default: {default}.".strip()


def _explain(node: Schema, out: Schema, unless: str = "") -> None:
    """A rule and no pattern: kubectl would show the pattern, and no explanation, when it is mistyped."""
    rule = f"{unless}self.matches(r'{out.pop('pattern')}')"
    out["x-kubernetes-validations"] = [{"rule": rule, "message": f"write {node['x-help']}"}]


def _list(node: Schema, out: Schema, shapes: dict[str, Schema]) -> None:
    out["items"] = _structural(node["items"], shapes)
    if "x-list-map-keys" in node:
        out["x-kubernetes-list-type"] = "map"
        out["x-kubernetes-list-map-keys"] = node["x-list-map-keys"]
    else:
        out["x-kubernetes-list-type"] = "set" if node.get("x-set") else "atomic"


def _object(node: Schema, out: Schema, shapes: dict[str, Schema]) -> None:
    if "properties" in node:
        out["properties"] = {name: _structural(child, shapes) for name, child in node["properties"].items()}
        if node.get("required"):
            out["required"] = sorted(node["required"])
    elif isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(node["additionalProperties"], shapes)
    elif node.get("patternProperties"):
        out["additionalProperties"] = _structural(next(iter(node["patternProperties"].values())), shapes)
    else:
        out["x-kubernetes-preserve-unknown-fields"] = True


def _resolved(node: Schema, shapes: dict[str, Schema]) -> Schema:
    """The node with references, unions with null and int-or-string put into one flat shape."""
    while True:
        if "$ref" in node:
            target = shapes[node["$ref"].rpartition("/")[2]]
            node = target | {k: v for k, v in node.items() if k != "$ref"}
        elif "allOf" in node and len(node["allOf"]) == 1:
            node = node["allOf"][0] | {k: v for k, v in node.items() if k != "allOf"}
        elif "anyOf" in node:
            node = _union(node, shapes)
        elif "const" in node:
            node = {k: v for k, v in node.items() if k != "const"} | {"enum": [node["const"]]}
        else:
            return node


def _union(node: Schema, shapes: dict[str, Schema]) -> Schema:
    rest = {k: v for k, v in node.items() if k != "anyOf"}
    members = [m for m in node["anyOf"] if m.get("type") != "null"]
    members = [_resolved(m, shapes) for m in members]
    if len(members) == 1:
        if rest.get("default") is None:
            rest.pop("default", None)
        return {**members[0], **rest}
    if {m.get("type") for m in members} == {"string", "integer"}:
        text = next(m for m in members if m["type"] == "string")
        return {k: v for k, v in text.items() if k != "type"} | rest | {"x-int-or-string": True}
    raise TypeError(f"no structural schema says: {node}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


PLACES = ("crds", "charts/broadsheet/files/crds")
"""Where the definitions are kept, from the root of the repository."""


def render(what: Definition) -> str:
    """The file of one CRD."""
    header = "# Generated by `python -m broadsheet_operator.api.crd` from the pydantic models. Do not edit.\n"
    return header + yaml.safe_dump(definition(what), sort_keys=False, width=120, allow_unicode=True)


def files() -> dict[str, str]:
    """File name to content, of all CRDs."""
    return {f"{d.model.PLURAL}.yaml": render(d) for d in DEFINITIONS}


def main(arguments: list[str]) -> int:
    """Write the files: for `kubectl apply`, and a copy for the chart, since Helm warns of symbolic links."""
    for place in arguments or PLACES:
        directory = Path(place)
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            (directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
