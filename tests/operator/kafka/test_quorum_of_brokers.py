"""The metadata quorum of real broker processes, as the operator forms it, sees it and changes it."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure, QuorumView, TopicPartition
from broadsheet_operator.reconcilers.quorum import AddVoter, RemoveVoter, initial_directory, next_change
from broadsheet_operator.reconcilers.topic_actions import CreateTopic
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAQ"
SECONDS = 40.0


class Brokers:
    """Processes configured as the operator configures pods."""

    def __init__(self, directory: Path, first: int) -> None:
        self.directory = directory
        self.ports = {id: (free_port(), free_port()) for id in range(4)}
        self.first_voters = list(range(first))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.formed = False
        self._gateway: KafkaPythonGateway | None = None

    @property
    def gateway(self) -> KafkaPythonGateway:
        """Made when a broker listens: the client library makes much ado about ports that refuse."""
        if self._gateway is None:
            wait_until(self.listening, "a broker that listens")
            self._gateway = KafkaPythonGateway([f"127.0.0.1:{self.ports[id][0]}" for id in self.listening()])
        return self._gateway

    def listening(self) -> list[int]:
        def listens(id: int) -> bool:
            with socket.socket() as door:
                return door.connect_ex(("127.0.0.1", self.ports[id][0])) == 0

        return [id for id in self.processes if listens(id)]

    def forget_gateway(self) -> None:
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None

    def address(self, id: int) -> tuple[str, int]:
        return "127.0.0.1", self.ports[id][1]

    def start(self, id: int) -> None:
        client, controller = self.ports[id]
        properties = {
            "cluster.id": CLUSTER_ID,
            "node.id": id,
            "process.roles": "broker,controller",
            "listeners": f"PLAIN://127.0.0.1:{client},CONTROLLER://0.0.0.0:{controller}",
            "advertised.listeners": f"PLAIN://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
            "listener.security.protocol.map": "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAIN",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": ",".join(f"127.0.0.1:{self.ports[n][1]}" for n in self.first_voters),
            "log.dirs": self.directory / f"broker-{id}",
        }
        if not self.formed:
            first = [f"{n}@127.0.0.1:{self.ports[n][1]}:{initial_directory(CLUSTER_ID, n)}" for n in self.first_voters]
            properties["broadsheet.initial.controllers"] = ",".join(first)
        file = self.directory / f"{id}.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        with open(self.directory / f"{id}.log", "ab") as log:
            command = [sys.executable, "-m", "broadsheet_broker", "broker", "--config", str(file)]
            self.processes[id] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, id: int) -> None:
        self.processes[id].kill()
        self.processes.pop(id).wait()

    def stop(self, id: int) -> None:
        self.processes[id].terminate()
        self.processes.pop(id).wait(30)

    def quorum(self) -> QuorumView | None:
        seen = self.gateway.observe_quorum()
        return seen if isinstance(seen, QuorumView) else None

    def directory_of(self, id: int) -> str:
        seen = self.quorum()
        return next((v.directory for v in seen.voters if v.id == id), "") if seen else ""

    def voters(self) -> list[int]:
        seen = self.quorum()
        return [] if seen is None else sorted(v.id for v in seen.voters)

    def registered(self) -> list[int]:
        seen = self.gateway.observe_cluster()
        return [b.id for b in seen.brokers] if isinstance(seen, ClusterView) else []

    def reconcile(self, wanted: list[int]) -> bool:
        """What the operator does each round; True when nothing is left to do."""
        seen = self.quorum()
        if seen is None:
            return False
        step = next_change(seen, wanted, {id: self.address(id) for id in wanted})
        if step.change is not None:
            self.gateway.change_voters(step.change)
        return not step.words

    def close(self) -> None:
        self.forget_gateway()
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[int], Brokers]]:
    made: list[Brokers] = []

    def make(first: int) -> Brokers:
        made.append(Brokers(tmp_path, first))
        return made[-1]

    yield make
    for brokers in made:
        brokers.close()


def test_three_first_voters_form_one_quorum_and_a_lost_volume_comes_back_as_a_new_voter(
    make: Callable[[int], Brokers],
) -> None:
    brokers = make(3)
    for id in range(3):
        brokers.start(id)
    wait_until(lambda: brokers.registered() == [0, 1, 2] and brokers.voters() == [0, 1, 2], "the quorum")
    brokers.formed = True
    assert brokers.reconcile([0, 1, 2]) or wait_until(lambda: brokers.reconcile([0, 1, 2]), "nothing to be done")
    assert brokers.gateway.apply_topics([CreateTopic("orders", 3, 3, {"min.insync.replicas": "2"})]) == [None]

    seen = brokers.quorum()
    assert seen is not None
    lost = next(v.id for v in seen.voters if v.id != seen.leader)
    before = brokers.directory_of(lost)
    brokers.kill(lost)
    shutil.rmtree(brokers.directory / f"broker-{lost}")
    brokers.start(lost)

    def voted_again() -> bool:
        return brokers.reconcile([0, 1, 2]) and brokers.directory_of(lost) not in ("", before)

    wait_until(voted_again, "it to vote again, and not to pretend to be the voter that it was")
    assert brokers.voters() == [0, 1, 2]

    def all_in_sync() -> bool:
        health = brokers.gateway.observe_health()
        return isinstance(health, ClusterHealth) and not health.lacking

    wait_until(all_in_sync, "every replica to be in sync again")


def test_an_empty_volume_never_begins_a_second_quorum(make: Callable[[int], Brokers]) -> None:
    brokers = make(3)
    for id in range(3):
        brokers.start(id)
    wait_until(lambda: brokers.voters() == [0, 1, 2] and len(brokers.registered()) == 3, "the quorum")
    brokers.formed = True
    assert brokers.gateway.apply_topics([CreateTopic("orders", 3, 3, {})]) == [None]
    for id in range(3):
        brokers.kill(id)
    shutil.rmtree(brokers.directory / "broker-0")
    brokers.start(0)
    wait_until(lambda: "formatting" in (brokers.directory / "0.log").read_text().lower(), "the empty volume to be used")
    brokers.forget_gateway()
    assert brokers.listening() == [], "alone it serves nobody"
    before = str(uuid.UUID(bytes=base64.urlsafe_b64decode(initial_directory(CLUSTER_ID, 0) + "==")))
    brokers.start(1)
    brokers.start(2)

    def taken_back() -> bool:
        return brokers.reconcile([0, 1, 2]) and brokers.directory_of(0) not in ("", before)

    wait_until(taken_back, "the two others to take it back as a new voter")
    assert brokers.voters() == [0, 1, 2]
    assert brokers.gateway.list_topics() == ["orders"], "this is the cluster that it was"


def test_one_broker_grows_to_three_and_shrinks_again(make: Callable[[int], Brokers]) -> None:
    brokers = make(1)
    brokers.start(0)
    wait_until(lambda: brokers.registered() == [0], "the first broker")
    assert brokers.gateway.apply_topics([CreateTopic("orders", 2, 1, {})]) == [None]
    brokers.formed = True
    brokers.start(1)
    brokers.start(2)
    wait_until(lambda: brokers.reconcile([0, 1, 2]) and brokers.registered() == [0, 1, 2], "three brokers that vote")
    assert brokers.voters() == [0, 1, 2]
    move = {TopicPartition("orders", 0): (1, 2), TopicPartition("orders", 1): (2, 1)}
    assert brokers.gateway.move_replicas(move) is None

    def moved() -> bool:
        placed = brokers.gateway.observe_placement()
        assert not isinstance(placed, Failure)
        return [p.replicas for p in placed] == [(1, 2), (2, 1)] and not any(p.moving for p in placed)

    wait_until(moved, "the replicas to be elsewhere")
    wait_until(lambda: brokers.reconcile([0]), "one voter")
    assert brokers.voters() == [0]
    assert brokers.gateway.move_replicas(dict.fromkeys(move, (0,))) is None
    wait_until(lambda: brokers.gateway.observe_placement()[1].replicas == (0,), "the replicas to be back")  # type: ignore[index]
    for id in (1, 2):
        brokers.stop(id)
        assert brokers.gateway.unregister_broker(id) is None
        assert brokers.gateway.unregister_broker(id) is None, "twice is no error"
    wait_until(lambda: brokers.registered() == [0], "one broker")


def test_refusals_of_the_quorum_are_failures_in_words(make: Callable[[int], Brokers]) -> None:
    brokers = make(1)
    brokers.start(0)
    seen = wait_until(brokers.quorum, "the quorum")
    only = seen.voters[0]
    refused = brokers.gateway.change_voters(RemoveVoter(0, only.directory))
    assert refused is not None
    assert "remove broker 0 from the metadata quorum" in refused.message
    unknown = brokers.gateway.change_voters(AddVoter(0, only.directory, "127.0.0.1", 1))
    assert unknown is not None
    assert "already part" in unknown.message
