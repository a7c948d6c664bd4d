"""kill -9 of a process that writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_hundred_kills_lose_no_acknowledged_record(tmp_path: Path) -> None:
    storm = subprocess.run(
        [sys.executable, "-m", "tests.log.kill_storm", str(tmp_path / "logs"), "200", "20261123"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert storm.returncode == 0, storm.stdout + storm.stderr
    assert "200 kills" in storm.stdout
