"""The command, as a person or a script calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from broadsheet_operator import cli
from broadsheet_operator.api.manifests import parse
from broadsheet_operator.local.store import FileStore

HEAVY = ("pydantic", "kafka", "yaml", "kubernetes", "kopf", "argparse")
HEAVY_SERVICES = ("kopf", "kubernetes", "kafka")


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broadsheet_operator.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_broker_command_loads_nothing_of_the_operator() -> None:
    code = f"""
import sys, runpy
runpy.run_module = lambda name, **_: print(name, sys.argv, [m for m in {HEAVY!r} if m in sys.modules])
from broadsheet_operator.cli import main
sys.exit(main(["broker", "--config", "x"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "broadsheet_broker ['broadsheet', 'broker', '--config', 'x'] []"


@pytest.mark.parametrize("module", ["api.manifests", "reconcilers.topic", "local.commands", "cli"])
def test_nothing_of_kubernetes_is_loaded(module: str) -> None:
    code = f"import sys, broadsheet_operator.{module}; print([m for m in {HEAVY_SERVICES!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_names_the_first_thing_to_try() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "broadsheet quickstart" in done.stdout
    assert run().returncode == 2


def test_errors_are_words_on_standard_error(tmp_path: Path) -> None:
    missing = run("up", "-f", "nowhere.yaml", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "error: nowhere.yaml: there is no such file\n"
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: broadsheet.io/v1alpha1\nkind: Topic\nmetadata: {name: a}\nspec: {cluster: q, partitons: 3}\n"
    )
    told = run("up", "-f", "bad.yaml", cwd=tmp_path)
    assert told.returncode == 1
    assert "bad.yaml: topic/a: spec.partitons: there is no such field; did you mean partitions?" in told.stderr
    as_json = run("up", "-f", "bad.yaml", "--output", "json", cwd=tmp_path)
    assert "did you mean partitions?" in json.loads(as_json.stderr)["error"]


def test_nobody_running_is_told(tmp_path: Path) -> None:
    for command in (["get", "topics"], ["delete", "topic", "a"]):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert "broadsheet up -f FILE" in done.stderr


def test_unknown_kinds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["get", "pods"])
    assert end.value.code == 2
    assert "the kinds are: clusters, topics, consumergroups" in capsys.readouterr().err


@pytest.fixture
def state(tmp_path: Path) -> Path:
    store = FileStore(tmp_path / "state")
    store.prepare()
    head = {"apiVersion": "broadsheet.io/v1alpha1", "metadata": {"name": "orders"}}
    store.apply(parse({**head, "kind": "Topic", "spec": {"cluster": "quickstart"}}))
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"conditions": [ready], "partitions": 3, "replicationFactor": 1, "inSync": "3/3"}
    store.write_status("Topic", "orders", status)
    return tmp_path / "state"


@pytest.mark.parametrize("what", [["topics"], ["topic", "orders"], ["bst"], ["topic/orders"], []])
def test_get_shows_what_really_is(state: Path, capsys: pytest.CaptureFixture[str], what: list[str]) -> None:
    assert cli.main(["get", *what, "--data", str(state)]) == 0
    shown = capsys.readouterr()
    header, line = shown.out.splitlines()
    assert header.split() == ["NAME", "CLUSTER", "PARTITIONS", "REPLICAS", "IN-SYNC", "READY", "AGE"]
    assert line.split()[:6] == ["orders", "quickstart", "3", "1", "3/3", "True"]
    assert "nothing runs" in shown.err


def test_get_as_json(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["get", "topic", "orders", "--output", "json", "--data", str(state)]) == 0
    assert json.loads(capsys.readouterr().out)["status"]["inSync"] == "3/3"
    assert cli.main(["get", "topics", "-o", "json", "--data", str(state)]) == 0
    assert [i["kind"] for i in json.loads(capsys.readouterr().out)["items"]] == ["Topic"]


def test_get_of_what_is_not_there_fails(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["get", "topic", "nope", "--data", str(state)]) == 1
    assert "topic/nope is not declared here" in capsys.readouterr().err
