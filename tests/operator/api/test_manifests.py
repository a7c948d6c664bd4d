"""Manifests: what is taken, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_operator.api.manifests import ManifestError, load_paths, load_text, parse
from broadsheet_operator.local.example import QUICKSTART
from broadsheet_operator.local.store import FileStore

ROOT = Path(__file__).parents[3]
TABLE: dict[str, list[dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "manifest-table.yaml").read_text())


def manifest(kind: str, spec: Any, name: str = "x") -> dict[str, Any]:
    return {"apiVersion": "broadsheet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize("row", TABLE["good"], ids=lambda row: f"{row['kind']}-{row['spec']}"[:80])
def test_good_manifest_is_taken_and_survives_a_round_trip(row: dict[str, Any], tmp_path: Path) -> None:
    resource = parse(manifest(row["kind"], row["spec"], row.get("name", "x")))
    if "old" in row:
        store = FileStore(tmp_path)
        store.prepare()
        store.apply(parse(manifest(row["kind"], row["old"])))
        store.apply(resource)
    assert resource.manifest()["spec"] == row["spec"]
    assert parse(resource.manifest()) == resource


@pytest.mark.parametrize("row", TABLE["bad"], ids=lambda row: f"{row['kind']}-{row['spec']}"[:80])
def test_bad_manifest_is_refused_in_words_that_help(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as refused:
        if "old" in row:
            store = FileStore(tmp_path)
            store.prepare()
            store.apply(parse(manifest(row["kind"], row["old"])))
            store.apply(parse(manifest(row["kind"], row["spec"])))
        else:
            parse(manifest(row["kind"], row["spec"], row.get("name", "x")))
    assert row["says"] in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "this is not YAML"),
        ("a: b", "kind: is missing; it must be one of: Cluster, Topic, ConsumerGroup"),
        ("- 1\n", "a manifest is a mapping, this is a list"),
        ("kind: Topics\n", "did you mean Topic?"),
        ("kind: Topic\napiVersion: v1\nmetadata: {name: a}\n", "it must be broadsheet.io/v1alpha1"),
        ("kind: Topic\nkind: Topic\n", "line 2, column 1: this is not YAML: the key kind stands twice"),
        ("\x00", "this is not YAML"),
    ],
)
def test_text_that_is_no_manifest(text: str, says: str) -> None:
    with pytest.raises(ManifestError, match=says.replace("(", r"\(")):
        load_text(text, "file.yaml")


def test_all_mistakes_of_all_documents_are_told_at_once() -> None:
    bad = yaml.safe_dump_all([manifest("Topic", {"partitions": 0}), manifest("Topic", {"cluster": "q", "x": 1})])
    with pytest.raises(ManifestError) as refused:
        load_text(bad, "file.yaml")
    words = [str(m) for m in refused.value.mistakes]
    assert len(words) == 3
    assert words[0].startswith("file.yaml, document 1: topic/x: ")
    assert words[2].startswith("file.yaml, document 2: topic/x: spec.x")


def test_a_list_is_taken_apart() -> None:
    text = yaml.safe_dump({"kind": "List", "apiVersion": "v1", "items": [manifest("Topic", {"cluster": "q"})]})
    assert [r.metadata.name for r in load_text(text, "file.yaml")] == ["x"]


def test_directory_is_read_by_name_and_a_resource_declared_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(manifest("Topic", {"cluster": "q"})))
    (tmp_path / "a.yml").write_text(yaml.safe_dump(manifest("ConsumerGroup", {"cluster": "q"})))
    (tmp_path / "notes.txt").write_text("not a manifest")
    assert [type(r).__name__ for r in load_paths([str(tmp_path)])] == ["ConsumerGroup", "Topic"]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(manifest("Topic", {"cluster": "q"})))
    with pytest.raises(ManifestError, match="topic/x: is declared twice"):
        load_paths([str(tmp_path)])


def test_missing_files_are_named() -> None:
    with pytest.raises(ManifestError, match=r"nowhere\.yaml: there is no such file"):
        load_paths(["nowhere.yaml"])


@given(st.text(max_size=200))
def test_any_text_gives_resources_or_a_manifest_error(text: str) -> None:
    try:
        load_text(text, "file.yaml")
    except ManifestError as error:
        assert error.mistakes


def test_the_example_is_valid_and_the_copy_in_the_package_is_the_same() -> None:
    path = ROOT / "docs" / "examples" / "quickstart.yaml"
    assert path.read_text() == QUICKSTART
    kinds = {type(r).__name__: r.metadata.name for r in load_paths([str(path)])}
    assert kinds == {"Cluster": "quickstart", "Topic": "orders", "ConsumerGroup": "example-consumer"}
