"""KEDA's Kafka scalers as a program: those of KEDA's own module, without its other seventy."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from e2e.go_programs import built_once, go

HERE = Path(__file__).parent
MODULE, VERSION = "github.com/kedacore/keda/v2", "v2.21.0"
SCALERS = ("scaler.go", "kafka_scaler.go", "apache_kafka_scaler.go")
"""Of the package that holds all scalers, those that are compiled: the others bring the libraries of every cloud."""


class Scaled(NamedTuple):
    """What a scaler answers."""

    value: int
    """The metric: records to be read, as KEDA counts them."""
    active: bool
    error: str


def binary() -> Path:
    """The program, built on first use."""

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory() as directory:
            shutil.copy2(_build(Path(directory)), target)

    return built_once("keda", VERSION.encode() + (HERE / "main.go").read_bytes(), build)


def module() -> Path:
    """KEDA's module, with its custom resource definitions, in the module cache."""
    with tempfile.TemporaryDirectory() as directory:
        found = json.loads(_go(Path(directory), "mod", "download", "-json", f"{MODULE}@{VERSION}"))
    return Path(found["Dir"])


def _build(directory: Path) -> Path:
    """In a copy of the module, so that its own go.mod and go.sum apply."""
    copy = directory / "keda"
    shutil.copytree(module(), copy)
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # the module cache is read-only
    for path in (copy / "pkg/scalers").glob("*.go"):
        if path.name not in SCALERS:
            path.unlink()
    program = copy / "cmd/broadsheet"
    program.mkdir(parents=True)
    shutil.copy2(HERE / "main.go", program)
    _go(copy, "build", "-trimpath", "-ldflags=-s -w", "-o", "../ask-keda", "./cmd/broadsheet")
    return directory / "ask-keda"


def _go(directory: Path, *arguments: str) -> str:
    return go(directory, *arguments, CGO_ENABLED="0", GOFLAGS="-mod=mod")


def ask(triggers: Sequence[Mapping[str, object]]) -> list[Scaled]:
    """One answer for each trigger, as `spec.triggers` of a ScaledObject have them, in their order."""
    lines = "".join(json.dumps(trigger) + "\n" for trigger in triggers)
    done = subprocess.run([binary()], input=lines, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [Scaled(**json.loads(line)) for line in done.stdout.splitlines()]
