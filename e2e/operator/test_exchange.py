"""The engine of a Cluster that serves is exchanged by stopping, there and back: no acknowledged record is lost."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.operator import ledger
from e2e.operator.engines import Engine
from e2e.operator.world import HOME, World, condition, is_at_rest, is_ready, resource, unique
from tests.support.waiting import wait_until

NAME = "press"
MINUTE = 60.0
OURS: dict[str, Any] = {"type": "broadsheet", "exchange": "Stop"}


class Ledger:
    """A writer and a reader in the client's pod, and what they say at the end."""

    def __init__(self, world: World, bootstrap: str, topic: str) -> None:
        self._world = world
        self._bootstrap = bootstrap
        self._topic = topic
        self._running = {
            name: self._start(name, *arguments)
            for name, *arguments in (("write", "ledger-w"), ("read", "readers", "ledger-r"))
        }

    def _command(self, command: str, *arguments: str) -> list[str]:
        pod = ["exec", "-n", HOME, "client", "--", "python", "-c", self._program(), self._bootstrap]
        return [*pod, command, self._topic, *arguments]

    @staticmethod
    def _program() -> str:
        with open(ledger.__file__, encoding="utf-8") as file:
            return file.read()

    def _start(self, command: str, *arguments: str) -> Any:
        pipe = {"stdout": -1, "stderr": -1}
        return self._world.kube.popen(["kubectl", *self._command(command, *arguments)], **pipe)

    def end(self, name: str) -> dict[str, Any]:
        """Have a client end, and what it says."""
        file = {"write": "ledger-w", "read": "ledger-r"}[name]
        self._world.kube.kubectl("exec", "-n", HOME, "client", "--", "touch", f"/tmp/{file}.stop")
        said, words = self._running.pop(name).communicate(timeout=400)
        assert said, f"{words[:2000]} ... {words[-4000:]}"
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def acknowledged(self) -> int:
        """How many records the writer's brokers have taken so far."""
        done = self._world.kube.kubectl("exec", "-n", HOME, "client", "--", "cat", "/tmp/ledger-w.acknowledged")
        return int(done.stdout or 0)

    def wait_for_more(self, records: int, what: str) -> None:
        """Wait until so many more are acknowledged."""
        enough = self.acknowledged() + records
        wait_until(lambda: self.acknowledged() >= enough, what, MINUTE, 0.5)

    def everything(self) -> list[str]:
        """Each record of the topic."""
        done = self._world.kube.kubectl(*self._command("everything"), timeout=180)
        found = json.loads(done.stdout.splitlines()[-1])
        assert not found["unread"], found["unread"]
        values: list[str] = found["values"]
        return values

    def kill(self) -> None:
        for process in self._running.values():
            process.kill()
        self._world.kube.kubectl(
            "exec", "-n", HOME, "client", "--", "rm", "-f", "/tmp/ledger-w.stop", "/tmp/ledger-r.stop"
        )


def records_pass(cluster: dict[str, Any]) -> bool:
    """The canary's do. They may be called slow for five minutes: their p99 has the first seconds of each broker."""
    return condition(cluster, "CanaryHealthy")["reason"] in ("RecordsPass", "RecordsSlow")


@pytest.fixture
def namespace(world: World) -> Iterator[str]:
    name = unique("exchange")
    world.kube.kubectl("create", "namespace", name)
    yield name
    world.kube.kubectl("delete", "namespace", name, "--wait=false")


