"""The process: what it prints, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_ports

pytestmark = pytest.mark.slow

SECONDS = 30.0
"""Deadline for anything here."""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "broadsheet_broker", *arguments]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    kept.pop("CLUSTER_ID", None)
    return kept


def run(directory: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=directory, env=environment() | more, capture_output=True, text=True, timeout=SECONDS
    )


@contextmanager
def running(directory: Path, *overrides: str) -> Iterator[subprocess.Popen[str]]:
    arguments = [part for text in overrides for part in ("--override", text)]
    process = subprocess.Popen(
        command("broker", *arguments), cwd=directory, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    """The first line of the log that matches."""
    assert process.stderr is not None
    deadline = time.monotonic() + SECONDS
    lines = []
    while time.monotonic() < deadline:
        line = process.stderr.readline()
        lines.append(line)
        if not line:
            break
        if re.search(pattern, line):
            return line
    pytest.fail(f"no line matches {pattern!r}:\n" + "".join(lines))


def listeners(ports: list[int]) -> str:
    return f"listeners=PLAINTEXT://localhost:{ports[0]},CONTROLLER://localhost:{ports[1]}"


def test_it_says_started_serves_health_and_stops_on_sigterm(tmp_path: Path) -> None:
    ports = free_ports(3)
    http = f"broadsheet.http.listener=http://localhost:{ports[2]}"
    with running(tmp_path, listeners(ports), http) as process:
        line = wait_for(process, "started")
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    main: node 1 started in \d+ ms", line)
        with urllib.request.urlopen(f"http://localhost:{ports[2]}/readyz") as answer:
            assert answer.read() == b"ok\n"
        socket.create_connection(("localhost", ports[0])).close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert (tmp_path / "broadsheet-data" / "meta.properties").exists()


JSON = "broadsheet.log.format=json"


def test_every_line_of_a_broker_is_json_if_it_is_to_be(tmp_path: Path) -> None:
    with running(tmp_path, listeners(free_ports(2)), JSON, "broadsheet.log.level=DEBUG") as process:
        assert json.loads(wait_for(process, "started"))["logger"] == "broadsheet_broker.main"
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr]
        assert process.wait(SECONDS) == 0
    assert lines[-1]["message"] == "stopped"
    assert {line["node_id"] for line in lines} == {1}


@pytest.mark.parametrize("wrong", ["num.partitions=none", "listeners=PLAINTEXT://192.0.2.1:9092"])
def test_what_it_cannot_do_is_a_line_of_json_too(tmp_path: Path, wrong: str) -> None:
    result = run(tmp_path, "broker", "--override", JSON, "--override", wrong)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.returncode == 1
    assert lines[-1]["level"] == "CRITICAL"


@pytest.mark.parametrize("command", ["broker", "format"])
@pytest.mark.parametrize("wrong", ["num.partitions=none", "num.partitions=\\u12"])
def test_a_file_that_asks_for_json_and_is_wrong_is_a_line_of_json(tmp_path: Path, command: str, wrong: str) -> None:
    (tmp_path / "server.properties").write_text(f"{wrong}\nbroadsheet.log.format = json\n")
    result = run(tmp_path, command, "--config", "server.properties")
    (line,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert (result.returncode, line["level"], line["logger"]) == (1, "CRITICAL", "broadsheet_broker.main")
    assert line["message"].startswith("Invalid ")


@pytest.mark.parametrize("more", [{"KAFKA_BROADSHEET_LOG_FORMAT": "json"}, {}])
def test_a_file_that_is_missing_is_a_line_of_json_if_the_format_is_known(tmp_path: Path, more: dict[str, str]) -> None:
    asked = [] if more else ["--override=broadsheet.log.format = json"]
    result = run(tmp_path, "broker", "--config", "missing.properties", *asked, **more)
    assert json.loads(result.stderr)["message"] == "No such file or directory missing.properties"


def test_the_format_that_counts_is_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text("num.partitions=none\nbroadsheet.log.format=json\n")
    result = run(tmp_path, "broker", "--config", "server.properties", "--override", "broadsheet.log.format=text")
    assert result.stderr.startswith("broadsheet: Invalid value none")


def test_it_starts_again_on_its_directory(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path, listeners(free_ports(2))) as process:
            wait_for(process, "started")
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0


def test_a_port_in_use_is_one_line_and_a_failure(tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        other = free_ports(1)[0]
        result = run(tmp_path, "broker", "--override", listeners([port, other]))
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("broadsheet:")]
    assert f"cannot listen on PLAINTEXT://localhost:{port}: the port is in use; stop what listens there" in line
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("broker", "--override", "num.partitions=none"), "Invalid value none for configuration num.partitions"),
        (("broker", "--config", "missing.properties"), "No such file or directory missing.properties"),
        (("broker", "--override", "x"), "Invalid override 'x': allowed is key=value"),
        (("format", "--cluster-id", "a b"), "Invalid cluster id"),
        (("format", "--feature", "kraft.version=x"), "Invalid value x for feature kraft.version"),
        (("format", "--feature", "kraft.version"), "Invalid feature 'kraft.version': allowed is name=level"),
    ],
)
def test_what_it_cannot_do_is_one_line_and_a_failure(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(tmp_path, *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("broadsheet: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "format").returncode == 0
    result = run(tmp_path, "broker", "--override", "node.id=2")
    assert result.returncode == 1
    assert "belongs to node 1, and this node is node 2" in result.stderr
    assert "Traceback" not in result.stderr


def test_format_prepares_and_refuses_twice(tmp_path: Path) -> None:
    first = run(tmp_path, "format", "--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg")
    assert first.returncode == 0
    assert "Formatting broadsheet-data" in first.stdout
    assert "cluster.id=MkU3OEVBNTcwNTJENDM2Qg" in (tmp_path / "broadsheet-data" / "meta.properties").read_text()
    second = run(tmp_path, "format", "--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg")
    assert second.returncode == 1
    again = run(tmp_path, "format", "--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg", "--ignore-formatted")
    assert again.returncode == 0


def test_the_environment_of_the_official_image_works(tmp_path: Path) -> None:
    result = run(tmp_path, "format", CLUSTER_ID="MkU3OEVBNTcwNTJENDM2Qg", KAFKA_LOG_DIRS="one", KAFKA_NODE_ID="5")
    assert result.returncode == 0
    text = (tmp_path / "one" / "meta.properties").read_text()
    assert "node.id=5" in text
    assert "cluster.id=MkU3OEVBNTcwNTJENDM2Qg" in text


def test_options_without_a_command_run_a_broker(tmp_path: Path) -> None:
    """As an image's entry point does it: `python -m broadsheet_broker --config FILE`."""
    result = run(tmp_path, "--config", "missing.properties")
    assert (result.returncode, result.stderr) == (1, "broadsheet: No such file or directory missing.properties\n")
    ports = free_ports(2)
    process = subprocess.Popen(
        command("--override", listeners(ports)), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(process, "started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        assert process.stderr is not None
        process.stderr.close()


def test_help_names_the_commands_and_how_it_was_called(tmp_path: Path) -> None:
    result = run(tmp_path, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: python -m broadsheet_broker ")
    assert "prepare empty log directories" in result.stdout


def test_no_arguments_run_a_broker_from_the_environment(tmp_path: Path) -> None:
    """As `docker run IMAGE` does."""
    result = run(tmp_path, KAFKA_NUM_PARTITIONS="none")
    assert result.returncode == 1
    assert "Invalid value none for configuration num.partitions" in result.stderr
