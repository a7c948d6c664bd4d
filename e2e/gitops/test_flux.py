"""The same with Flux, which reads conditions as kstatus does: an API server without nodes, and a real broker."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from e2e.apiserver.operators import OperatorProcess
from e2e.apiserver.server import ApiServer
from e2e.gitops.daemons import Daemons
from e2e.gitops.figures import Figures
from e2e.gitops.flux import ApiServerKubernetes, Flux, ready
from e2e.gitops.manifests import CLUSTER, text
from e2e.gitops.repository import Repository
from e2e.operator.world import World, condition, resource
from tests.support.broadsheet import Broadsheet
from tests.support.waiting import wait_until

TEAM = "press"
FOLDER = f"teams/{TEAM}"
ORDERS, PAYMENTS = f"{FOLDER}/orders.yaml", f"{FOLDER}/payments.yaml"
QUIET_SECONDS = float(os.environ.get("QUIET_SECONDS", "50"))


@pytest.fixture(scope="module")
def broker() -> Iterator[Broadsheet]:
    with Broadsheet() as broker:
        yield broker


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="module")
def team(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An operator as a process, and the team's namespace."""
    kube = ApiServerKubernetes(server)
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}})
    options = [f"--lease-namespace={TEAM}", "--resync-seconds=20"]
    operator = OperatorProcess(server, tmp_path_factory.mktemp("operator"), "operator", *options).start()
    yield World(kube)
    operator.stop()


@pytest.fixture(scope="module")
def flux_daemons(folder: pathlib.Path) -> Iterator[Daemons]:
    with Daemons(folder) as daemons:
        yield daemons


@pytest.fixture(scope="module")
def flux(team: World, flux_daemons: Daemons) -> Flux:
    assert isinstance(team.kube, ApiServerKubernetes)
    flux_daemons.environment = {"KUBECONFIG": team.kube.server.kubeconfig}
    return Flux(team.kube, flux_daemons).start()


@pytest.fixture(scope="module")
def press(flux: Flux, flux_daemons: Daemons, folder: pathlib.Path, broker: Broadsheet, figures: Figures) -> Repository:
    """A team's folder, applied and Ready."""
    repository = Repository(folder, flux_daemons, "platform-of-flux")
    cluster = resource("Cluster", CLUSTER, {"external": {"bootstrapServers": [broker.bootstrap]}}, TEAM)
    group = resource("ConsumerGroup", "billing", {"cluster": CLUSTER}, TEAM)
    files = {f"{FOLDER}/cluster.yaml": text(cluster), PAYMENTS: text(topic("payments")), **orders()}
    revision = repository.commit("The team press", {**files, f"{FOLDER}/billing.yaml": text(group)})
    began = time.monotonic()
    flux.source(repository.url)
    flux.kustomization(TEAM, FOLDER)
    flux.wait_ready(TEAM, revision)
    figures.add("Flux: from nothing to Ready (external Cluster, topics, group)", time.monotonic() - began, "s")
    return repository


def topic(name: str, **spec: Any) -> dict[str, Any]:
    return resource("Topic", name, {"cluster": CLUSTER, "partitions": 3, "replicationFactor": 1, **spec}, TEAM)


def orders(**spec: Any) -> dict[str, str]:
    return {ORDERS: text(topic("orders", **spec))}


def partitions(broker: Broadsheet, name: str = "orders") -> int:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    return len(admin.list_topics(name, timeout=10).topics[name].partitions)


def test_a_commit_adds_partitions(press: Repository, flux: Flux, broker: Broadsheet, figures: Figures) -> None:
    for count, way in enumerate(("a request", "polling"), 4):
        revision = press.commit(f"orders has {count} partitions", orders(partitions=count))
        began = time.monotonic()
        if way == "a request":
            flux.pushed()
        flux.wait_ready(TEAM, revision)
        assert partitions(broker) == count
        figures.add(f"Flux: commit to Ready, partitions added, by {way}", time.monotonic() - began, "s")


