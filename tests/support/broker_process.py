"""A broker as a process on this machine: started on free ports, waited for, stopped, killed.

What Apache Kafka and our broker have in common for the tests: one node that is broker and controller, configured
by one `server.properties`, whose log says `started` when it takes requests. `e2e/brokers.py` makes several of them one
cluster.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port
from tests.support.waiting import wait_until

CLUSTER_ID = "Zm9sZGVkLW5ld3NwYXBlcg"

# One node: what Kafka replicates three times by default has to be told that there is one replica.
SINGLE_NODE = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
}


class BrokerProcess(ABC):
    """One broker process and the directory it keeps its log, its configuration and its output in."""

    name: str
    STARTED = re.compile(r"\bstarted\b", re.IGNORECASE)
    START_DEADLINE_S = 120.0
    node_id = 1
    host = "127.0.0.1"
    """Where it listens: clients and other brokers must reach it there."""
    inside: Sequence[str] = ()
    """A command that runs another one somewhere else, in a namespace for example; the broker's is put behind it."""

    def __init__(self, directory: Path | None = None, overrides: Mapping[str, str] | None = None) -> None:
        """Without a directory one is made, and removed again by `close`."""
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix=f"e2e-{self.name}-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.controller_port = free_port()
        self.log_dir = self.directory / "data"
        self.output = self.directory / "output.log"
        self.properties_file = self.directory / "server.properties"
        self.overrides = dict(overrides or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"{self.host}:{self.port}"

    @property
    def voter(self) -> str:
        """This node in `controller.quorum.voters`."""
        return f"{self.node_id}@{self.host}:{self.controller_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker has not been started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def properties(self) -> dict[str, str]:
        """The broker's configuration: what a single node needs, then what the test overrides."""
        return {
            **SINGLE_NODE,
            "node.id": str(self.node_id),
            "listeners": f"PLAINTEXT://{self.host}:{self.port},CONTROLLER://{self.host}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.host}:{self.port}",
            "controller.quorum.voters": self.voter,
            "log.dirs": str(self.log_dir),
            **self.overrides,
        }

    def write_properties(self) -> None:
        lines = (f"{key}={value}\n" for key, value in self.properties().items())
        self.properties_file.write_text("".join(lines))

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that runs the broker in the foreground."""

    def environment(self) -> dict[str, str]:
        """The environment of the process."""
        return dict(os.environ)

    def format(self) -> None:
        """Prepare an empty directory before the first start."""
        return

    def spawn(self) -> subprocess.Popen[bytes]:
        """Run the process and do not wait for it to be ready."""
        self.write_properties()
        self.format()
        self._output_before = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.inside, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
            )
        return self._process

    def start(self) -> Self:
        """Run the process and wait until it says that it takes requests."""
        self.spawn()
        return self.wait_started()

    def wait_started(self) -> Self:
        """Wait until the process that was spawned says that it takes requests."""
        process = self._process
        assert process is not None, "the broker has not been spawned"
        try:
            wait_until(
                lambda: process.poll() is not None or self.STARTED.search(self.output_since_start()),
                f"{self.name} to start",
                self.START_DEADLINE_S,
            )
        except TimeoutError as error:
            self.kill()
            raise TimeoutError(f"{error}; its last words:\n{self.last_words()}") from None
        if process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {process.returncode} at start:\n{self.last_words()}")
        return self

    def output_since_start(self) -> str:
        with self.output.open("rb") as output:
            output.seek(self._output_before)
            return output.read().decode(errors="replace")

    def last_words(self, lines: int = 30) -> str:
        return "\n".join(self.output_since_start().splitlines()[-lines:])

    def stop(self, deadline_s: float = 30.0) -> int:
        """SIGTERM, the clean way; the exit status."""
        return self._end(signal.SIGTERM, deadline_s)

    def kill(self) -> int:
        """SIGKILL: nothing is flushed, nothing is said."""
        return self._end(signal.SIGKILL, 10.0)

    def pause(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on, and does not know how long it was away."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals, deadline_s: float) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)  # a stopped process does not hear SIGTERM
        try:
            return process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimeoutError(f"{self.name} did not end within {deadline_s} s of {how.name}") from None

    def close(self) -> None:
        """Stop the process, and remove the directory if it was made for this one."""
        with contextlib.suppress(TimeoutError):
            self.stop()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
