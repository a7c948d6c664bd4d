"""The check before another engine takes a local cluster's directories over: a process of its own reads them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from broadsheet_operator.api import engine as declared
from broadsheet_operator.api.engine import NO_EXCHANGE
from broadsheet_operator.reconcilers.engines import Engine
from broadsheet_operator.reconcilers.exchange import Stored, refusal

SECONDS = 120.0
"""How long the directories may be read at the start of `up`."""


def contents_command(directories: Sequence[Path]) -> list[str]:
    """How the directories are read: by the broker's own package, in a process of its own."""
    return [sys.executable, "-m", "broadsheet_broker", "contents", "--output", "json", *map(str, directories)]


def forbidden(old: declared.Engine, new: declared.Engine) -> str:
    """Why the data of one engine may not become the other's, whatever is stored; empty when it may."""
    return NO_EXCHANGE if old.type is not new.type and new.exchange is None else ""


class Check:
    """Whether `target` can take over what these directories hold, from the engine called `old`."""

    def __init__(self, old: str, target: Engine, directories: Sequence[Path]) -> None:
        self._old = old
        self._target = target
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        if directories:
            self._process = subprocess.Popen(
                contents_command(directories), stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._errors
            )

    def is_done(self) -> bool:
        """Whether everything was read."""
        return self._process is None or self._process.poll() is not None

    def refusal(self) -> str:
        """Why it cannot, once that is known; waits for it. Empty when it can."""
        said = self._result()
        return f"{self._target.title} cannot take over from {self._old}: {said}" if said else ""

    def _result(self) -> str:
        if self._process is None:
            return ""
        try:
            code = self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.cancel()
            return f"what is stored was not read within {SECONDS:g} s"
        if code != 0:
            self._errors.seek(0)
            words = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            return f"what is stored cannot be read: {words[-1] if words else f'exit code {code}'}"
        self._output.seek(0)
        return refusal(self._target, Stored.from_contents(json.load(self._output)))

    def cancel(self) -> None:
        """It is not needed any more."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
