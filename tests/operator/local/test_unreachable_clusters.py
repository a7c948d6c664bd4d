"""A Cluster that does not answer holds up no other one of the same `broadsheet up`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from broadsheet_operator.api.manifests import parse
from broadsheet_operator.local.broker import answers, broker_command
from broadsheet_operator.local.identity import CannotStart
from broadsheet_operator.local.runtime import Runtime
from broadsheet_operator.local.store import FileStore
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

SECONDS = 30.0
LONGEST_STEP_SECONDS = 2.0
"""Far below the gateway's timeout of five seconds, far above what a loaded machine makes of a turn of the loop."""


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that accepts connections and never replies."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    """An address that refuses connections."""
    return f"127.0.0.1:{free_port()}"


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "broadsheet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Up:
    """A runtime that is stepped, and how long its longest step took."""

    def __init__(
        self,
        directory: Path,
        *documents: dict[str, Any],
        command: Callable[[Path], list[str]] = broker_command,
    ) -> None:
        directory.mkdir(exist_ok=True)
        file = directory / "manifests.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        self.said: list[str] = []
        self.longest = 0.0
        self.runtime = Runtime(
            [str(file)],
            FileStore(directory / "state"),
            lambda what, words: self.said.append(f"{what}: {words}"),
            command=command,
        )
        self.runtime.start()

    def until(self, true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, f"{what} did not happen in time: {self.said}"
            before = time.monotonic()
            self.runtime.step()
            self.longest = max(self.longest, time.monotonic() - before)
            time.sleep(0.02)

    def condition(self, kind: str, name: str, condition: str) -> Any:
        entry = self.runtime.entries.get((kind, name))
        return entry.resource.status.condition(condition) if entry and entry.resource.status else None

    def reason(self, kind: str, name: str) -> str:
        ready = self.condition(kind, name, "Ready")
        return ready.reason if ready else ""


@pytest.mark.parametrize("address", ["silent", "refusing"])
def test_an_external_cluster_that_does_not_answer_does_not_delay_the_return_of_anothers_broker(
    tmp_path: Path, request: pytest.FixtureRequest, address: str
) -> None:
    port = free_port()
    up = Up(
        tmp_path,
        manifest("Cluster", "far", external={"bootstrapServers": [request.getfixturevalue(address)]}),
        manifest("Cluster", "near", brokers={"replicas": 1}, listeners=[{"name": "plain", "port": port}]),
        manifest("Topic", "orders", cluster="near", partitions=1),
        manifest("Topic", "elsewhere", cluster="far", partitions=1),
    )
    try:
        up.until(lambda: up.reason("Topic", "orders") == "Ready", "the topic of the cluster that answers")
        up.until(lambda: up.reason("Cluster", "far") not in ("", "Creating"), "words about the one that does not")
        assert up.reason("Topic", "elsewhere") == "ClusterNotReady"
        (broker,) = up.runtime.clusters["near"].brokers
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        up.until(lambda: broker.failures, "the end of the broker")
        up.until(lambda: answers(broker.address), "its return")
        up.until(lambda: up.reason("Cluster", "near") == "Ready", "a ready cluster")
        assert up.longest < LONGEST_STEP_SECONDS
    finally:
        before = time.monotonic()
        up.runtime.stop()
    assert time.monotonic() - before < SECONDS / 2, "an open call to a cluster that does not answer delays no end"


def test_a_broker_that_takes_long_to_stop_holds_up_no_other_cluster(tmp_path: Path) -> None:
    ports = {"slow": free_port(), "quick": free_port()}
    up = Up(
        tmp_path,
        *(
            manifest("Cluster", name, brokers={"replicas": 1}, listeners=[{"name": "plain", "port": port}])
            for name, port in ports.items()
        ),
    )
    try:
        for name in ports:
            up.until(lambda name=name: up.reason("Cluster", name) == "Ready", name)  # type: ignore[misc]
        (slow,) = up.runtime.clusters["slow"].brokers
        (quick,) = up.runtime.clusters["quick"].brokers
        assert slow.pid is not None and quick.pid is not None
        os.kill(slow.pid, signal.SIGSTOP)
        up.runtime.store.mark_deleted("Cluster", "slow")
        os.kill(quick.pid, signal.SIGKILL)
        up.until(lambda: quick.failures, "the end of the other's broker")
        up.until(lambda: answers(quick.address), "its return")
        assert ("Cluster", "slow") in up.runtime.entries, "the first one still stops"
        os.kill(slow.pid, signal.SIGCONT)
        up.until(lambda: ("Cluster", "slow") not in up.runtime.entries, "the end of the first one")
        assert up.longest < LONGEST_STEP_SECONDS
    finally:
        up.runtime.stop()


def test_a_cluster_that_is_declared_later_and_does_not_start_ends_no_other(tmp_path: Path) -> None:
    """`up` ended with all its clusters when the broker of any did not come up."""

    def command(properties: Path) -> list[str]:
        if "broken" in properties.parts:
            return [sys.executable, "-c", "import sys; sys.exit('it has no disk')"]
        return broker_command(properties)

    def cluster(name: str) -> dict[str, Any]:
        listeners = [{"name": "plain", "port": free_port()}]
        return manifest("Cluster", name, brokers={"replicas": 1}, listeners=listeners)

    up = Up(tmp_path, cluster("good"), command=command)
    try:
        up.until(lambda: up.reason("Cluster", "good") == "Ready", "the first cluster")
        up.runtime.store.apply(parse(cluster("broken")))
        up.until(lambda: up.condition("Cluster", "broken", "Stalled"), "words about the other")
        stalled = up.condition("Cluster", "broken", "Stalled")
        assert stalled.reason == "BrokerDown"
        assert stalled.message.startswith("broker 0 does not start: it has no disk (log: ")
        assert up.reason("Cluster", "good") == "Ready"
        with pytest.raises(CannotStart, match="it has no disk"):
            first = Up(tmp_path / "first", cluster("broken"), command=command)
            first.until(lambda: False, "the end of `up`, which has nothing else to run")
    finally:
        up.runtime.stop()
