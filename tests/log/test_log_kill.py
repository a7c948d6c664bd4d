"""kill -9 of a process that writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20261123, 20261127))
def test_two_hundred_kills_lose_no_acknowledged_record(seed: int, tmp_path: Path) -> None:
    storm = subprocess.run(
        [sys.executable, "-m", "tests.log.kill_storm", str(tmp_path / "logs"), str(KILLS), str(seed)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert storm.returncode == 0, storm.stdout + storm.stderr
    assert f"{KILLS} kills" in storm.stdout
