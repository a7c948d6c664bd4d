"""One version, in pyproject.toml: whatever else names it agrees."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

import broadsheet_broker
from broadsheet_broker.compiled import build

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_installed_package_has_the_version_of_pyproject() -> None:
    assert broadsheet_broker.__version__ == VERSION, "make install takes a changed version over"
    done = subprocess.run(
        [sys.executable, "-m", "broadsheet_broker", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"broadsheet {VERSION}\n{build()}\n"


def test_the_chart_has_the_version_of_pyproject() -> None:
    chart = yaml.safe_load((ROOT / "charts/broadsheet/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_the_image_of_brokers_in_the_chart_has_the_version_of_pyproject() -> None:
    values = yaml.safe_load((ROOT / "charts/broadsheet/values.yaml").read_text())
    assert values["broker"]["image"].rpartition(":")[2] == VERSION
    assert values["image"]["tag"] == "", "the operator's image follows the chart's appVersion"


def test_the_chart_wants_the_kubernetes_that_the_tutorial_names() -> None:
    chart = yaml.safe_load((ROOT / "charts/broadsheet/Chart.yaml").read_text())
    version = chart["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
    assert f"Kubernetes {version} or later" in (ROOT / "docs/tutorial/kubernetes.md").read_text()


def test_the_chart_wants_a_kubernetes_that_takes_the_definitions() -> None:
    """`optionalOldSelf` (CRDValidationRatcheting) is on from 1.30; before, its rules do not compile."""
    chart = yaml.safe_load((ROOT / "charts/broadsheet/Chart.yaml").read_text())
    minor = int(chart["kubeVersion"].removeprefix(">=1.").removesuffix(".0-0"))
    definitions = "".join(path.read_text() for path in (ROOT / "crds").glob("*.yaml"))
    assert minor >= (30 if "optionalOldSelf" in definitions else 29)
