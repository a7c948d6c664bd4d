"""CustomResourceDefinitions from the models: `python -m broadsheet_operator.api.crd` writes crds/*.yaml, and
a copy for the chart.

Pydantic's JSON schema is turned into what the API server calls a structural schema: references are put in place,
unions with null become the type itself, constants become enums, and what a schema cannot say is said in CEL. Every
string, list and map is bounded, or the API server would refuse the CRD for the estimated cost of its rules.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from broadsheet_operator.api.changes import NO_OTHER_CLASS, NO_SHRINKING, NO_STORAGE_CHANGE
from broadsheet_operator.api.cluster import (
    EXTERNAL_NAME,
    EXTERNAL_NAME_HELP,
    NAME,
    NAME_HELP,
    TAKEN_NAMES,
    TAKEN_NAMES_HELP,
    TAKEN_PORTS_HELP,
    Cluster,
)
from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.maintenance import SCHEDULE_HELP, SCHEDULE_PATTERN
from broadsheet_operator.api.meta import GROUP, VERSION, Resource
from broadsheet_operator.api.owned import (
    ANNOTATIONS,
    KUBERNETES_PROPERTIES,
    LABELS,
    PREFIX,
    PROPERTIES,
    refused_property,
)
from broadsheet_operator.api.scheduling import TOLERATION_RULES
from broadsheet_operator.api.topic import FIELD_OF_CONFIG, Topic

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`. Priority 1 shows with -o wide only."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule at a place of the schema: spec.reset, or spec.listeners[] for each of a list; empty for the root."""

    place: str
    rule: str
    message: str
    field_path: str = ""
    at_creation: bool = False
    """Only a new object is checked: what can never change would otherwise forbid every later change, and deletion."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a CRD has beside its schema."""

    model: type[Resource]
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    scale: Schema | None = None
    status_default: Schema = field(default_factory=dict)


def _same(name: str, path: str) -> Rule:
    """A field of spec that never changes, whether it is there or not."""
    return Rule(
        "spec",
        f"has(self.{path}) == has(oldSelf.{path}) && (!has(self.{path}) || self.{path} == oldSelf.{path})",
        f"{name} cannot be changed; make a new resource instead",
        f".{path}",
    )


def _ready(description: str) -> tuple[Column, ...]:
    return (
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready or not.", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "The reason, as a sentence.", priority=1),
        Column("Age", ".metadata.creationTimestamp", "How long it has been declared.", type="date"),
    )


def _not_twice(key: str, field_name: str) -> tuple[Rule, ...]:
    """Kafka's name of a property, and the field that means the same, exclude each other."""
    parent, _, leaf = field_name.rpartition(".")
    there = f"has(self.{parent}) && has(self.{parent}.{leaf})" if parent else f"has(self.{leaf})"
    return tuple(
        Rule(
            "spec",
            f"!({there} && has(self.{place}) && '{key}' in self.{place})",
            f"{place} {key} and {field_name} are about the same thing; keep one of them",
        )
        for place in ("config", "unmanagedConfig")
    )


_MANAGED_OR_NOT = Rule(
    "spec",
    "!has(self.config) || !has(self.unmanagedConfig) || !self.unmanagedConfig.exists(key, key in self.config)",
    "a key is in config and in unmanagedConfig; either it is set here or somewhere else",
    ".unmanagedConfig",
)


_NOT_OURS = tuple(
    Rule("spec", f"!has(self.config) || !('{key}' in self.config)", refused_property(key, instead), ".config")
    for key, instead in sorted({**PROPERTIES, **KUBERNETES_PROPERTIES}.items())
)


def _keys_not_ours(place: str, also: tuple[str, ...]) -> Rule:
    return Rule(
        "spec.brokers.template",
        f"!has(self.{place}) || !self.{place}.exists(key, key.startsWith('{PREFIX}') || key in {list(also)})",
        f"{place} {', '.join(also)} and those that begin with {PREFIX} are set by Broadsheet; use other keys",
        f".{place}",
    )


