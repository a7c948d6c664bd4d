"""What is compared: Broadsheet in one or several interpreters, and releases of Apache Kafka. All of them run at the
same time, but those that are not measured are stopped by a signal and use nothing but memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from e2e.apache.apache import ApacheKafka
from e2e.bench.core import surroundings
from e2e.bench.gauges import resident_mb
from e2e.brokers import Brokers
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build"
TMPFS = Path("/dev/shm")
RELEASES = ("4.3.0", "4.4.0")
CODES = ("compiled", "pure")

STAYS_AWAKE = {
    "broker.session.timeout.ms": "3600000",
    "controller.quorum.fetch.timeout.ms": "3600000",
    "replica.lag.time.max.ms": "3600000",
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "100",
}
"""A broker that was stopped for a while is still a member; and what a run wrote is removed at once."""

ONE_NODE = {
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
}


class _Interpreter(Broadsheet):
    """Our broker in an interpreter of its own."""

    python = Path(sys.executable)
    variables: Mapping[str, str] = {}

    def command(self) -> list[str]:
        return [str(self.python), *super().command()[1:]]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.variables}


class Side:
    """One of those that are compared: one broker, or three."""

    def __init__(self, kind: type[BrokerProcess], name: str, label: str, overrides: dict[str, str]) -> None:
        self.kind, self.name, self.label = kind, name, label
        self._overrides = overrides
        self._cluster: Brokers | None = None
        self._directory: Path | None = None

    def start(self, size: int, place: Path) -> None:
        """Start it with its directories under `place`."""
        place.mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-", dir=place))
        own = {**STAYS_AWAKE, **(ONE_NODE if size == 1 else {}), **self._overrides}
        self._cluster = Brokers(self.kind, self._directory, size=size, overrides=own)
        self._cluster.start()

    @property
    def brokers(self) -> Sequence[BrokerProcess]:
        return list(self._cluster.brokers.values()) if self._cluster else []

    @property
    def pids(self) -> Sequence[int]:
        return [broker.pid for broker in self.brokers]

    @property
    def memory_mb(self) -> float:
        """Resident memory of all its brokers."""
        return resident_mb(*self.pids)

    @property
    def directory(self) -> Path:
        assert self._directory is not None, f"{self.name} has not been started"
        return self._directory

    def pause(self) -> None:
        for broker in self.brokers:
            broker.pause()

    def resume(self) -> None:
        for broker in self.brokers:
            broker.resume()

    def last_words(self) -> str:
        return self._cluster.last_words(15) if self._cluster else ""

    def close(self) -> None:
        """Kill it and remove its directories."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def variables_of(code: str) -> dict[str, str]:
    """What makes an interpreter run the compiled modules, which are made if they are not there, or the pure ones."""
    if code == "pure":
        return {"PYTHONPATH": str(ROOT / "broker-image"), "BROADSHEET_CODE": "pure"}
    command = [sys.executable, str(ROOT / "tools/compiled.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise RuntimeError(f"the broker could not be compiled; --code pure does without it:\n{done.stderr[-2000:]}")
    return {"PYTHONPATH": str(BUILD / "compiled"), "BROADSHEET_CODE": "compiled"}


def sides(interpreters: Iterable[Path], codes: Sequence[str], releases: Iterable[str]) -> list[Side]:
    """Broadsheet in each interpreter and code, the first of which is compared; then each release of Apache Kafka."""
    found: list[Side] = []
    for number, python in enumerate(interpreters, 1):
        for code in codes:
            name = "broadsheet" if not found else f"broadsheet-{code}{number if number > 1 else ''}"
            variables = variables_of(code)
            kind = type(
                f"{code.title()}{number}", (_Interpreter,), {"python": python, "variables": variables, "name": name}
            )
            found.append(Side(kind, name, f"Broadsheet, {surroundings.describe(python, variables)}", {}))
    for version in releases:
        name = f"kafka-{version}"
        kind = type(f"Kafka{version.replace('.', '')}", (ApacheKafka,), {"version": version, "name": name})
        found.append(Side(kind, name, f"Apache Kafka {version}", {"log.initial.task.delay.ms": "1000"}))
    return found
