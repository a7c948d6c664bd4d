"""Every command that the documentation shows is run, or is known to be run elsewhere."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.ports import free_port

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BROADSHEET = ".venv/bin/broadsheet"
PROGRAM = ".venv/bin/python e2e/clients/python/"
SECONDS = 60.0
ELSEWHERE = ("kubectl", "helm", "docker", "cd", "export", "git")
"""Commands of the tutorial on Kubernetes: the end-to-end tests run that page on a real one."""


def console_lines(page: pathlib.Path) -> Iterator[str]:
    """Lines of ```console blocks, without comments; a $ in front is a prompt."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), flags=re.S | re.M):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            command = line.removeprefix("$ ").split(" #")[0].strip()
            if command:
                yield command


def commands() -> list[str]:
    return sorted({line for page in PAGES for line in console_lines(page)})


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def test_the_documentation_shows_commands() -> None:
    assert any(line.startswith(BROADSHEET) for line in commands())


@pytest.mark.parametrize("command", [line for line in commands() if line.split()[0] == "make"])
def test_make_targets_in_the_documentation_exist(command: str) -> None:
    targets = [word for word in shlex.split(command)[1:] if "=" not in word]
    assert targets and set(targets) <= make_targets()


def test_no_command_of_an_unknown_program_is_shown() -> None:
    known = (BROADSHEET, ".venv/bin/", "make", *ELSEWHERE)
    assert [line for line in commands() if not line.startswith(known)] == []


@dataclass(frozen=True)
class Running:
    """A running `broadsheet up`: its folder, and the port of its broker."""

    folder: pathlib.Path
    port: int


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`broadsheet up` with the quickstart's manifest, on a free port."""
    folder = tmp_path_factory.mktemp("docs")
    port = free_port()
    manifest = folder / "docs/examples/quickstart.yaml"
    manifest.parent.mkdir(parents=True)
    text = (ROOT / "docs/examples/quickstart.yaml").read_text()
    assert "port: 9092" in text, "the example names its port, so that a test can change it"
    manifest.write_text(text.replace("9092", str(port)))
    command = [sys.executable, "-m", "broadsheet_operator.cli", "up", "-f", "docs/examples/quickstart.yaml"]
    with open(folder / "up.log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for_topic(folder)
        yield Running(folder, port)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, (folder / "up.log").read_text()


def wait_for_topic(folder: pathlib.Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        done = run(["get", "topic", "orders"], folder)
        if done.returncode == 0 and "3/3" in done.stdout:
            return
        assert time.monotonic() < deadline, (folder / "up.log").read_text()


def run(arguments: list[str], folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broadsheet_operator.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)


def arguments_of(command: str, program: str, port: int) -> list[str]:
    """What follows the program, with another port than the page names."""
    return [re.sub(r"\b\d{4,5}\b", str(port), word) for word in shlex.split(command.removeprefix(program))]


@pytest.mark.parametrize(
    "command", [line for line in commands() if re.match(re.escape(BROADSHEET) + " (get|apply|delete)", line)]
)
def test_commands_for_a_running_cluster_work(command: str, running: Running) -> None:
    done = run(shlex.split(command)[1:], running.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith(f"{BROADSHEET} quickstart")])
def test_the_quickstart_runs_as_shown(command: str, tmp_path: pathlib.Path) -> None:
    port = free_port()
    done = run([*arguments_of(command, BROADSHEET, port), "--once"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"localhost:{port}" in done.stdout


def test_the_programs_of_the_tutorial_exchange_orders(running: Running) -> None:
    """The producer ends by itself; the consumer prints what it wrote, and ends with Ctrl-C."""
    shown = [line for line in commands() if line.startswith(PROGRAM)]
    consumer, producer = (shlex.split(line)[1:] for line in sorted(shown))
    environment = {**os.environ, "BOOTSTRAP_SERVERS": f"localhost:{running.port}", "PYTHONUNBUFFERED": "1"}
    written = subprocess.run(
        [sys.executable, *producer], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert written.returncode == 0, written.stderr
    assert len(written.stdout.splitlines()) == 9, "the tutorial says nine orders"
    with subprocess.Popen(
        [sys.executable, *consumer], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as reader:
        deadline = threading.Timer(SECONDS, reader.kill)
        deadline.start()
        assert reader.stdout is not None
        read = [reader.stdout.readline() for _ in range(9)]
        deadline.cancel()
        reader.send_signal(signal.SIGINT)
        assert reader.wait(SECONDS) == 0
    assert sorted(read) == sorted(written.stdout.splitlines(keepends=True))
