"""Argo CD's custom actions on a Cluster, as Argo CD runs them."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from tests.support.argo_lua import KINDS, cleaned, folder, load, run, script

ACTIONS = folder("Cluster") / "actions"
TESTS = load(ACTIONS / "action_test.yaml")
TIME = "0001-01-01T00:00:00Z"


def test_only_clusters_have_actions() -> None:
    assert [kind for kind in KINDS if (folder(kind) / "actions").exists()] == ["Cluster"]


@pytest.mark.parametrize("test", TESTS["discoveryTests"], ids=lambda test: str(test["inputPath"]))
def test_the_actions_that_can_be_taken_are_found(test: dict[str, Any]) -> None:
    found = run(script("Cluster", "actions/discovery.lua"), load(ACTIONS / test["inputPath"]))
    assert found == {one["name"]: {key: value for key, value in one.items() if key != "name"} for one in test["result"]}


@pytest.mark.parametrize("test", TESTS["actionTests"], ids=lambda test: f"{test['action']}-{test['inputPath']}")
def test_an_action_changes_what_it_is_for_and_nothing_else(test: dict[str, Any]) -> None:
    before = load(ACTIONS / test["inputPath"])
    after = cleaned(run(script("Cluster", f"actions/{test['action']}/action.lua"), copy.deepcopy(before)), before)
    expected = load(ACTIONS / test["expectedOutputPath"])
    annotation = f"broadsheet.io/{test['action']}"
    annotations = after["metadata"].get("annotations", {})
    if annotation in annotations:
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", annotations[annotation])
        annotations[annotation] = TIME
    assert after == expected


def test_every_action_is_tested_and_has_an_end_that_others_know() -> None:
    scripts = {path.parent.name for path in ACTIONS.glob("*/action.lua")}
    assert scripts == {test["action"] for test in TESTS["actionTests"]} == {"pause", "resume", "restart", "rebalance"}


def test_the_config_map_has_what_argo_cd_parses() -> None:
    """Health and actions are scripts; the rest is YAML, as in util/settings of Argo CD."""
    data = yaml.safe_load((folder("Cluster").parents[1] / ".." / "argocd-cm.yaml").resolve().read_text())["data"]
    for kind in KINDS:
        assert data[f"resource.customizations.health.broadsheet.io_{kind}"] == script(kind)
        ignored = yaml.safe_load(data[f"resource.customizations.ignoreResourceUpdates.broadsheet.io_{kind}"])
        assert ignored == {"jsonPointers": ["/status"]}
    actions = yaml.safe_load(data["resource.customizations.actions.broadsheet.io_Cluster"])
    assert actions["discovery.lua"] == script("Cluster", "actions/discovery.lua")
    found = {one["name"]: one["action.lua"] for one in actions["definitions"]}
    assert found == {name: script("Cluster", f"actions/{name}/action.lua") for name in found}
    assert len(data) == 7
