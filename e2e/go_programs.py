"""Programs that are built from Go modules once and kept in the cache, named by what they were built of."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from e2e.apache.apache import CACHE

BUILD_SECONDS = 1200


def built_once(name: str, made_of: bytes, build: Callable[[Path], None]) -> Path:
    """The program; `build(target)` writes it if it is not in the cache. `made_of`: a change of it builds it anew."""
    target = CACHE / f"{name}-{hashlib.sha256(made_of).hexdigest()[:8]}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")  # another process may build it just now
        build(unfinished)
        unfinished.rename(target)
    return target


def go(directory: Path, *arguments: str, **environment: str) -> str:
    """Run Go in a module's directory; what it printed. RuntimeError with all of it when that does not work."""
    done = subprocess.run(
        ["go", *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"go {' '.join(arguments)} in {directory}:\n{done.stdout}{done.stderr}")
    return done.stdout