def test_what_cannot_be_fails_early_and_names_it(press: Repository, flux: Flux, team: World, figures: Figures) -> None:
    press.commit("orders has three replicas", orders(partitions=5, replicationFactor=3))
    began = time.monotonic()
    flux.pushed()
    body = flux.wait(TEAM, lambda b: ready(b)["reason"] == "HealthCheckFailed", "to fail early", 100)
    took = time.monotonic() - began
    assert f"Topic/{TEAM}/orders" in ready(body)["message"]
    assert "stalled" in ready(body)["message"], "before its timeout"
    assert "broker" in condition(team.get("topic", "orders", TEAM) or {}, "Stalled")["message"]
    figures.add("Flux: commit of an impossible change to failed", took, "s")
    back = press.revert()
    began = time.monotonic()
    flux.pushed()
    flux.wait_ready(TEAM, back)
    figures.add("Flux: revert of it to Ready", time.monotonic() - began, "s")


def test_fewer_partitions_are_refused_with_the_reason(press: Repository, flux: Flux, broker: Broadsheet) -> None:
    press.commit("orders has fewer partitions", orders(partitions=2))
    flux.pushed()
    flux.wait(TEAM, lambda b: "partitions can grow but never shrink" in ready(b)["message"], "the refusal")
    back = press.revert()
    flux.pushed()
    flux.wait_ready(TEAM, back)
    assert partitions(broker) == 5


def test_a_hand_edit_is_put_back(press: Repository, flux: Flux, team: World, figures: Figures) -> None:
    before = team.get("topic", "orders", TEAM)
    assert before is not None
    # As `kubectl edit`: a field that Git has is changed by another manager.
    team.kube.kubectl("patch", "topic", "orders", "-n", TEAM, "--type=merge", "-p", '{"spec":{"replicationFactor":2}}')
    began = time.monotonic()
    team.wait("topic", "orders", lambda body: body["spec"] == before["spec"], TEAM, 90, "as in Git again")
    figures.add("Flux: hand edit of a Topic put back", time.monotonic() - began, "s")
    flux.wait(TEAM, lambda b: ready(b)["status"] == "True", "Ready")


def test_pruning_a_topic_keeps_its_records_and_says_so(
    press: Repository, flux: Flux, team: World, broker: Broadsheet
) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(30):
        producer.produce("payments", f"payment {number}".encode())
    assert producer.flush(30) == 0
    revision = press.commit("Nobody pays any more", {PAYMENTS: None})
    flux.pushed()
    flux.wait_ready(TEAM, revision)
    assert team.get("topic", "payments", TEAM) is None
    event = team.wait_event("payments", "Retained", TEAM)
    assert "records stay in Kafka (deletionPolicy Retain)" in event["note"]
    assert partitions(broker, "payments") == 3
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "audit", "auto.offset.reset": "earliest"})
    consumer.subscribe(["payments"])
    read: list[bytes | None] = []

    def all_read() -> bool:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            read.append(message.value())
        return len(read) == 30

    wait_until(all_read, "thirty payments", 60)
    consumer.close()


def test_at_rest_nothing_is_written(press: Repository, flux: Flux, server: ApiServer, figures: Figures) -> None:
    def writes() -> list[str]:
        """To our resources; a dry run, by which Flux compares, is none."""
        return [
            f"{entry['userAgent'].partition('/')[0]} {entry['verb']} {entry['requestURI']}"
            for entry in server.writes()
            if entry.get("objectRef", {}).get("apiGroup") == "broadsheet.io" and "dryRun" not in entry["requestURI"]
        ]

    seen, since = len(writes()), time.monotonic()

    def quiet() -> bool:
        nonlocal seen, since
        count = len(writes())
        if count != seen:
            seen, since = count, time.monotonic()
        return time.monotonic() - since >= 10

    wait_until(quiet, "the statuses to come to rest", 90, 0.5)
    time.sleep(QUIET_SECONDS)  # how long it is watched, not a wait for something
    more = writes()[seen:]
    figures.add("Flux at rest: writes to our resources", len(more) * 3600 / QUIET_SECONDS, "per hour")
    assert more == [], "something was written although nothing has changed"
    flux.wait(TEAM, lambda b: ready(b)["status"] == "True", "Ready")
