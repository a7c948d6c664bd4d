"""Who leads: real processes, a real Lease, and its real time."""

from __future__ import annotations

from pathlib import Path

from broadsheet_operator.settings import DEFAULTS
from e2e.apiserver.operators import OperatorProcess
from e2e.apiserver.server import Api
from tests.support.waiting import wait_until


def test_a_standby_takes_over_when_the_leader_is_killed(api: Api, tmp_path: Path) -> None:
    """With the product's own times: the Lease of a leader that says nothing any more runs out."""
    options = [f"--lease-namespace={api.namespace}", f"--namespace={api.namespace}"]
    operators = [OperatorProcess(api.server, tmp_path, name, *options) for name in ("one", "two")]
    for operator in operators:
        operator.start()
    try:
        wait_until(lambda: any(o.leads for o in operators), "one of them to lead")
        wait_until(lambda: all(o.probe("/readyz")[0] == 200 for o in operators), "the other one to stand by")
        leader, standby = sorted(operators, key=lambda o: not o.leads)
        assert not standby.leads
        leader.kill()
        wait_until(lambda: standby.leads, "the standby to lead", DEFAULTS.lease_seconds * 2 + 10)
        assert api.one("Lease", "broadsheet")["spec"]["leaseTransitions"] == 1
        api.resource("Cluster", "news", {"brokers": {}})
        wait_until(lambda: api.get("StatefulSet", "news-brokers"), "the new leader to act")
    finally:
        for operator in operators:
            operator.stop()


def test_a_leader_that_ends_gives_the_lease_back(api: Api, tmp_path: Path) -> None:
    options = [f"--lease-namespace={api.namespace}", f"--namespace={api.namespace}"]
    operator = OperatorProcess(api.server, tmp_path, "one", *options).start()
    wait_until(lambda: operator.leads, "it to lead")
    operator.stop()
    assert api.one("Lease", "broadsheet")["spec"].get("holderIdentity", "") == ""
