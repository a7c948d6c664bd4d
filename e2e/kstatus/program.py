"""What kstatus says of objects: the library by which Flux, Helm and others read conditions, pinned in go.mod."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from e2e.apache.apache import CACHE

HERE = Path(__file__).parent


class Said(NamedTuple):
    """What kstatus makes of one object."""

    status: str
    """Current, InProgress, Failed, Terminating ..."""
    message: str


def binary() -> Path:
    """The program, built on first use."""
    digest = hashlib.sha256((HERE / "go.sum").read_bytes() + (HERE / "main.go").read_bytes()).hexdigest()[:8]
    target = CACHE / f"kstatus-{digest}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        build = ["go", "build", "-trimpath", "-o", str(unfinished), "."]
        settings = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
        done = subprocess.run(build, cwd=HERE, env=settings, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise RuntimeError(f"kstatus does not build:\n{done.stdout}{done.stderr}")
        unfinished.rename(target)
    return target


def kstatus(objects: Sequence[Mapping[str, Any]]) -> list[Said]:
    """One answer for each object, in their order."""
    lines = "".join(json.dumps(body) + "\n" for body in objects)
    done = subprocess.run([binary()], input=lines, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [Said(**json.loads(line)) for line in done.stdout.splitlines()]
