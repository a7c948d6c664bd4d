"""A broker as a child process: its configuration, its start, its end, and its return with a growing delay."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers.cluster import BrokerState
from broadsheet_operator.reconcilers.inputs import SECRET
from broadsheet_operator.reconcilers.place import Address, Place
from broadsheet_operator.reconcilers.pods import plain
from broadsheet_operator.reconcilers.quorum import LISTENER
from broadsheet_operator.reconcilers.server_properties import rendered

FIRST_DELAY, LONGEST_DELAY = 0.5, 15.0
"""Seconds before a dead broker is started again; doubled each time, and back to the first when it stayed up."""
STEADY_SECONDS = 30.0
LAST_BYTES = 16 * 1024
"""How much of the end of a log is searched for what it says."""
STOP_SECONDS = 60.0
"""How long a broker may take to stop before it is killed."""


def broker_command(properties: Path) -> list[str]:
    """How our broker is started: by name, in a process of its own."""
    return [sys.executable, "-m", "broadsheet_broker", "broker", "--config", str(properties)]


def endpoint(cluster: Cluster, node_id: int) -> tuple[str, int]:
    """Where clients reach a broker: its first listener on this machine."""
    return "localhost", cluster.listeners()[0].port + node_id


def place(cluster: Cluster, node_id: int, *, cluster_id: str, data: Path, controller_ports: Sequence[int]) -> Place:
    """Where one of the cluster's brokers runs, for any number of brokers.

    The first of them are controllers too, one for each of `controller_ports`; who votes in the metadata quorum must not
    change by a change of this configuration, so brokers that come later are brokers only.
    """
    listeners = [Address(name=d.name.upper(), host="localhost", port=d.port + node_id) for d in cluster.listeners()]
    is_controller = node_id < len(controller_ports)
    voters = ",".join(f"{id}@localhost:{port}" for id, port in enumerate(controller_ports))
    return Place(
        cluster_id=cluster_id,
        brokers=max(cluster.spec.brokers.replicas if cluster.spec.brokers else 1, len(controller_ports)),
        listeners=listeners,
        controller=Address(name=LISTENER, host="localhost", port=controller_ports[node_id]) if is_controller else None,
        quorum={"controller.quorum.voters": voters},
        data=str(data),
        node_id=node_id,
        advertised=listeners,
        defaults={"group.initial.rebalance.delay.ms": "0"},
        # On Kubernetes the operator keeps it so, here the brokers do it by themselves.
        broadsheet={"broadsheet.min.insync.replicas.of.cluster": "true"},
    )


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """A broker's configuration as a file."""
    path.write_text(f"# Written by broadsheet; change the Cluster instead.\n{rendered(properties)}", encoding="utf-8")


def changed_properties(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The properties that differ, with both values; empty when none does."""
    different = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return ", ".join(f"{key} {_shown(key, before)} -> {_shown(key, after)}" for key in different)


def _shown(key: str, properties: Mapping[str, str]) -> str:
    if key not in properties:
        return "default"
    return "(hidden)" if SECRET.search(key) else properties[key]


def port_in_use(port: int) -> bool:
    """Whether something listens on this port of localhost already."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == 98:  # EADDRINUSE; without IPv6 the other errors say nothing about the port
                return True
    return False


def free_port() -> int:
    """A free port of localhost."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: tuple[str, int]) -> bool:
    """Whether something takes connections there."""
    try:
        with socket.create_connection(address, timeout=0.5):
            return True
    except OSError:
        return False


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Runs in the child: the kernel sends it SIGTERM when the process that started it is gone."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)


def last_line(lines: Sequence[str]) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class BrokerProcess:
    """One broker and its process, which may come and go."""

    def __init__(
        self,
        directory: Path,
        node_id: int,
        address: tuple[str, int],
        command: Callable[[Path], list[str]] = broker_command,
        meaning: Callable[[Sequence[str]], str] = last_line,
    ) -> None:
        """`meaning` finds what the last lines of its log say."""
        self.directory = directory
        self.node_id = node_id
        self.address = address
        self.log_file = directory / f"broker-{node_id}.log"
        self.properties_file = directory / f"broker-{node_id}.properties"
        self.properties: dict[str, str] = {}
        self.was_ready = False
        self.failures = 0
        self.command = command
        self._meaning = meaning
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._asked = False
        self._again_at = 0.0
        self._trouble = ""

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return self._process.pid if self._process is not None else None

    def start(self, properties: Mapping[str, str]) -> None:
        """Start it. OSError when that is not possible."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.properties = dict(properties)
        write_properties(self.properties_file, properties)
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                self.command(self.properties_file),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in the terminal must not reach it, `up` stops brokers in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._started = time.monotonic()
        self._asked = False

    def look(self) -> str:
        """Start it again if it is time; a sentence about what has just happened, if anything has."""
        now = time.monotonic()
        if self._process is None:
            if self._again_at and now >= self._again_at:
                self._again_at = 0.0
                self.start(self.properties)
                return f"broker {self.node_id} is started again"
            return ""
        code = self._process.poll()
        if code is None:
            if self.failures and now - self._started > STEADY_SECONDS:
                self.failures = 0
            return ""
        self._process = None
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2**self.failures)
        self.failures += 1
        self._again_at = now + delay
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        last = self.last_words() if code > 0 else ""
        self._trouble = f"broker {self.node_id} {how}" + (f": {last}" if last else "")
        return f"{self._trouble}; it is started again in {delay:g} s (log: {self.log_file})"

    def last_words(self) -> str:
        """What the end of its log says."""
        try:
            with open(self.log_file, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return plain(self._meaning(lines))[:300]

    def state(self, *, ready: bool) -> BrokerState:
        """Its state, for the Cluster's status."""
        where = f"{self.address[0]}:{self.address[1]}"
        if self._process is None:
            return BrokerState(self.node_id, "Restarting" if self._again_at else "Stopped", where, self._trouble)
        return BrokerState(self.node_id, "Running" if ready else "Starting", where)

    def terminate(self) -> None:
        """Ask it to stop. It is asked once: a second signal ends it at once."""
        self._again_at = 0.0
        if self._process is not None and self._process.poll() is None and not self._asked:
            self._asked = True
            self._process.terminate()

    def has_ended(self) -> bool:
        """Whether it has no process now."""
        return self._process is None or self._process.poll() is not None

    def wait(self, seconds: float = STOP_SECONDS) -> bool:
        """Wait for its end; after the deadline it is killed. True if it ended by itself."""
        if self._process is None:
            return True
        clean = True
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            clean = False
            self._process.kill()
            self._process.wait()
        self._process = None
        return clean
