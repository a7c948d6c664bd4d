"""Pages that are made from the code: a page that disagrees with the code is a lie told to users."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("tool", ["reference.py", "pictures.py", "argocd.py"])
def test_generated_pages_are_what_the_code_declares(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / tool, "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_topic_properties_are_not_called_read_only() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text()
    topics = page.partition("## Topic properties")[2].partition("## Accepted")[0]
    assert "| `retention.ms` |" in topics
    assert "read-only" not in topics
