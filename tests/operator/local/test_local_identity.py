"""The id of a local cluster, without which its brokers refuse their data, outlives whatever happens to its file."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.manifests import parse
from broadsheet_operator.local.cluster import CannotStart, LocalCluster

MANIFEST = {
    "apiVersion": "broadsheet.io/v1alpha1",
    "kind": "Cluster",
    "metadata": {"name": "local"},
    "spec": {"brokers": {"replicas": 1}},
}


def cluster_in(directory: Path) -> LocalCluster:
    resource = parse(MANIFEST)
    assert isinstance(resource, Cluster)
    return LocalCluster(resource, directory, lambda what, words: None)


def test_a_full_disk_does_not_cost_the_cluster_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cluster_in(tmp_path)._identity(1)

    def half_written(self: Path, text: str, **_: Any) -> int:
        with open(self, "w", encoding="utf-8") as opened:
            opened.write(text[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half_written)
        with pytest.raises(OSError, match="No space left"):
            cluster_in(tmp_path)._identity(1)
    assert cluster_in(tmp_path)._identity(1)["clusterId"] == before["clusterId"]


def test_a_damaged_file_is_told_of_and_not_replaced_by_another_id(tmp_path: Path) -> None:
    cluster_in(tmp_path)._identity(1)
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(CannotStart, match=r"cluster\.json"):
        cluster_in(tmp_path)._identity(1)
    assert (tmp_path / "cluster.json").read_text() == "{"