def _reset_needs(to: str, name: str) -> Rule:
    return Rule(
        "spec.reset",
        f"(self.to == '{to}') == has(self.{name})",
        f"the field {name} goes with to: {to}, and only with it",
    )


DEFINITIONS = (
    Definition(
        Cluster,
        ("bsc",),
        ("broadsheet", "all"),
        (
            Column("Brokers", ".status.replicas", "Number of brokers.", type="integer"),
            Column("Up", ".status.readyReplicas", "How many brokers take requests.", type="integer"),
            Column("Topics", ".status.topics", "How many topics it holds.", type="integer"),
            Column("Under-min-ISR", ".status.underMinIsrPartitions", "Partitions without writes.", type="integer"),
            Column("Offline", ".status.offlinePartitions", "Partitions without a leader.", type="integer"),
            Column("Lagging", ".status.underReplicatedPartitions", "Partitions not fully in sync.", "integer", 1),
            Column("Rollout", ".status.rollout", "What a rolling change does or waits for.", priority=1),
            Column("Scaling", ".status.scaling", "What is being done to grow, shrink or rebalance.", priority=1),
            Column("Bootstrap", ".status.bootstrapServers", "What clients connect to.", priority=1),
            *_ready("Whether it takes requests as declared."),
        ),
        (
            Rule(
                "spec",
                "has(self.brokers) != has(self.external)",
                "give either brokers (we run them) or external (someone else does), one of the two",
            ),
            Rule(
                "spec",
                "has(self.external) == has(oldSelf.external)",
                "a cluster that we run cannot become an external one, nor the other way round",
            ),
            Rule(
                "spec",
                "!has(self.listeners) || self.listeners.all(a, self.listeners.exists_one(b, a.port == b.port))",
                "two listeners have the same port",
            ),
            Rule(
                "spec.listeners[]",
                f"!(self.name in {list(TAKEN_NAMES)})",
                TAKEN_NAMES_HELP,
                ".name",
            ),
            # Not in the models: with `broadsheet up` these ports are free.
            Rule("spec.listeners[]", "!(self.port in [9093, 9404])", TAKEN_PORTS_HELP, ".port"),
            _MANAGED_OR_NOT,
            Rule("", f"has(self.spec.external) || self.metadata.name.matches('{NAME}')", NAME_HELP, at_creation=True),
            Rule(
                "",
                f"!has(self.spec.external) || self.metadata.name.matches('{EXTERNAL_NAME}')",
                EXTERNAL_NAME_HELP,
                at_creation=True,
            ),
            Rule(
                "spec.brokers",
                "(has(self.storage) && has(self.storage.size)) == (has(oldSelf.storage) && has(oldSelf.storage.size))",
                NO_STORAGE_CHANGE,
                ".storage",
            ),
            Rule(
                "spec.brokers.storage",
                "!has(self.size) || !has(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
                NO_SHRINKING,
                ".size",
            ),
            Rule(
                "spec.brokers.storage",
                "!has(self.size) || quantity(self.size).isGreaterThan(quantity('0'))",
                "a volume must have room for something",
                ".size",
            ),
            Rule(
                "spec.brokers.storage",
                "has(self.storageClass) == has(oldSelf.storageClass) && "
                "(!has(self.storageClass) || self.storageClass == oldSelf.storageClass)",
                NO_OTHER_CLASS,
                ".storageClass",
            ),
            *(Rule("spec.brokers.template.tolerations[]", rule, words) for rule, words in TOLERATION_RULES),
            *_NOT_OURS,
            _keys_not_ours("labels", LABELS),
            _keys_not_ours("annotations", ANNOTATIONS),
            # A rule and no pattern: kubectl would show the whole pattern to a person who mistypes a schedule.
            Rule(
                "spec.maintenanceWindows[]", f"self.schedule.matches(r'{SCHEDULE_PATTERN}')", SCHEDULE_HELP, ".schedule"
            ),
        ),
        scale={
            "specReplicasPath": ".spec.brokers.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    Definition(
        Topic,
        ("bst",),
        ("broadsheet",),
        (
            Column("Cluster", ".spec.cluster", "The Cluster that holds it."),
            Column("Topic", ".status.topicName", "Its name in Kafka.", priority=1),
            Column("Partitions", ".status.partitions", "How many partitions there are.", type="integer"),
            Column("Replicas", ".status.replicationFactor", "How many replicas each partition has.", type="integer"),
            Column("In-Sync", ".status.inSync", "Replicas in sync of all replicas."),
            Column("Size", ".status.size", "Bytes on the brokers' disks.", priority=1),
            Column("Moving", ".status.reassignment.message", "How far replicas are that move.", priority=1),
            *_ready("Whether it is as declared."),
        ),
        (
            _same("cluster", "cluster"),
            _same("topicName", "topicName"),
            Rule(
                "spec",
                "!has(self.partitions) || !has(oldSelf.partitions) || self.partitions >= oldSelf.partitions",
                "partitions can grow but never shrink: Kafka cannot take a partition away without losing its records",
                ".partitions",
            ),
            Rule(
                "spec",
                "!has(self.replicationFactor) || !has(self.minInSyncReplicas)"
                " || self.minInSyncReplicas <= self.replicationFactor",
                "minInSyncReplicas is larger than replicationFactor: nothing could ever be written with acks=all",
            ),
            Rule(
                "",
                "has(self.spec.topicName) || size(self.metadata.name) <= 249",
                "a topic's name has at most 249 characters; set spec.topicName",
                at_creation=True,
            ),
            Rule(
                "spec",
                "!has(self.topicName) || !(self.topicName in ['.', '..'])",
                "Kafka keeps the names . and .. for itself",
                ".topicName",
            ),
            *(rule for key, name in FIELD_OF_CONFIG.items() for rule in _not_twice(key, name)),
            _MANAGED_OR_NOT,
        ),
    ),
    Definition(
        ConsumerGroup,
        ("bsg",),
        ("broadsheet",),
        (
            Column("Cluster", ".spec.cluster", "The Cluster where it reads.", priority=1),
            Column("Group", ".status.groupId", "Its id in Kafka."),
            Column("State", ".status.state", "Kafka's word for its state."),
            Column("Members", ".status.members", "How many members it has.", type="integer"),
            Column("Lag", ".status.lag", "Records still to be read.", type="integer"),
            Column("Lag-Seconds", ".status.lagSeconds", "Age of the oldest record still to be read.", type="integer"),
            Column("Verdict", ".status.verdict", "What the last minutes say about it."),
            *_ready("Whether it is there and could be looked at."),
        ),
        (
            _same("cluster", "cluster"),
            _same("groupId", "groupId"),
            _reset_needs("offset", "offset"),
            _reset_needs("time", "time"),
            _reset_needs("shift", "shiftBy"),
            _reset_needs("offsets", "offsets"),
            Rule(
                "spec.reset",
                "!(self.to == 'offsets' && has(self.topics))",
                "the field topics does not go with to: offsets, which names its topics itself",
            ),
        ),
    ),
)

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
        if node.get("x-nullable"):
            out["nullable"] = True
        return out
    kind = node.get("type", "object")
    out["type"] = kind
    for key in _KEPT:
        if key in node and not (key in ("minimum", "maximum") and abs(node[key]) >= _LONGEST_INTEGER):
            out[key] = node[key]
    if "x-help" in node:
        # A rule and no pattern: kubectl would show the pattern, and no explanation, when it is mistyped.
        rule = f"self.matches(r'{out.pop('pattern')}')"
        out["x-kubernetes-validations"] = [{"rule": rule, "message": f"write {node['x-help']}"}]
    if node.get("format") == "date-time" or kind == "integer":
        out["format"] = "int64" if kind == "integer" else "date-time"
    default = node.get("default")
    if isinstance(default, (str, int)) and default and not isinstance(default, bool):
        out["default"] = default
    if kind == "array":
        _list(node, out, shapes)
    elif kind == "object":
        _object(node, out, shapes)
    return out


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
