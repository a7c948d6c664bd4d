"""The repository of docs/examples/gitops: its resources are valid, and its files name one another rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from broadsheet_operator.api.manifests import parse
from broadsheet_operator.api.meta import API_VERSION
from tests.support.argo_lua import ROOT

REPOSITORY = ROOT / "docs/examples/gitops"
FILES = sorted(REPOSITORY.rglob("*.yaml"))
ENVIRONMENTS = sorted(path.parent.name for path in REPOSITORY.glob("environments/*/kustomization.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(path.read_text()) if body]


def find(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, body) for path in FILES for body in documents(path) if body.get("kind") == kind]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_our_resources_are_valid(path: Path) -> None:
    for body in documents(path):
        if body.get("apiVersion") == API_VERSION:
            parse(body, str(path))


def test_there_are_three_environments_and_each_names_its_revision() -> None:
    assert ENVIRONMENTS == ["dev", "prod", "staging"]
    for name in ENVIRONMENTS:
        (said,) = documents(REPOSITORY / f"environments/{name}/environment.yaml")
        assert said["environment"] == name and set(said) == {"environment", "revision", "server"}


def test_every_environment_has_every_team() -> None:
    teams = {f"../../teams/{path.name}" for path in (REPOSITORY / "teams").iterdir()}
    for name in ENVIRONMENTS:
        (overlay,) = documents(REPOSITORY / f"environments/{name}/kustomization.yaml")
        assert {"../../base", *teams} == set(overlay["resources"]) and overlay["namespace"] == f"kafka-{name}"


def test_files_that_are_named_exist() -> None:
    for path, body in find("Kustomization"):
        if body["apiVersion"].startswith("kustomize.config"):
            missing = [name for name in body["resources"] if not (path.parent / name).exists()]
            # Rendered by the command that the file shows.
            assert missing in ([], ["operator.yaml"]), path
        else:
            assert (REPOSITORY / body["spec"]["path"] / "kustomization.yaml").exists(), path
    for path, body in find("Application"):
        source = body["spec"]["source"]
        place = ROOT if source["repoURL"].endswith("/broadsheet.git") else REPOSITORY
        assert (place / source["path"]).is_dir(), path


def test_a_cluster_comes_before_its_topics_and_those_before_groups() -> None:
    waves = {kind: {body["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] for _, body in find(kind)}
             for kind in ("Cluster", "Topic", "ConsumerGroup")}  # fmt: skip
    assert waves == {"Cluster": {"0"}, "Topic": {"1"}, "ConsumerGroup": {"2"}}


def test_an_environment_with_maintenance_windows_has_no_waves() -> None:
    """A wave does not end while its Cluster waits for a window: topics would wait for days."""
    for name in ENVIRONMENTS:
        (overlay,) = documents(REPOSITORY / f"environments/{name}/kustomization.yaml")
        patches = overlay.get("patches", [])
        has_windows = any("/spec/maintenanceWindows" in patch["patch"] for patch in patches)
        without_waves = [
            patch["target"]["kind"] for patch in patches if "argocd.argoproj.io~1sync-wave" in patch["patch"]
        ]
        assert without_waves == (["Topic|ConsumerGroup"] if has_windows else []), name


def test_the_operator_is_not_given_argo_cds_config_map() -> None:
    for _, body in find("Application"):
        assert "argocd" not in body["spec"]["source"].get("helm", {}).get("valuesObject", {})