def test_an_engine_is_exchanged_there_and_back_and_no_record_is_lost_or_doubled(
    world: World, apache_kafka: Engine, namespace: str
) -> None:
    kube = world.kube
    storage = {"size": "1Gi", "deletionPolicy": "Delete"}
    brokers = {"replicas": 3, "storage": storage, "resources": apache_kafka.resources}
    config = {"group.initial.rebalance.delay.ms": "0"}

    def cluster(engine: dict[str, Any], **more: Any) -> dict[str, Any]:
        return resource("Cluster", NAME, {"brokers": brokers, "config": config, "engine": engine, **more}, namespace)

    def claims() -> dict[str, str]:
        found = kube.get("pvc", "-n", namespace)["items"]
        return {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in found}

    def images() -> set[str]:
        selector = f"app.kubernetes.io/name=broadsheet,broadsheet.io/cluster={NAME}"
        pods = kube.get("pods", "-n", namespace, "-l", selector)["items"]
        return {container["image"] for pod in pods for container in pod["spec"]["containers"]}

    topic = {"cluster": NAME, "partitions": 6, "replicationFactor": 3, "config": {"min.insync.replicas": 2}}
    world.apply(
        cluster(OURS, canary={}),
        resource("Topic", "orders", topic, namespace),
        resource("ConsumerGroup", "readers", {"cluster": NAME}, namespace),
    )
    world.wait("cluster", NAME, lambda c: is_at_rest(c) and c["status"].get("voters") == [0, 1, 2], namespace, 120)
    world.wait("topic", "orders", is_ready, namespace)
    before = claims()
    clients = Ledger(world, f"{NAME}-bootstrap.{namespace}.svc:9092", "orders")
    try:
        world.wait("consumergroup", "readers", lambda g: g["status"].get("members"), namespace, MINUTE, "a reader")
        apache = {**(apache_kafka.spec or {}), "exchange": "Stop"}
        for number, (engine, label) in enumerate(((apache, f"apache-kafka {apache['version']}"), (OURS, "broadsheet"))):
            began = time.monotonic()
            mixed: list[set[str]] = []

            def exchanged(body: dict[str, Any], label: str = label, mixed: list[set[str]] = mixed) -> bool:
                mixed.append(images())
                return body["status"].get("engine") == label and is_at_rest(body) and not body["status"].get("exchange")

            world.apply(cluster(engine, canary={}))
            stopped = world.wait(
                "cluster", NAME, lambda c: condition(c)["reason"] == "ExchangingEngine", namespace, MINUTE, "the stop"
            )
            assert condition(stopped, "Reconciling")["status"] == "True"
            if number == 0:
                world.kill_operator()
            world.wait("cluster", NAME, exchanged, namespace, 5 * MINUTE, f"the exchange to {label}")
            killed = " (its operator was killed)" if number == 0 else ""
            print(f"exchange to {label}: {time.monotonic() - began:.0f} s from the change to the rest{killed}")
            assert all(len(found) <= 1 for found in mixed), "brokers of both engines at once"
            for kind, name in (("topic", "orders"), ("consumergroup", "readers")):
                world.wait(kind, name, is_ready, namespace, MINUTE)
            assert claims() == before
            world.wait("cluster", NAME, records_pass, namespace, MINUTE)
            assert not [event for event in world.events(NAME, namespace) if event["reason"] == "RecordsLost"]
            clients.wait_for_more(100, "some records by this engine")
        written = clients.end("write")
        read = clients.end("read")
        found = clients.everything()
    finally:
        clients.kill()
    gaps = [round(gap, 1) for gap, _ in written["gaps"]]
    print(f"{written['sent']} records sent, {len(written['acknowledged'])} acknowledged; longest without one: {gaps} s")
    assert not written["failed"], written["failed"]
    assert len(written["acknowledged"]) == written["sent"]
    doubled = [value for value, count in Counter(found).items() if count > 1]
    assert not doubled, f"{len(doubled)} records are there twice: {doubled[:5]}"
    assert set(found) == set(written["acknowledged"]), "what was acknowledged, and nothing else"
    assert set(read["read"]) == set(found)
    again = len(read["read"]) - len(set(read["read"]))
    assert again <= 400, f"{again} records were read again: the group's offsets went back"
    group = world.wait("consumergroup", "readers", lambda g: g["status"].get("lag") == 0, namespace, MINUTE, "no lag")
    assert condition(group)["status"] == "True"
