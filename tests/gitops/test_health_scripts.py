"""Argo CD's health scripts: on recorded objects, and on statuses that no operator of today writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lupa import lua51

from tests.support.argo_lua import KINDS, folder, load, run, script

HEALTHS = {"Healthy", "Progressing", "Degraded", "Suspended"}


def cases() -> list[Any]:
    found = []
    for kind in KINDS:
        for test in load(folder(kind) / "health_test.yaml")["tests"]:
            found.append(pytest.param(kind, test, id=f"{kind}-{Path(test['inputPath']).stem}"))
    return found


@pytest.mark.parametrize(("kind", "test"), cases())
def test_a_recorded_object_has_the_health_that_is_declared(kind: str, test: dict[str, Any]) -> None:
    obj = load(folder(kind) / test["inputPath"])
    assert obj["kind"] == kind
    assert run(script(kind), obj) == test["healthStatus"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_recorded_object_is_tested(kind: str) -> None:
    listed = [test["inputPath"] for test in load(folder(kind) / "health_test.yaml")["tests"]]
    assert sorted(listed) == sorted(f"testdata/{path.name}" for path in (folder(kind) / "testdata").glob("*.yaml"))
    assert len(listed) == len(set(listed)) >= 10


def test_the_three_kinds_have_one_script() -> None:
    assert len({script(kind) for kind in KINDS}) == 1


def status(*conditions: Any, generation: Any = 1, **more: Any) -> dict[str, Any]:
    return {"observedGeneration": generation, "conditions": list(conditions), **more}


def said(kind: str, truth: Any, reason: Any = "Ready", message: Any = "") -> dict[str, Any]:
    return {"type": kind, "status": truth, "reason": reason, "message": message}


READY = said("Ready", "True", "Ready", "as declared")


def health(**obj: Any) -> dict[str, Any]:
    result = run(script("Topic"), {"kind": "Topic", "metadata": {"name": "orders", "generation": 1}, **obj})
    assert set(result) == {"status", "message"} and result["status"] in HEALTHS and result["message"], result
    assert isinstance(result["message"], str)
    return dict(result)


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"metadata": None},
        {"status": None},
        {"status": {}},
        {"status": "Ready"},
        {"status": []},
        {"status": {"observedGeneration": 1}},
        {"status": status()},
        {"status": {"observedGeneration": 1, "conditions": None}},
        {"status": {"observedGeneration": 1, "conditions": "none"}},
        {"status": {"observedGeneration": 1, "conditions": {"Ready": "True"}}},
        {"status": status("Ready", 7, None, [], {})},
        {"status": status({"type": "Ready"})},
        {"status": status({"type": 3, "status": "True"})},
        {"status": status({"type": "Ready", "status": True})},
        {"status": status(said("Ready", "Perhaps", None, None))},
        {"status": status(said("Ready", "False", 3, {"words": 1}))},
        {"status": status(said("Splendid", "True"))},
        {"status": status(READY, generation="1")},
        {"status": status(READY, generation=7)},
        {"metadata": {"generation": 3}, "status": status(READY, generation=2)},
        {"metadata": {"generation": 1, "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": status(READY)},
        {"status": {"conditions": [READY]}},
    ],
)
def test_what_cannot_be_read_or_is_of_another_generation_is_progressing(obj: dict[str, Any]) -> None:
    assert health(**obj)["status"] == "Progressing"


def test_unknown_conditions_and_fields_of_a_newer_operator_change_nothing() -> None:
    newer = status(READY, said("Splendid", "False", "New"), {"type": "Odd"}, phase={"a": [1, {}]})
    assert health(status=newer) == {"status": "Healthy", "message": "as declared"}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([READY], ("Healthy", "as declared")),
        ([READY, said("InSync", "False", "UnderReplicated", "2 behind")],
         ("Healthy", "as declared; UnderReplicated: 2 behind")),
        ([READY, said("Reconciling", "True", "Updating", "restarting broker 1")],
         ("Progressing", "Updating: restarting broker 1")),
        ([READY, said("Reconciling", "True", "WaitingForMaintenanceWindow", "opens at two")],
         ("Suspended", "WaitingForMaintenanceWindow: opens at two")),
        ([said("Ready", "False", "WaitingForMaintenanceWindow", "opens at two")],
         ("Suspended", "WaitingForMaintenanceWindow: opens at two")),
        ([READY, said("Paused", "True", "Paused", "nothing is changed")], ("Suspended", "Paused: nothing is changed")),
        ([said("Ready", "False", "NotSupported", "no"), said("Stalled", "True", "NotSupported", "cannot shrink")],
         ("Degraded", "NotSupported: cannot shrink")),
        ([said("Ready", "False", "Unreachable", "no broker")], ("Progressing", "Unreachable: no broker")),
        ([READY, said("Stalled", "False"), said("Reconciling", "False"), said("Paused", "False")],
         ("Healthy", "as declared")),
    ],
)  # fmt: skip
def test_conditions_become_health(conditions: list[Any], expected: tuple[str, str]) -> None:
    found = health(status=status(*conditions))
    assert (found["status"], found["message"]) == expected


def test_lag_degrades_a_group_only_where_it_asks_for_it() -> None:
    behind = status(READY, said("LagWithinLimits", "False", "LagTooHigh", "more than 1000 records"))
    assert health(status=behind)["status"] == "Healthy"
    assert "LagTooHigh" in health(status=behind)["message"]
    metadata = {"generation": 1, "annotations": {"broadsheet.io/lag-is-health": "true"}}
    assert health(metadata=metadata, status=behind) == {
        "status": "Degraded",
        "message": "LagTooHigh: more than 1000 records",
    }


@pytest.mark.parametrize("text", ['return ("x"):rep(3)', "return string.format('x')", "return os.getenv('HOME')",
                                  "return io.open('/')", "return math.floor(1)", "require('io')"])  # fmt: skip
def test_the_sandbox_has_no_more_than_argo_cd_opens(text: str) -> None:
    with pytest.raises(lua51.LuaError):
        run(text, {})
