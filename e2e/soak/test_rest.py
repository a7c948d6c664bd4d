"""Nothing changes for half an hour: two operators at rest restart nothing, hand nothing over and write nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.apiserver.operators import Kubelet, OperatorProcess
from e2e.apiserver.server import Api, ApiServer, namespace
from tests.support.broadsheet import Broadsheet
from tests.support.waiting import wait_until

PROBE_SECONDS = 10.0
FAILURES = 3
"""Period and failureThreshold of the liveness probe in the chart."""


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


class Probe:
    """The kubelet's liveness probe of one operator: three failures in a row restart it."""

    def __init__(self, operator: OperatorProcess) -> None:
        self._operator = operator
        self._failures = 0

    def ask(self) -> str:
        """Why the operator would be restarted now; empty while it is well."""
        if not self._operator.running:
            return f"the process has ended:\n{self._operator.last_words()}"
        status, words = self._operator.probe("/healthz")
        self._failures = 0 if status == 200 else self._failures + 1
        return f"{status}: {words}" if self._failures >= FAILURES else ""


def declare(api: Api, broker: Broadsheet) -> None:
    """One object at least of every kind that is watched."""
    api.resource("Cluster", "press", {"external": {"bootstrapServers": [broker.bootstrap]}})
    api.resource("Topic", "orders", {"cluster": "press", "partitions": 3, "replicationFactor": 1})
    api.resource("ConsumerGroup", "readers", {"cluster": "press"})
    api.resource("Cluster", "news", {"brokers": {"storage": {"size": "1Gi"}}})
    kubelet = Kubelet(api)
    kubelet.run("news")
    kubelet.becomes("news-brokers-0", ready=False)
    for kind, name in (("Cluster", "press"), ("Topic", "orders")):
        api.ready(kind, name, 60)
    wait_until(lambda: api.conditions("ConsumerGroup", "readers"), "the group to be looked at", 60)
    wait_until(lambda: api.conditions("Cluster", "news"), "the brokers to be looked at", 60)


def test_two_operators_at_rest(server: ApiServer, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seconds = float(request.config.getoption("--soak-seconds"))
    with Broadsheet() as broker, namespace(server, "paper") as api:
        operators = [OperatorProcess(server, tmp_path, name, "--lease-namespace=paper") for name in ("one", "two")]
        for operator in operators:
            operator.start()
        try:
            wait_until(lambda: any(o.leads for o in operators), "one of the operators to lead", 60)
            declare(api, broker)
            settle(server)
            leader = next(o for o in operators if o.leads)
            transitions = api.one("Lease", "broadsheet")["spec"]["leaseTransitions"]
            before = len(changes(server))
            probes = [Probe(operator) for operator in operators]
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                for probe in probes:
                    assert probe.ask() == "", f"{seconds - left:.0f} s after the start"
                time.sleep(min(PROBE_SECONDS, max(0.0, left)))
            assert leader.leads, "another operator leads"
            assert api.one("Lease", "broadsheet")["spec"]["leaseTransitions"] == transitions
            assert changes(server)[before:] == [], "something was written although nothing has changed"
        finally:
            for operator in operators:
                operator.stop()


def settle(server: ApiServer, quiet_seconds: float = 15.0) -> None:
    """Wait until the operator has written nothing for a while."""
    seen, since = len(changes(server)), time.monotonic()

    def quiet() -> bool:
        nonlocal seen, since
        count = len(changes(server))
        if count != seen:
            seen, since = count, time.monotonic()
        return time.monotonic() - since >= quiet_seconds

    wait_until(quiet, "the operator to come to rest", 120, 0.5)


def changes(server: ApiServer) -> list[str]:
    """What operators have written, without the renewals of their Lease."""
    found = []
    for entry in server.writes():
        thing = entry.get("objectRef", {})
        if entry["user"]["username"] == "admin" and thing.get("resource") != "leases":
            found.append(f"{entry['verb']} {thing.get('resource')}/{thing.get('name')} {thing.get('subresource', '')}")
    return found
