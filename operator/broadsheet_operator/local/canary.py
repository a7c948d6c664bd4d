"""A Cluster's canary under `broadsheet up`: a child process that is started again when it ends, and asked how it is."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from broadsheet_operator.api.cluster import Canary
from broadsheet_operator.kafka.canary import read_health
from broadsheet_operator.local.broker import STOP_SECONDS, die_with_parent, free_port
from broadsheet_operator.reconcilers import canary
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.conditions import Statement
from broadsheet_operator.reconcilers.reasons import Reason

START_AGAIN_SECONDS = 5.0


class LocalCanary:
    """The canary of one cluster."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self.log_file = directory / "canary.log"
        self.port = 0
        self._say = say
        self._declared: Canary | None = None
        self._servers: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._again_at = 0.0
        self._trouble = ""
        self._health: CanaryHealth | None = None

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return self._process.pid if self._process is not None else None

    @property
    def topic(self) -> str:
        """The topic of the canary that is declared; empty if there is none."""
        return self._declared.topic if self._declared is not None else ""

    def declare(self, wanted: Canary | None, servers: Sequence[str]) -> None:
        """Have it run like this; None or no servers: not at all. It is not waited for."""
        if wanted == self._declared and tuple(servers) == self._servers:
            return
        self.stop()
        self._declared, self._servers = wanted, tuple(servers)
        self._again_at, self._trouble, self._health = 0.0, "", None

    def look(self) -> None:
        """Start it if it should run and does not."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._process, self._health = None, None
            self._again_at = time.monotonic() + START_AGAIN_SECONDS
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            self._trouble = f"it {how} (log: {self.log_file})"
            self._say(f"the canary {how}; it is started again in {START_AGAIN_SECONDS:g} s (log: {self.log_file})")
        if self._declared is not None and self._servers and time.monotonic() >= self._again_at:
            self._start(self._declared)

    def _start(self, declared: Canary) -> None:
        self.port = declared.metrics_port or free_port()
        command = [sys.executable, "-m", "broadsheet_operator.cli", "canary"]
        command += ["--bootstrap-servers", ",".join(self._servers), "--topic", declared.topic]
        command += ["--interval", f"{canary.interval_ms(declared)}ms"]
        command += ["--max-latency", f"{canary.max_latency_ms(declared)}ms", "--http", f"localhost:{self.port}"]
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._say(f"the canary runs, metrics at http://localhost:{self.port}/metrics")

    def ask(self) -> Callable[[], CanaryHealth | str | None]:
        """How to ask it how it is, in another thread."""
        port = self.port if self._process is not None else 0
        return lambda: read_health(f"http://localhost:{port}/status") if port else None

    def take_in(self, said: CanaryHealth | str | None) -> None:
        """What it answered."""
        self._health = said if isinstance(said, CanaryHealth) else None

    def statements(self) -> list[Statement]:
        """The condition of the Cluster; none without a canary."""
        if self._declared is None:
            return []
        if self._process is None and self._trouble:
            words = f"the canary does not run: {self._trouble}"
            return [Statement("CanaryHealthy", "Unknown", Reason.CANARY_NOT_RUNNING, words)]
        around = canary.Circumstances(silent_seconds=0.0 if self._health is not None else None)
        return [canary.statement(self._health, around, None)]

    def stop(self) -> None:
        """Ask it to stop, and see to it that it does."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS / 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
