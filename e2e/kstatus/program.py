"""What kstatus says of objects: the library by which Flux, Helm and others read conditions, pinned in go.mod."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from e2e.go_programs import built_once, go

HERE = Path(__file__).parent


class Said(NamedTuple):
    """What kstatus makes of one object."""

    status: str
    """Current, InProgress, Failed, Terminating ..."""
    message: str


def binary() -> Path:
    """The program, built on first use."""

    def build(target: Path) -> None:
        go(HERE, "build", "-trimpath", "-o", str(target), ".", CGO_ENABLED="0", GOFLAGS="-mod=readonly")

    return built_once("kstatus", (HERE / "go.sum").read_bytes() + (HERE / "main.go").read_bytes(), build)


def kstatus(objects: Sequence[Mapping[str, Any]]) -> list[Said]:
    """One answer for each object, in their order."""
    lines = "".join(json.dumps(body) + "\n" for body in objects)
    done = subprocess.run([binary()], input=lines, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [Said(**json.loads(line)) for line in done.stdout.splitlines()]
