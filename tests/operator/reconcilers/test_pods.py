"""What a broker's pod tells of it: a table of plain values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers.pods import pod_number, state_of

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CLUSTER = Cluster.model_validate(
    {
        "apiVersion": "broadsheet.io/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "news", "namespace": "paper"},
        "spec": {"brokers": {}},
    }
)


def pod(deleted_at: str = "", waiting: str = "", ended: str = "", **conditions: str) -> dict[str, Any]:
    metadata = {"name": "news-brokers-1"} | ({"deletionTimestamp": deleted_at} if deleted_at else {})
    state = {"waiting": {"reason": waiting, "message": "no such image"}} if waiting else {"running": {}}
    last = {"terminated": {"exitCode": 1, "message": f"a traceback\n{ended}\n"}} if ended else {}
    status = {
        "conditions": [
            {"type": kind, "status": value, "message": "no node fits"} for kind, value in conditions.items()
        ],
        "containerStatuses": [{"state": state, "lastState": last}],
    }
    return {"metadata": metadata, "spec": {"nodeName": "node-2"}, "status": status}


@pytest.mark.parametrize(
    ("given", "state", "words"),
    [
        (None, "Starting", ""),
        (pod(Ready="True"), "Running", ""),
        (pod(Ready="False", ContainersReady="False"), "Starting", ""),
        (pod(Ready="False", PodScheduled="False"), "Starting", "broker 1: no node fits"),
        (pod(waiting="ErrImagePull"), "Failed", "broker 1: ErrImagePull: no such image"),
        (pod(waiting="CrashLoopBackOff"), "Failed", "broker 1: CrashLoopBackOff: no such image"),
        (
            pod(waiting="CrashLoopBackOff", ended="a bad value"),
            "Failed",
            "broker 1: CrashLoopBackOff: a bad value",
        ),
        (pod(ended="a bad value"), "Restarting", "broker 1: starts again after it ended with exit code 1: a bad value"),
        (pod(ended="a bad value", Ready="True"), "Running", ""),
        (pod("2026-01-01T12:01:00Z", Ready="True"), "Stopping", ""),
        (pod("2026-01-01T11:50:00Z", Ready="False"), "Lost", "broker 1: its pod cannot end, because node-2"),
        (pod(Ready="False", ContainersReady="True"), "Lost", "broker 1: node-2 does not answer"),
        (
            pod("2026-01-01T12:01:00Z", Ready="False", ContainersReady="True"),
            "Lost",
            "broker 1: node-2 does not answer",
        ),
    ],
)
def test_a_broker_is_what_its_pod_says(given: dict[str, Any] | None, state: str, words: str) -> None:
    found = state_of(1, given, CLUSTER, NOW)
    assert found.state == state
    assert found.message.startswith(words)
    assert bool(found.message) == bool(words)
    assert found.endpoint == "news-brokers-1.news-brokers.paper.svc:9092"


@pytest.mark.parametrize(
    ("name", "number"), [("news-brokers-12", 12), ("news-brokers-x", None), ("other-brokers-1", None), ("client", None)]
)
def test_pods_are_numbered(name: str, number: int | None) -> None:
    assert pod_number("news", name) == number


@pytest.mark.parametrize(("since", "unplaced"), [("2026-01-01T11:58:00Z", True), ("2026-01-01T11:59:50Z", False)])
def test_a_pod_that_finds_no_node_for_long_is_unplaced(since: str, *, unplaced: bool) -> None:
    waits = pod(Ready="False", PodScheduled="False")
    for condition in waits["status"]["conditions"]:
        condition["lastTransitionTime"] = since
    found = state_of(1, waits, CLUSTER, NOW)
    assert (found.state, found.unplaced) == ("Starting", unplaced)


def test_an_init_container_that_fails_is_said_and_one_that_is_done_is_not() -> None:
    given = pod(waiting="PodInitializing", Ready="False")
    failing = {
        "name": "metrics-agent",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 1, "message": "cp: no space left"}},
    }
    given["status"]["initContainerStatuses"] = [failing]
    found = state_of(1, given, CLUSTER, NOW)
    words = "broker 1: init container metrics-agent: CrashLoopBackOff: cp: no space left"
    assert (found.state, found.message) == ("Failed", words)
    failing["state"] = {"terminated": {"exitCode": 0}}
    assert state_of(1, given, CLUSTER, NOW).state == "Starting"
