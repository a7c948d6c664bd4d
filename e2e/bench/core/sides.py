"""What is compared: Broadsheet in one or several interpreters, and releases of Apache Kafka. All of them run at the
same time, but those that are not measured are stopped by a signal and use nothing but memory."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from e2e.apache.apache import ApacheKafka
from e2e.bench.core import surroundings
from e2e.bench.gauges import resident_mb
from e2e.brokers import Brokers
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess

BUILD = Path(__file__).parents[3] / "build"
TMPFS = Path("/dev/shm")
RELEASES = ("4.3.0", "4.4.0")

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

    def command(self) -> list[str]:
        return [str(self.python), *super().command()[1:]]


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


def sides(interpreters: Iterable[Path], releases: Iterable[str]) -> list[Side]:
    """Broadsheet in each interpreter, the first one is the one that is compared; then each release of Apache Kafka."""
    found = []
    for number, python in enumerate(interpreters, 1):
        name = "broadsheet" if number == 1 else f"broadsheet-{number}"
        kind = type(f"Interpreter{number}", (_Interpreter,), {"python": python, "name": name})
        found.append(Side(kind, name, f"Broadsheet, {surroundings.describe(python)}", {}))
    for version in releases:
        name = f"kafka-{version}"
        kind = type(f"Kafka{version.replace('.', '')}", (ApacheKafka,), {"version": version, "name": name})
        found.append(Side(kind, name, f"Apache Kafka {version}", {"log.initial.task.delay.ms": "1000"}))
    return found
