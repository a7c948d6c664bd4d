"""Manifests: YAML text to resources, with every mistake reported.

A mistake names the file, the resource, the field, the value that stands there and what is allowed; a misspelt field
name gets the name that was probably meant.
"""

from __future__ import annotations

import difflib
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from broadsheet_operator.api import quantities
from broadsheet_operator.api.cluster import HOST_PORT_HELP, HOST_PORT_PATTERN, THROTTLE_HELP, THROTTLE_PATTERN, Cluster
from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.engine import OPTION_HELP, OPTION_PATTERN
from broadsheet_operator.api.engine_versions import VERSION_HELP, VERSION_PATTERN
from broadsheet_operator.api.maintenance import TIME_ZONE_PATTERN, WINDOW_DURATION_HELP, WINDOW_DURATION_PATTERN
from broadsheet_operator.api.meta import (
    API_VERSION,
    CLUSTER_HELP,
    CLUSTER_PATTERN,
    TOPIC_HELP,
    TOPIC_PATTERN,
    Dependent,
    Resource,
)
from broadsheet_operator.api.topic import Topic

AnyResource = Cluster | Dependent
KINDS: dict[str, type[Cluster] | type[Dependent]] = {model.__name__: model for model in (Cluster, Topic, ConsumerGroup)}
"""The kinds of resources, by what `kind` says."""
MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a manifest."""

    where: str
    """File and document, or just the resource."""
    field: str
    """Path of the field, as spec.retention.time; empty when the whole document is meant."""
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: {self.message}" if self.field else f"{self.where}: {self.message}"


class ManifestError(Exception):
    """Manifests that cannot be taken, with all their mistakes."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(m) for m in mistakes))


def load_paths(paths: list[str]) -> list[AnyResource]:
    """Resources of files and directories (*.yaml, *.yml, *.json in it, by name). `-` is the standard input."""
    resources: list[AnyResource] = []
    mistakes: list[Mistake] = []
    for path in paths:
        try:
            files = manifest_files(path)
        except ManifestError as error:
            mistakes += error.mistakes
            continue
        for file in files:
            try:
                resources += load_text(_read(file), str(file))
            except ManifestError as error:
                mistakes += error.mistakes
    mistakes += _declared_twice(resources)
    if mistakes:
        raise ManifestError(mistakes)
    return resources


def manifest_files(path: str) -> list[str]:
    """The files that a path on the command line stands for."""
    if path == "-":
        return [path]
    place = Path(path)
    if place.is_dir():
        found = sorted(str(f) for f in place.iterdir() if f.suffix in (".yaml", ".yml", ".json") and f.is_file())
        if not found:
            raise ManifestError([Mistake(path, "", "this directory holds no *.yaml, *.yml or *.json file")])
        return found
    if not place.exists():
        raise ManifestError([Mistake(path, "", "there is no such file")])
    return [path]


def _read(file: str) -> str:
    try:
        if file == "-":
            import sys

            return sys.stdin.read(MANIFEST_BYTES)
        if Path(file).stat().st_size > MANIFEST_BYTES:
            raise ManifestError([Mistake(file, "", f"larger than {MANIFEST_BYTES // 2**20} MiB")])
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is not UTF-8 text"
        raise ManifestError([Mistake(file, "", str(reason))]) from None


def load_text(text: str, where: str) -> list[AnyResource]:
    """Resources of one YAML text with any number of documents."""
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ManifestError([Mistake(where, "", f"{line}this is not YAML: {problem}")]) from None
    except (RecursionError, ValueError) as error:
        raise ManifestError([Mistake(where, "", f"this is not YAML: {str(error) or 'nested too deeply'}")]) from None
    resources: list[AnyResource] = []
    mistakes: list[Mistake] = []
    flat: list[object] = []
    for document in documents:
        is_list = isinstance(document, dict) and document.get("kind") == "List"
        flat += document.get("items") or [] if is_list else [document]
    for number, document in enumerate(flat, 1):
        if document is None:
            continue
        try:
            resources.append(parse(document, where if len(flat) == 1 else f"{where}, document {number}"))
        except ManifestError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ManifestError(mistakes)
    return resources


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice in one mapping is a mistake, as it is for kubectl."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int)) and key != "<<" and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} stands twice", key_node.start_mark)
            if isinstance(key, (str, int)):
                seen.add(key)
        return dict(super().construct_mapping(node, deep=deep))


def parse(document: object, where: str = "manifest") -> AnyResource:
    """One document to its resource; ManifestError holds every mistake in it."""
    if not isinstance(document, dict):
        raise ManifestError([Mistake(where, "", f"a manifest is a mapping, this is {_kind_of(document)}")])
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ManifestError([Mistake(where, "kind", _unlike(kind, list(KINDS)))])
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    where = f"{where}: {kind.lower()}/{name}" if isinstance(name, str) else f"{where}: {kind}"
    if version != API_VERSION:
        message = "is missing" if version is None else f"is {_show(version)}"
        raise ManifestError([Mistake(where, "apiVersion", f"{message}; it must be {API_VERSION}")])
    model = KINDS[kind]
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ManifestError([_mistake(where, e, model) for e in _telling(error.errors())]) from None


def key_of(resource: Resource) -> tuple[str, str]:
    """Kind and name."""
    return type(resource).__name__, resource.metadata.name


