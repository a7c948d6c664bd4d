"""Every state of our resources, as programs read it: what is recorded is still what the operator writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.apiserver.server import REPOSITORY, Api, ApiServer, Body
from e2e.apiserver.states import STORIES, record
from e2e.kstatus.program import kstatus
from tests.support.argo_lua import folder, load

KINDS = tuple(STORIES)
REWRITE = "`python -m e2e.apiserver.states` writes it again; look at the difference"


def recorded(kind: str) -> dict[str, Body]:
    return {path.stem: load(path) for path in sorted((folder(kind) / "testdata").glob("*.yaml"))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_recorded_states_are_what_the_operator_writes(server: ApiServer, kind: str) -> None:
    found = record(server, kind)
    known = recorded(kind)
    assert sorted(found) == sorted(known), REWRITE
    for name, body in found.items():
        assert yaml.safe_dump(body) == yaml.safe_dump(known[name]), f"{kind} {name} is stale; {REWRITE}"


@pytest.mark.parametrize("kind", KINDS)
def test_kstatus_reads_every_state_as_it_is(kind: str) -> None:
    """Flux, Helm and `kubectl` plugins decide by this very library."""
    objects = recorded(kind)
    wrong = [
        f"{kind} {name}: kstatus says {said.status} ({said.message})"
        for (name, body), said in zip(objects.items(), kstatus(list(objects.values())), strict=True)
        if said.status != expected(name, body)
    ]
    assert not wrong, "\n".join(wrong)


def expected(name: str, body: Body) -> str:
    """kstatus has no word for what is put off on purpose: what was Ready when it was paused is Current, and what has
    yet to be done is InProgress. That lag counts as health only Argo CD is asked for."""
    if "deletionTimestamp" in body["metadata"]:
        return "Terminating"
    ready = next((c["status"] for c in body["status"]["conditions"] if c["type"] == "Ready"), "")
    busy = any(c["type"] == "Reconciling" for c in body["status"]["conditions"])
    health = name.partition("_")[0]
    if health == "suspended" or name == "degraded_behind":
        return "Current" if ready == "True" and not busy else "InProgress"
    return {"healthy": "Current", "progressing": "InProgress", "degraded": "Failed"}[health]


def keys(body: Any, path: str = "") -> set[str]:
    """Every field of an object by its path, without what is inside of maps that people fill."""
    if isinstance(body, list):
        return set().union(*(keys(entry, f"{path}[]") for entry in body)) if body else set()
    if not isinstance(body, dict):
        return {path}
    return set().union(*(keys(entry, f"{path}.{key}") for key, entry in body.items())) if body else {path}


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_server_takes_every_recorded_object_as_it_is(server: ApiServer, kind: str) -> None:
    """A field that has gone from the definition would be dropped, and the scripts would be tested on what never is."""
    api = Api(server)
    for name, body in recorded(kind).items():
        metadata = {"name": f"{body['metadata']['name']}-{name.replace('_', '-')}"[:44], "namespace": "default"}
        made = api.call("POST", f"{api.path(kind)}?fieldValidation=Strict", {**body, "metadata": metadata})
        path = f"{api.path(kind, made['metadata']['name'], 'status')}?fieldValidation=Strict"
        after = api.call("PUT", path, {**made, "status": body["status"]})
        assert keys(after["status"]) == keys(body["status"]) and after["spec"] == body["spec"], name
        api.delete(kind, made["metadata"]["name"])


def test_a_manifest_with_a_status_in_it_is_not_taken_for_what_it_says(api: Api) -> None:
    """As when the output of `kubectl get -o yaml` is put into Git."""
    (healthy,) = [body for name, body in recorded("Topic").items() if name == "healthy"]
    made = api.create({**healthy, "metadata": {"name": "orders", "namespace": api.namespace}})
    assert [(c["type"], c["status"], c["reason"]) for c in made["status"]["conditions"]] == [
        ("Ready", "Unknown", "Pending")
    ]
    assert kstatus([made])[0].status == "InProgress"


def test_the_files_are_where_argo_cd_has_them() -> None:
    tree = REPOSITORY / "charts/broadsheet/files/argocd/resource_customizations"
    assert all(isinstance(path, Path) and path.is_relative_to(tree) for path in (folder(kind) for kind in KINDS))
