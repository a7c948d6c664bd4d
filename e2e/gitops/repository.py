"""A Git repository that a team commits to and that Argo CD and Flux read over HTTP."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping

from e2e.gitops.daemons import PLACE, Daemons
from tests.support.ports import free_port

BRANCH = "main"
CONFIGURATION = {"user.name": "platform", "user.email": "platform@example.com", "commit.gpgsign": "false"}
"""Of the clone: its commits do not depend on this machine."""


class Repository:
    """A bare repository behind a server on loopback, and a clone to commit in."""

    def __init__(self, folder: pathlib.Path, daemons: Daemons, name: str = "platform") -> None:
        self.clone = folder / name
        bare = folder / "served" / f"{name}.git"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/{name}.git"
        subprocess.run(["git", "init", "-q", "--bare", f"--initial-branch={BRANCH}", bare], check=True)
        subprocess.run(["git", "clone", "-q", bare, self.clone], check=True, stderr=subprocess.DEVNULL)
        for key, value in CONFIGURATION.items():
            self.git("config", key, value)
        daemons.start(f"git-{name}", [sys.executable, PLACE / "gitserver.py", bare.parent, str(port)])

    def git(self, *arguments: str) -> str:
        """Run git in the clone; what it printed."""
        done = subprocess.run(["git", *arguments], cwd=self.clone, capture_output=True, text=True)
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | None]) -> None:
        """Files of the clone, by their path; None removes one."""
        for name, text in files.items():
            path = self.clone / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def copy(self, source: pathlib.Path, name: str) -> None:
        """A folder or file of this machine, under this path of the clone."""
        (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, self.clone / name, dirs_exist_ok=True)
        else:
            shutil.copy(source, self.clone / name)

    def read(self, name: str) -> str:
        return (self.clone / name).read_text()

    def commit(self, message: str, files: Mapping[str, str | None] | None = None) -> str:
        """Commit these files, and all else that has changed in the clone, and push; the revision."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)
        self.git("push", "-q", "origin", f"HEAD:{BRANCH}")
        return self.head

    @property
    def head(self) -> str:
        """The last commit of the clone."""
        return self.git("rev-parse", "HEAD")

    def replace(self, name: str, old: str, new: str, message: str) -> str:
        """Commit a file with one text replaced by another; the revision."""
        text = self.read(name)
        assert text.count(old) == 1, f"{name} has {text.count(old)} times: {old}"
        return self.commit(message, {name: text.replace(old, new)})

    def revert(self) -> str:
        """Take the last commit back by another one; the revision."""
        self.git("revert", "--no-edit", "HEAD")
        self.git("push", "-q", "origin", f"HEAD:{BRANCH}")
        return self.head
