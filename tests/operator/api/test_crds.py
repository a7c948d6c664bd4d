"""The generated custom resource definitions: fresh, structural, bounded, described."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broadsheet_operator.api.crd import PLACES, definition, files
from broadsheet_operator.api.definitions import DEFINITIONS

ROOT = Path(__file__).parents[3]
FORBIDDEN = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "const", "title", "uniqueItems", "patternProperties"}
FORBIDDEN |= {"exclusiveMinimum", "exclusiveMaximum", "additionalItems", "x-nullable", "x-set", "x-atomic"}


def schema_of(name: str) -> dict[str, Any]:
    crd = next(definition(d) for d in DEFINITIONS if d.model.__name__ == name)
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}.{key}")


def test_crds_are_fresh() -> None:
    """Run `python -m broadsheet_operator.api.crd` after a change of the models."""
    for place in PLACES:
        assert {p.name: p.read_text() for p in (ROOT / place).glob("*.yaml")} == files(), place


@pytest.mark.parametrize("kind", ["Cluster", "Topic", "ConsumerGroup"])
def test_every_field_is_described_and_bounded(kind: str) -> None:
    for path, node in nodes(schema_of(kind)):
        assert not FORBIDDEN & set(node), path
        if path.rpartition(".")[2] not in ("items", "additionalProperties", "metadata", ""):
            assert node.get("description"), f"{path} has no description"
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node or path in (".apiVersion", ".kind"), f"{path} has no bound"
        if node.get("type") == "array":
            assert "maxItems" in node, f"{path} has no bound"
            assert node["x-kubernetes-list-type"] in ("atomic", "set", "map"), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, f"{path} has no bound"
        assert node.get("default") not in ({}, [], False, 0), f"{path}: the API server would strip this default"


def test_the_api_server_fills_nothing_into_a_spec_but_the_number_of_brokers() -> None:
    """A default in a list was OutOfSync in Argo CD for ever; any other is a field that Git does not have."""
    filled = [
        f"{kind}{path}"
        for kind in ("Cluster", "Topic", "ConsumerGroup")
        for path, node in nodes(schema_of(kind)["properties"]["spec"])
        if "default" in node
    ]
    assert filled == ["Cluster.brokers.replicas"]


def test_kubectl_can_note_the_definitions_in_an_annotation() -> None:
    """`kubectl apply` and Argo CD without server-side apply: 256 KiB for all annotations of an object."""
    for what in DEFINITIONS:
        assert len(json.dumps(definition(what))) < 262144 / 2, what.model.__name__


@pytest.mark.parametrize("kind", ["Cluster", "Topic", "ConsumerGroup"])
def test_a_new_object_is_not_taken_for_a_healthy_one(kind: str) -> None:
    (condition,) = schema_of(kind)["properties"]["status"]["default"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")


def test_names_and_subresources() -> None:
    crds = {d.model.__name__: definition(d)["spec"] for d in DEFINITIONS}
    assert [c["names"]["shortNames"] for c in crds.values()] == [["bsc"], ["bst"], ["bsg"]]
    assert {k: c["names"]["categories"] for k, c in crds.items()} == {
        "Cluster": ["broadsheet", "all"],
        "Topic": ["broadsheet"],
        "ConsumerGroup": ["broadsheet"],
    }
    subresources = {k: set(c["versions"][0]["subresources"]) for k, c in crds.items()}
    assert subresources == {"Cluster": {"status", "scale"}, "Topic": {"status"}, "ConsumerGroup": {"status"}}


def test_columns_show_what_really_is() -> None:
    topic = yaml.safe_load((ROOT / "crds/topics.yaml").read_text())["spec"]["versions"][0]["additionalPrinterColumns"]
    paths = {c["name"]: c["jsonPath"] for c in topic}
    assert paths["Partitions"] == ".status.partitions"
    assert paths["In-Sync"] == ".status.inSync"
    assert paths["Ready"] == '.status.conditions[?(@.type=="Ready")].status'


def test_columns_read_fields_that_exist() -> None:
    for what in DEFINITIONS:
        crd = definition(what)["spec"]["versions"][0]
        for column in crd["additionalPrinterColumns"]:
            node = crd["schema"]["openAPIV3Schema"]
            for part in column["jsonPath"].split("[")[0].strip(".").split("."):
                if part in ("metadata", "conditions"):
                    break
                assert part in node["properties"], column
                node = node["properties"][part]


def test_config_values_are_text_or_whole_numbers_or_null() -> None:
    config = schema_of("Topic")["properties"]["spec"]["properties"]["config"]
    assert config["additionalProperties"] == {
        "x-kubernetes-int-or-string": True,
        "maxLength": 1024,
        "nullable": True,
    }
