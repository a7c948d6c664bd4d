"""`broadsheet up` as a process, with the engine that a test chooses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from broadsheet_operator.api.meta import Condition
from broadsheet_operator.local.store import FileStore
from broadsheet_operator.reconcilers.reasons import Reason
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

COMMAND = [sys.executable, "-m", "broadsheet_operator.cli"]
NAME = "paper"
READY_SECONDS = 180.0


class Up:
    """Runs one Cluster and one Topic."""

    def __init__(self, directory: Path, brokers: int, partitions: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.brokers, self.partitions = brokers, partitions
        self.directory = directory
        self.manifest = directory / "paper.yaml"
        self.output = directory / "up.log"
        self.state = directory / "state"
        self.port = free_ports(brokers)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return ",".join(f"localhost:{self.port + number}" for number in range(self.brokers))

    def declare(self, engine: Mapping[str, Any] | None, **config: str) -> None:
        """Write the manifest; a running `up` sees it."""
        spec: dict[str, Any] = {
            "brokers": {"replicas": self.brokers},
            "listeners": [{"name": "plain", "port": self.port}],
        }
        if engine is not None:
            spec["engine"] = dict(engine)
        if config:
            spec["config"] = {key.replace("_", "."): value for key, value in config.items()}
        topic = {"cluster": NAME, "partitions": self.partitions, "replicationFactor": min(3, self.brokers)}
        head = {"apiVersion": "broadsheet.io/v1alpha1"}
        documents = [
            {**head, "kind": "Cluster", "metadata": {"name": NAME}, "spec": spec},
            {**head, "kind": "Topic", "metadata": {"name": "orders"}, "spec": topic},
        ]
        unfinished = self.manifest.with_suffix(".new")
        unfinished.write_text(yaml.safe_dump_all(documents))
        unfinished.replace(self.manifest)

    def start(self) -> Self:
        """Run it; `wait_ready` waits for what it makes."""
        with self.output.open("ab") as output:
            command = [*COMMAND, "up", "-f", str(self.manifest), "--data", str(self.state)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        return self

    def condition(self, kind: str = "Cluster", name: str = NAME) -> Condition | None:
        entry = FileStore(self.state).entry(kind, name)
        return entry.resource.status.condition("Ready") if entry and entry.resource.status else None

    def engine(self) -> str:
        """With which its data was written last, and its version."""
        file = self.state / "clusters" / NAME / "cluster.json"
        kept = json.loads(file.read_text()).get("engine", {}) if file.exists() else {}
        return " ".join(filter(None, (kept.get("type", ""), kept.get("version", ""))))

    def wait_ready(self, engine: str) -> None:
        """Until the Topic is ready on brokers of this engine."""

        def ready() -> bool:
            assert self._process is not None and self._process.poll() is None, f"up has ended: {self.said()}"
            found = [self.condition(), self.condition("Topic", "orders")]
            return self.engine() == engine and all(c is not None and c.status == "True" for c in found)

        try:
            wait_until(ready, f"cluster and topic on {engine}", READY_SECONDS, 0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.said()}") from None

    def wait_refused(self) -> str:
        """Until the Cluster's status says that what is declared is not done; its words."""

        def refused() -> str:
            found = self.condition()
            return found.message or "" if found is not None and found.reason == Reason.NOT_SUPPORTED else ""

        return wait_until(refused, "a refusal", READY_SECONDS, 0.1)

    def wait_end(self) -> int:
        """Until `up` has ended by itself; its exit code."""
        process, self._process = self._process, None
        assert process is not None
        return process.wait(READY_SECONDS)

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def stop(self) -> int:
        """Ctrl-C; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
