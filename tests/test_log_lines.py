"""Log lines as JSON: the broker's and the operator's have the same fields, and each is one line whatever is in it."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from broadsheet_broker.seams import log_lines as of_broker
from broadsheet_operator import log_lines as of_operator
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.reconcilers.pods import plain

FORMATTERS: list[Callable[[], logging.Formatter]] = [of_broker.JsonFormatter, of_operator.JsonFormatter]
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def record(message: object, *arguments: object, **more: Any) -> logging.LogRecord:
    made = logging.getLogger("some.library").makeRecord(
        "some.library", logging.WARNING, "file.py", 1, message, arguments, more.pop("exc_info", None), extra=more
    )
    made.created, made.msecs = 1_767_225_600.25, 250.0
    return made


def written(formatter: logging.Formatter, about: logging.LogRecord) -> dict[str, Any]:
    line = formatter.format(about)
    assert "\n" not in line and "\r" not in line
    found: dict[str, Any] = json.loads(line)
    assert RFC_3339.fullmatch(found["time"])
    return found


def a_failure() -> Any:
    try:
        raise ValueError("the last\nwords")
    except ValueError:
        return sys.exc_info()


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_the_fields_of_a_line(formatter: Callable[[], logging.Formatter]) -> None:
    assert written(formatter(), record("%d of %s", 2, "three")) == {
        "time": "2026-01-01T00:00:00.250Z",
        "level": "WARNING",
        "logger": "some.library",
        "message": "2 of three",
    }


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize("message", ["two\nlines", "\u2028 and \x00 and \x1b[31m", 'quotes " and \\', {"a": 1}, ""])
def test_whatever_a_message_holds_it_is_one_line(formatter: Callable[[], logging.Formatter], message: object) -> None:
    assert written(formatter(), record(message))["message"] == str(message)


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_traceback_is_one_field(formatter: Callable[[], logging.Formatter]) -> None:
    found = written(formatter(), record("it failed", exc_info=a_failure()))
    assert found["message"] == "it failed"
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("ValueError: the last\nwords")


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_call_whose_arguments_do_not_fit_is_a_line_nevertheless(formatter: Callable[[], logging.Formatter]) -> None:
    assert written(formatter(), record("%d records", "three"))["message"].startswith("%d records ('three',)")


def test_a_broker_says_who_and_what_it_is_about() -> None:
    formatter = of_broker.JsonFormatter({"node_id": 2})
    of_partition = written(formatter, record("%s-%d: leader in epoch %d", "orders", 3, 7))
    assert (of_partition["node_id"], of_partition["topic"], of_partition["partition"]) == (2, "orders", 3)
    later = written(formatter, record("100%% of %s: retention of %s-%d", "it", "orders", 3))
    assert (later["topic"], later["partition"]) == ("orders", 3)
    assert written(formatter, record("Group %s: %d members", "readers", 3))["group"] == "readers"
    assert written(formatter, record("Broker %d is fenced: it %s", 4, "is silent"))["broker"] == 4
    assert "topic" not in written(formatter, record("orders-3: no arguments"))


def test_the_operator_says_what_it_is_about() -> None:
    formatter, key = of_operator.JsonFormatter(), ResourceKey("paper", "cafe")
    of_cluster = written(formatter, record("Cluster %s: %s", key, "refused"))
    assert of_cluster["message"] == "Cluster paper/cafe: refused"
    assert {name: of_cluster[name] for name in ("kind", "namespace", "name", "cluster")} == {
        "kind": "Cluster", "namespace": "paper", "name": "cafe", "cluster": "cafe"
    }  # fmt: skip
    of_topic = written(formatter, record("%s %s: %s", "Topic", key, "waits"))
    assert (of_topic["kind"], of_topic["name"], "cluster" in of_topic) == ("Topic", "cafe", False)
    of_kopf = written(
        formatter, record("words", k8s_ref={"kind": "Topic", "namespace": "paper", "name": "x", "uid": "1"})
    )
    assert (of_kopf["kind"], of_kopf["namespace"], of_kopf["name"]) == ("Topic", "paper", "x")
    assert written(formatter, record("words", cluster="cafe", topic="t", partition=0))["partition"] == 0


def test_text_is_as_it_was() -> None:
    line = of_broker.LineFormatter().format(record("%s-%d: leader in epoch %d", "orders", 3, 7))
    assert line == "2026-01-01T00:00:00.250Z WARNING some: orders-3: leader in epoch 7"


def test_the_last_words_of_a_json_log_are_its_message() -> None:
    line = of_broker.JsonFormatter().format(record("the disk is gone"))
    assert plain(line) == "the disk is gone"
    assert plain("{ no json") == "{ no json"
    assert plain('{"other": 1}') == '{"other": 1}'


@pytest.mark.parametrize("package", ["broadsheet_broker.seams", "broadsheet_operator"])
def test_what_ends_a_process_is_a_line_too(package: str) -> None:
    script = f"""
import threading, warnings
from {package} import log_lines
log_lines.configure("INFO", "json")
warnings.warn("an old way")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
raise RuntimeError("the end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [line["level"] for line in lines] == ["WARNING", "CRITICAL", "CRITICAL"]
    assert "an old way" in lines[0]["message"]
    assert lines[1]["message"].startswith("ZeroDivisionError") and "exception" in lines[1]
    assert lines[2]["message"] == "RuntimeError: the end" and "Traceback" in lines[2]["exception"]


def test_an_operator_without_a_cluster_ends_with_lines_of_json() -> None:
    command = [sys.executable, "-m", "broadsheet_operator.cli", "operator", "--broker-image", "x", "--http-port", "0"]
    done = subprocess.run(
        [*command, "--log-format", "json"], capture_output=True, text=True, timeout=60, env={"HOME": "/nonexistent"}
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1 and lines
    assert all(RFC_3339.fullmatch(line["time"]) for line in lines)


def test_the_documented_paths_are_those_of_the_pods() -> None:
    """A kubelet names a log after pod, namespace and container. The names are those of the templates."""
    root = Path(__file__).resolve().parents[1]
    templates = root / "operator/broadsheet_operator/templates"
    sources = [
        ("cafe-brokers-0", templates / "containers-broadsheet.yaml.j2"),
        ("cafe-brokers-0", templates / "containers-apache-kafka.yaml.j2"),
        ("cafe-canary-7d9f8b-x2x4z", templates / "canary-deployment.yaml.j2"),
        ("broadsheet-7d9f8b-x2x4z", root / "charts/broadsheet/templates/deployment.yaml"),
    ]
    blocks = re.findall(r"```yaml\n(filebeat.*?)```", (root / "docs/how-to/logs.md").read_text(), re.DOTALL)
    (inputs,) = (yaml.safe_load(block)["filebeat.inputs"] for block in blocks)
    for pod, source in sources:
        found = re.search(r" containers:\n +- name: (\w+)", source.read_text())
        assert found, source
        path = f"/var/log/containers/{pod}_paper_{found[1]}-0123abcd.log"
        assert any(fnmatchcase(path, pattern) for pattern in inputs[0]["paths"]), path
