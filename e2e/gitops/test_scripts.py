"""The real Argo CD's own commands on our argocd-cm: every recorded object has the health, and the actions, that the
tests in Python say. Needs no Kubernetes."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.gitops.programs import programs
from e2e.operator.providers import REPOSITORY
from tests.support.argo_lua import KINDS, folder, load

CONFIG = REPOSITORY / "docs/examples/gitops/argocd/argocd-cm.yaml"
ACTIONS = folder("Cluster") / "actions"


def settings(*arguments: str) -> str:
    """`argocd admin settings ...` with our ConfigMap; what it prints."""
    command = [str(programs() / "argocd"), "admin", "settings", *arguments, "--argocd-cm-path", str(CONFIG)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def health(path: Path) -> dict[str, str]:
    status, _, message = settings("resource-overrides", "health", str(path)).partition("\n")
    return {"status": status.removeprefix("STATUS: "), "message": message.removeprefix("MESSAGE: ").rstrip("\n")}


def test_argo_cd_takes_the_configuration() -> None:
    assert "✅ resource-overrides" in settings("validate", "--group", "resource-overrides")


@pytest.mark.parametrize("kind", KINDS)
def test_argo_cd_finds_the_health_that_is_declared(kind: str) -> None:
    tests = load(folder(kind) / "health_test.yaml")["tests"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda test: health(folder(kind) / test["inputPath"]), tests))
    expected = {test["inputPath"]: test["healthStatus"] for test in tests}
    # What is being deleted Argo CD judges itself, before it asks a script.
    going = [path for path in expected if "deletionTimestamp" in load(folder(kind) / path)["metadata"]]
    expected |= {path: {"status": "Progressing", "message": "Pending deletion"} for path in going}
    assert {test["inputPath"]: said for test, said in zip(tests, found, strict=True)} == expected


def test_argo_cd_finds_the_actions() -> None:
    for test in load(ACTIONS / "action_test.yaml")["discoveryTests"]:
        table = settings("resource-overrides", "list-actions", str(ACTIONS / test["inputPath"])).splitlines()[1:]
        found = {line.split()[0]: line.split()[1] == "true" for line in table}
        assert found == {one["name"]: one["disabled"] for one in test["result"]}, test["inputPath"]


@pytest.mark.parametrize("action", ["pause", "resume", "restart", "rebalance"])
def test_argo_cd_runs_the_actions(action: str) -> None:
    tests: list[dict[str, Any]] = load(ACTIONS / "action_test.yaml")["actionTests"]
    (test, *_) = [test for test in tests if test["action"] == action]
    printed = settings("resource-overrides", "run-action", str(ACTIONS / test["inputPath"]), action)
    changes = {line.strip() for line in printed.splitlines() if line.startswith((">", "<"))}
    expected = {
        "pause": {">   paused: true"},
        "resume": {"<   paused: true"},
        "restart": {">   annotations:", '>     broadsheet.io/restart: "TIME"'},
        "rebalance": {">   annotations:", '>     broadsheet.io/rebalance: "TIME"'},
    }
    assert {re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", line) for line in changes} == expected[action]
