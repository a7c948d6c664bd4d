"""Nothing changes: Argo CD syncs nothing, and the operator writes nothing, with 200 topics in an Application."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.gitops.argocd import POLL_SECONDS, ArgoCd
from e2e.gitops.figures import Figures
from e2e.gitops.manifests import ENVIRONMENT, application, topics
from e2e.gitops.repository import Repository
from e2e.operator.world import World
from tests.support.waiting import wait_until

TOPICS = 200
QUIET_SECONDS = float(os.environ.get("QUIET_SECONDS", "90"))
"""Longer than a resync of the operator and several polls of Argo CD; `make e2e-all` watches for longer."""
RESYNC_SECONDS = 60.0
APPS = ("broadsheet", ENVIRONMENT, "archive", "kafka")
WRITES = "broadsheet_operator_status_writes_total"


@pytest.fixture(scope="module")
def archive(platform: Repository, argo: ArgoCd, team: World, figures: Figures) -> Iterator[None]:
    revision = platform.commit(f"{TOPICS} topics", {"archive/topics.yaml": topics(TOPICS)})
    began = time.monotonic()
    argo.apply(application("archive", platform.url, "archive", ENVIRONMENT))
    argo.wait_healthy("archive", revision, 180)
    figures.add(f"Argo CD: {TOPICS} topics to Healthy", time.monotonic() - began, "s")
    yield
    argo.delete("archive")


def state(team: World) -> dict[str, dict[str, Any]]:
    """By kind and name each of our objects."""
    listed = team.kube.get("clusters,topics,consumergroups", "-n", ENVIRONMENT)["items"]
    return {f"{body['kind']}/{body['metadata']['name']}": body for body in listed}


def versions(state: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What any write changes."""
    return {key: body["metadata"]["resourceVersion"] for key, body in state.items()}


def without_late_figures(body: dict[str, Any]) -> dict[str, Any]:
    """An object without what a Cluster's status reports of earlier changes up to five minutes later, in one write."""
    brokers = [{**broker, "bytes": None} for broker in body["status"].get("brokers", ())]
    return {**body["status"], "topics": None, "brokers": brokers} if body["kind"] == "Cluster" else body["status"]


def operations(argo: ArgoCd) -> dict[str, Any]:
    """By Application, what has been synced so far."""
    found = {name: argo.app(name) for name in APPS}
    return {name: [entry["id"] for entry in body["status"]["history"]] for name, body in found.items() if body}


def reconciles(argo: ArgoCd) -> float:
    """How often the application controller has compared an Application so far."""
    return sum(n for series, n in argo.metrics().items() if series.startswith("argocd_app_reconcile_count"))


def settled(team: World) -> dict[str, dict[str, Any]]:
    """All objects, once nothing has been written for longer than a resync, which counts topics made before."""
    seen, since = state(team), time.monotonic()

    def check() -> bool:
        nonlocal seen, since
        now = state(team)
        if versions(now) != versions(seen):
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= RESYNC_SECONDS + 10

    wait_until(check, "the statuses to come to rest", 300, 1.0)
    return seen


def test_at_rest_nothing_is_synced_and_nothing_is_written(
    archive: None, argo: ArgoCd, team: World, figures: Figures
) -> None:
    seconds = QUIET_SECONDS
    before = settled(team)
    synced, writes, compared = operations(argo), team.metrics()[WRITES], reconciles(argo)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in APPS:
            body = argo.app(name)
            assert body is not None
            shown = [body["status"][part]["status"] for part in ("sync", "health")]
            assert shown == ["Synced", "Healthy"], argo.explain(name, body)
        time.sleep(min(5.0, max(0.0, end - time.monotonic())))
    after = state(team)
    changed = {key for key, version in versions(after).items() if versions(before).get(key) != version}
    late = {key for key in changed if key.startswith("Cluster/")}
    written = team.metrics()[WRITES] - writes - len(late)
    compared = reconciles(argo) - compared
    figures.add(f"Argo CD at rest, {TOPICS} topics: status writes", written * 3600 / seconds, "per hour")
    figures.add("Argo CD at rest: late figures of the Cluster, written once", float(len(late)))
    more = sum(map(len, operations(argo).values())) - sum(map(len, synced.values()))
    figures.add(f"Argo CD at rest: syncs in {seconds:.0f} s", float(more))
    figures.add(f"Argo CD at rest: comparisons, polling every {POLL_SECONDS} s", compared * 3600 / seconds, "per hour")
    assert operations(argo) == synced, "something was synced although nothing was committed"
    assert (written, changed - late) == (0, set()), "something was written although nothing has changed"
    for key in late:
        assert without_late_figures(after[key]) == without_late_figures(before[key])
    # Four Applications, each compared once per poll, and once more when its list of resources is stale.
    assert compared <= 2 * len(APPS) * (seconds / POLL_SECONDS + 1), "Argo CD compares more often than it polls"
