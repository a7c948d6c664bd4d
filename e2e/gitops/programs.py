"""Argo CD, what its repo server runs, and Flux's controllers: built from pinned modules, kept by version."""

from __future__ import annotations

import pathlib
import subprocess

from e2e.gitops.daemons import PLACE


def programs() -> pathlib.Path:
    """The folder with them, and with the definitions and configuration that their releases have."""
    done = subprocess.run([PLACE / "build.sh"], text=True, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0, "building Argo CD and Flux failed; its output is above"
    return pathlib.Path(done.stdout.strip())
