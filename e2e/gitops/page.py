"""The page docs/how-to/gitops.md: its commands, run in a checkout whose examples have the addresses of the tests."""

from __future__ import annotations

import pathlib

from e2e.gitops.repository import Repository
from e2e.operator.pages import commands
from e2e.operator.providers import REPOSITORY, Kubernetes

PAGE = "how-to/gitops.md"


class Page:
    """A checkout of Broadsheet in which docs/examples/gitops is a clone of the team's repository."""

    def __init__(self, kube: Kubernetes, folder: pathlib.Path, kafka: Repository, environment: dict[str, str]) -> None:
        self.kube = kube
        self.checkout = folder
        self._environment = " ".join(f"{name}='{value}'" for name, value in environment.items())
        (folder / "docs/examples").mkdir(parents=True)
        (folder / "docs/examples/gitops").symlink_to(kafka.clone)
        (folder / "charts").symlink_to(REPOSITORY / "charts")

    def run(self, starts: str, *changes: tuple[str, str], at: str = ".", seconds: float = 120) -> str:
        """Run the command of the page that starts like this, with these texts replaced; what it printed."""
        found = [command for command in commands(PAGE, "sh") if command.startswith(starts)]
        assert found, f"{PAGE} has no command that starts with: {starts}"
        command = found[0]
        for old, new in changes:
            assert old in command, f"{command}: there is no {old}"
            command = command.replace(old, new)
        script = f"cd {self.checkout / at} && export {self._environment} && set -o pipefail && {command}"
        done = self.kube.run(["bash", "-c", script], timeout=seconds)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout
