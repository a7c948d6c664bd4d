"""Pages of the documentation, run command by command as a person would type them."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

from e2e.operator.providers import REPOSITORY, Kubernetes

DOCS = REPOSITORY / "docs"


def commands(page: str, language: str = "console") -> list[str]:
    """What a page has in its blocks of a language, one command a line, in their order."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), flags=re.S | re.M)
    # A command goes on after a backslash or a pipe.
    joined = (re.sub(r"(\\|(?<=\|))\n", " ", block) for block in blocks)
    return [line.strip() for block in joined for line in block.splitlines() if line.strip()]


class Reader:
    """Somebody who works in one namespace and goes through a page."""

    def __init__(self, kube: Kubernetes, page: str, namespace: str, folder: pathlib.Path) -> None:
        self.kube = kube
        self.kubeconfig = folder / f"kubeconfig-{namespace}"
        if not self.kubeconfig.exists():
            self.kubeconfig.write_text(kube.kubectl("config", "view", "--raw", "--flatten").stdout)
            here = ["config", "set-context", "--current", f"--namespace={namespace}"]
            kube.kubectl(f"--kubeconfig={self.kubeconfig}", *here)
        self._commands: Iterator[str] = iter(commands(page))

    def next(self, starts: str, seconds: float = 180) -> str:
        """Run the next command, which has to be this one; what it printed."""
        command = next(self._commands)
        assert command.startswith(starts), f"the page goes on with: {command}"
        script = f"cd {REPOSITORY} && export KUBECONFIG={self.kubeconfig} && {command}"
        done = self.kube.run(["bash", "-c", script], timeout=seconds)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def end(self) -> None:
        """The page has no more commands."""
        assert list(self._commands) == []
