"""Programs beside a control plane, in the background: controllers that have no image here."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, Self

Popen = Callable[..., "subprocess.Popen[Any]"]
PLACE = pathlib.Path(__file__).resolve().parent


class Daemons:
    """Their output goes to files of a folder; the end of the block ends them, the last one first."""

    def __init__(self, folder: pathlib.Path, popen: Popen = subprocess.Popen) -> None:
        self.folder = folder
        self.environment: dict[str, object] = {}
        """For all that is started from now on."""
        self._popen = popen
        self._running: dict[str, subprocess.Popen[Any]] = {}

    def start(self, name: str, command: Sequence[str | pathlib.Path], **environment: object) -> None:
        settings = [f"{key}={value}" for key, value in (self.environment | environment).items()]
        with (self.folder / f"{name}.log").open("ab") as log:
            program = ["env", *settings, *map(str, command)]
            self._running[name] = self._popen(program, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def check(self) -> bool:
        """True; an AssertionError with the last words of a program that has ended."""
        for name, process in self._running.items():
            assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.last_words(name)}"
        return True

    def last_words(self, name: str, lines: int = 30) -> str:
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(line[:600] for line in text.splitlines()[-lines:])

    def end(self, name: str) -> None:
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed([*self._running]):
            self.end(name)
