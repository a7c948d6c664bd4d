"""One version, in pyproject.toml: whatever else names it agrees."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

import broadsheet_broker

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_installed_package_has_the_version_of_pyproject() -> None:
    assert broadsheet_broker.__version__ == VERSION, "make install takes a changed version over"
    done = subprocess.run(
        [sys.executable, "-m", "broadsheet_broker", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"broadsheet {VERSION}\n"


def test_the_chart_has_the_version_of_pyproject() -> None:
    chart = yaml.safe_load((ROOT / "charts/broadsheet/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_the_image_of_brokers_in_the_chart_has_the_version_of_pyproject() -> None:
    values = yaml.safe_load((ROOT / "charts/broadsheet/values.yaml").read_text())
    assert values["broker"]["image"].rpartition(":")[2] == VERSION
    assert values["image"]["tag"] == "", "the operator's image follows the chart's appVersion"
