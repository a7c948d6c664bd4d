"""What `broadsheet up` and `apply` say when something else than the resource is in the way."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from broadsheet_operator.api.manifests import load_paths
from broadsheet_operator.local import commands
from broadsheet_operator.local.store import FileStore

TIME = "2026-01-01T00:00:00Z"


def manifest(directory: Path, spec: str) -> str:
    file = directory / "paper.yaml"
    file.write_text(f"apiVersion: broadsheet.io/v1alpha1\nkind: Cluster\nmetadata: {{name: paper}}\nspec: {spec}\n")
    return str(file)


def test_apply_waits_for_an_exchange_that_has_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cluster serves meanwhile, and was taken for what was asked for: exit code 0 before a refusal."""
    file = manifest(tmp_path, "{brokers: {replicas: 1}, engine: {exchange: Stop}}")
    store = FileStore(tmp_path / "state")
    store.prepare()
    words = "Broadsheet is to take over from Apache Kafka 4.3.0: what is stored is read first"
    ready: dict[str, Any] = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": TIME}
    with store.running():
        store.apply(load_paths([file])[0])
        store.write_status("Cluster", "paper", {"observedGeneration": 1, "conditions": [ready], "exchange": words})
        assert commands.apply([file], str(store.directory), 0.2, "table") == 1
        assert words in capsys.readouterr().err
        store.write_status("Cluster", "paper", {"observedGeneration": 1, "conditions": [ready]})
        assert commands.apply([file], str(store.directory), 0.2, "table") == 0


def test_a_full_disk_ends_up_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileStore, "write_status", no_space)
    file = manifest(tmp_path, '{external: {bootstrapServers: ["localhost:1"]}}')
    with pytest.raises(
        commands.Refused, match=r"cannot keep state in .*: No space left on device; its brokers are stop"
    ):
        commands.up([file], str(tmp_path / "state"), "table")