def _declared_twice(resources: list[AnyResource]) -> list[Mistake]:
    seen: set[tuple[str, str]] = set()
    twice: list[Mistake] = []
    for resource in resources:
        key = key_of(resource)
        if key in seen:
            twice.append(Mistake(f"{key[0].lower()}/{key[1]}", "", "is declared twice"))
        seen.add(key)
    return twice


def _telling(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """One error per field: a union complains once for each of its members."""
    best: dict[str, ErrorDetails] = {}
    for error in errors:
        path = _path(error["loc"])
        if path not in best or (error["type"] == "value_error" and best[path]["type"] != "value_error"):
            best[path] = error
    return list(best.values())


def _path(location: tuple[int | str, ...]) -> str:
    """spec.listeners[0].name; the marks that pydantic adds for unions and constraints are left out."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part in ("str", "int", "nullable", "[key]") or "[" in part or "constrained" in part:
            continue
        elif "." in part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text


def _mistake(where: str, error: ErrorDetails, model: type[BaseModel]) -> Mistake:
    return Mistake(where, _path(error["loc"]), _words(error, model))


def _words(error: ErrorDetails, model: type[BaseModel]) -> str:
    """The error as a person would say it."""
    kind, value, context = error["type"], error.get("input"), error.get("ctx") or {}
    if kind == "extra_forbidden":
        return "there is no such field" + _did_you_mean(str(error["loc"][-1]), _fields_at(model, error["loc"][:-1]))
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        message = str(context.get("error", error["msg"]))
        return message if isinstance(value, (dict, BaseModel)) else f"{_show(value)}: {message}"
    if kind == "literal_error":
        allowed = str(context.get("expected", "")).replace(" or ", ", ").replace("'", "")
        return f"{_show(value)} is not one of: {allowed}"
    if kind == "string_pattern_mismatch":
        return f"{_show(value)} does not fit; {_pattern_help(str(context.get('pattern')))}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = context.get("ge", context.get("le"))
        return f"{_show(value)} is out of range; it must be at {'least' if 'ge' in context else 'most'} {bound}"
    if kind in (
        "string_type",
        "int_type",
        "bool_type",
        "dict_type",
        "list_type",
        "model_type",
        "model_attributes_type",
    ):
        wanted = {"string": "text", "int": "a whole number", "bool": "true or false", "list": "a list"}
        return f"{_show(value)} is {_kind_of(value)}; it must be {wanted.get(kind.split('_')[0], 'a mapping')}"
    return f"{_show(value)}: {error['msg'][0].lower()}{error['msg'][1:]}"


_PATTERN_HELP = {
    quantities.DURATION_PATTERN: quantities.DURATION_HELP,
    quantities.RETENTION_TIME_PATTERN: quantities.RETENTION_TIME_HELP,
    quantities.SIZE_PATTERN: quantities.SIZE_HELP,
    quantities.RETENTION_SIZE_PATTERN: quantities.RETENTION_SIZE_HELP,
    quantities.QUANTITY_PATTERN: quantities.QUANTITY_HELP,
    WINDOW_DURATION_PATTERN: WINDOW_DURATION_HELP,
    THROTTLE_PATTERN: THROTTLE_HELP,
    TIME_ZONE_PATTERN: "a time zone, as in Europe/Berlin or UTC",
    HOST_PORT_PATTERN: HOST_PORT_HELP,
    CLUSTER_PATTERN: CLUSTER_HELP,
    TOPIC_PATTERN: TOPIC_HELP,
    VERSION_PATTERN: VERSION_HELP,
    OPTION_PATTERN: OPTION_HELP,
}
"""By pattern, what is to be written instead of a value that does not match."""


def _pattern_help(pattern: str) -> str:
    if pattern in _PATTERN_HELP:
        return f"write {_PATTERN_HELP[pattern]}"
    if pattern.startswith(("^[a-z0-9]", "^([a-z0-9]", "^[a-z](")):
        return "a name has small letters, digits and hyphens only, and begins and ends with a letter or digit"
    return f"it must match {pattern}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that the model has at this place."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None or isinstance(part, int):
            continue
        field = next((f for n, f in current.model_fields.items() if part in (f.alias, n)), None)
        if field is not None:
            current = _model_in(field.annotation)
    return [f.alias or n for n, f in current.model_fields.items()] if current else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, None) or get_args(annotation):
        return next((m for m in map(_model_in, get_args(annotation)) if m), None)
    return None


def _did_you_mean(word: str, known: list[str]) -> str:
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower().replace("_", "").replace("-", ""), lower, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {lower[near[0]]}?"
    return f"; the fields here are: {', '.join(known)}" if known else ""


def _unlike(value: object, known: list[str]) -> str:
    if value is None:
        return f"is missing; it must be one of: {', '.join(known)}"
    near = difflib.get_close_matches(str(value).lower().rstrip("s"), [k.lower() for k in known], n=1, cutoff=0.6)
    hint = f"; did you mean {next(k for k in known if k.lower() == near[0])}?" if near else ""
    return f"{_show(value)} is not one of: {', '.join(known)}{hint}"


def _show(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else "null" if value is None else str(value)
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= 80 else text[:77] + "..."


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    names = {
        bool: "true or false",
        str: "text",
        int: "a number",
        float: "a fraction",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(type(value), type(value).__name__)
