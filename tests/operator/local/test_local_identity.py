"""The id of a local cluster, without which its brokers refuse their data, outlives whatever happens to its file."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from broadsheet_operator.local.identity import CannotStart, Identity


def test_a_full_disk_does_not_cost_the_cluster_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Identity.of(tmp_path, 1, "cluster/local")

    def half_written(self: Path, text: str, **_: Any) -> int:
        with open(self, "w", encoding="utf-8") as opened:
            opened.write(text[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half_written)
        with pytest.raises(OSError, match="No space left"):
            Identity.of(tmp_path, 1, "cluster/local")
    assert Identity.of(tmp_path, 1, "cluster/local").cluster_id == before.cluster_id


def test_a_damaged_file_is_told_of_and_not_replaced_by_another_id(tmp_path: Path) -> None:
    Identity.of(tmp_path, 1, "cluster/local")
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(CannotStart, match=r"cluster\.json"):
        Identity.of(tmp_path, 1, "cluster/local")
    assert (tmp_path / "cluster.json").read_text() == "{"
