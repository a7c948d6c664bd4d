"""The distribution as pip installs it into an empty virtual environment."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from tests.support.broadsheet import Broadsheet

ROOT = pathlib.Path(__file__).resolve().parents[2]
METADATA = """
import importlib.metadata, json
found = importlib.metadata.distribution("broadsheet")
print(json.dumps([found.metadata.get_all("Provides-Extra"), found.metadata["License-Expression"],
    [d.metadata["Name"] for d in importlib.metadata.distributions()]]))
"""


class Installation:
    """A virtual environment, and what is run in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.bin = folder / "bin"

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / program), *arguments]
        return subprocess.run(command, cwd=self.bin, capture_output=True, text=True, timeout=300)

    def pip(self, *arguments: str) -> None:
        done = self.run("python", "-m", "pip", "install", "--quiet", *arguments)
        assert done.returncode == 0, done.stderr

    def distributions(self) -> set[str]:
        return {str(name).lower() for name in json.loads(self.run("python", "-c", METADATA).stdout)[2]} - {"setuptools"}


@pytest.fixture
def installation(tmp_path: pathlib.Path) -> Installation:
    return Installation(tmp_path / "venv")


class InstalledBroker(Broadsheet):
    """Our broker, run by another interpreter than this one."""

    python: pathlib.Path

    def command(self) -> list[str]:
        return [str(self.python), *super().command()[1:]]

    def environment(self) -> dict[str, str]:
        return {key: value for key, value in super().environment().items() if key != "PYTHONPATH"}


def acknowledged(bootstrap: str) -> int:
    """The offset at which a record was written."""
    offsets: list[int] = []
    keep: Callable[..., None] = lambda error, message: offsets.append(-1 if error else message.offset())  # noqa: E731
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce("orders", b"an order", on_delivery=keep)
    producer.flush(30)
    return offsets[0]


def test_pip_install_brings_a_broker_and_what_it_imports(installation: Installation, tmp_path: pathlib.Path) -> None:
    installation.pip(str(ROOT))
    assert installation.distributions() == {"broadsheet", "pip", "uvloop", "google-crc32c", "cramjam"}
    broker = InstalledBroker(tmp_path / "broker")
    broker.python = installation.bin / "python"
    with broker:
        assert acknowledged(broker.bootstrap) == 0
    refused = installation.run("broadsheet", "up", "-f", str(ROOT / "docs/examples/quickstart.yaml"))
    assert refused.returncode == 1
    assert "pip install 'broadsheet[local]'" in refused.stderr


def test_the_locks_install_with_their_hashes(installation: Installation, tmp_path: pathlib.Path) -> None:
    """As the images do: the locked packages, then the wheel by itself; nothing is left to be resolved."""
    for lock in ("broker", "operator"):
        installation.pip("--require-hashes", "--requirement", str(ROOT / "requirements" / f"{lock}.lock"))
    installation.pip("--no-deps", str(ROOT))
    assert installation.run("python", "-m", "pip", "check").stdout == "No broken requirements found.\n"
    assert installation.run("broadsheet", "operator", "--help").returncode == 0
    extras, license, _ = json.loads(installation.run("python", "-c", METADATA).stdout)
    assert (sorted(extras), license) == (["dev", "local", "operator"], "Apache-2.0")
