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
QUIET_SECONDS = float(os.environ.get("QUIET_SECONDS", "120"))
"""`make e2e-all` watches for longer."""
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


def versions(team: World) -> dict[str, str]:
    """By kind and name the version of each of our objects, which any write changes."""
    listed = team.kube.get("clusters,topics,consumergroups", "-n", ENVIRONMENT)["items"]
    return {f"{body['kind']}/{body['metadata']['name']}": body["metadata"]["resourceVersion"] for body in listed}


def operations(argo: ArgoCd) -> dict[str, Any]:
    """By Application, what has been synced so far."""
    found = {name: argo.app(name) for name in APPS}
    return {name: [entry["id"] for entry in body["status"]["history"]] for name, body in found.items() if body}


def reconciles(argo: ArgoCd) -> float:
    """How often the application controller has compared an Application so far."""
    return sum(n for series, n in argo.metrics().items() if series.startswith("argocd_app_reconcile_count"))


def settled(team: World) -> dict[str, str]:
    """The versions, once they have stayed the same for ten seconds: after a change, figures may follow."""
    seen, since = versions(team), time.monotonic()

    def check() -> bool:
        nonlocal seen, since
        now = versions(team)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= 10

    wait_until(check, "the statuses to come to rest", 90, 1.0)
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
    written = team.metrics()[WRITES] - writes
    changed = {key for key, version in versions(team).items() if before.get(key) != version}
    compared = reconciles(argo) - compared
    figures.add(f"Argo CD at rest, {TOPICS} topics: status writes", written * 3600 / seconds, "per hour")
    more = sum(map(len, operations(argo).values())) - sum(map(len, synced.values()))
    figures.add(f"Argo CD at rest: syncs in {seconds:.0f} s", float(more))
    figures.add(f"Argo CD at rest: comparisons, polling every {POLL_SECONDS} s", compared * 3600 / seconds, "per hour")
    assert operations(argo) == synced, "something was synced although nothing was committed"
    assert (written, changed) == (0, set()), "something was written although nothing has changed"
    # Four Applications, each compared once per poll, and once more when its list of resources is stale.
    assert compared <= 2 * len(APPS) * (seconds / POLL_SECONDS + 1), "Argo CD compares more often than it polls"
