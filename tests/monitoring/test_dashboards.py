"""The dashboards: fresh, valid by Grafana's own models, readable, and asking only for what is exported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.monitoring.catalogue import known, labels_of, problems
from tools.dashboards.expressions import ENGINES, Asked, asked, can_answer, dashboards, substitute

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("brokers", "canary", "groups", "operator", "overview", "quorum", "topics")


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> list[Asked]:
    return [query for name, dashboard in dashboards().items() for query in asked(name, dashboard)]


def test_the_committed_dashboards_are_what_python_declares() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.dashboards", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert tuple(dashboards()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_survives_grafanas_models(name: str) -> None:
    """Read by the models that are generated from Grafana's schema and written again: nothing is lost or renamed."""
    register_default_plugins()
    committed = dashboards()[name]
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(committed)))))
    assert again == committed


def test_every_expression_asks_for_what_is_exported() -> None:
    metrics = known()
    wrong = [
        f"{query.where}: {words}" for query in expressions() for words in problems(substitute(query.expr), metrics)
    ]
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        ("sum(kafka_no_such_metric)", "kafka_no_such_metric is not exported"),
        ('up{colour="red"}', "up has no label colour"),
        ("sum by (colour) (up)", "has the label colour"),
        ("histogram_quantile(0.9, rate(broadsheet_request_seconds_count[5m]))", "needs the label le"),
        ("sum(rate(broadsheet_request_seconds[5m]))", "broadsheet_request_seconds is not exported"),
    ],
)
def test_an_unknown_metric_or_label_is_named(expr: str, words: str) -> None:
    assert any(words in problem for problem in problems(expr, known())), problems(expr, known())


def test_legends_name_labels_that_the_answer_has() -> None:
    metrics = known()
    wrong = [
        f"{query.where}: {label}"
        for query in expressions()
        for label in re.findall(r"{{(\w+)}}", query.legend)
        if label not in labels_of(substitute(query.expr), metrics)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_can_be_imported_anywhere(name: str) -> None:
    """The datasource is a variable everywhere, and what is selected is what its variables say."""
    dashboard = dashboards()[name]
    assert dashboard["uid"] == f"broadsheet-{name}"
    assert [v["name"] for v in dashboard["templating"]["list"]][:3] == ["datasource", "namespace", "cluster"]
    uids = set(re.findall(r'"uid": "([^"]*)"', json.dumps({**dashboard, "uid": "${datasource}"})))
    assert uids == {"${datasource}"}
    declared = {v["name"] for v in dashboard["templating"]["list"]} | {"__rate_interval", "__range"}
    used = {name for query in asked(name, dashboard) for name in re.findall(r"\$(\w+)", query.expr)}
    assert used <= declared
    assert declared - used <= {"datasource", "__rate_interval", "__range"}, "a variable that selects nothing"


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_read_from_top_to_bottom(name: str) -> None:
    """Stats first, then what is wrong; no panel lies on another, and every one says what to look at."""
    dashboard = dashboards()[name]
    assert dashboard["panels"][0]["title"] == "Is it well?"
    first_row = [p for p in panels(dashboard) if p["gridPos"]["y"] == 1]
    assert {p["type"] for p in first_row} == {"stat"}
    assert sum(p["gridPos"]["w"] for p in first_row) == 24
    cells = list(_cells(panels(dashboard)))
    assert len(cells) == len(set(cells)), "panels overlap"
    assert all(x < 24 for x, _ in cells)
    titles = [p["title"] for p in panels(dashboard)]
    assert len(titles) == len(set(titles))
    for panel in panels(dashboard):
        text = panel["description"].partition("\n\n")[0]
        assert len(text.split()) >= 4 and text.endswith("."), f"{panel['title']}: {text!r}"
        assert panel["type"] == "stat" or panel["title"].endswith("?") or name == "canary", panel["title"]


def _cells(placed: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    for place in (panel["gridPos"] for panel in placed):
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                yield x, y


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES)
def test_a_panel_that_the_brokers_of_one_engine_leave_empty_says_so(name: str, engine: str) -> None:
    """Absent must not look like good: the panel itself says which engine does not have it."""
    for panel in panels(dashboards()[name]):
        unanswered = [target["expr"] for target in panel["targets"] if not can_answer(target["expr"], engine)]
        assert not unanswered or "Apache Kafka" in panel["description"], f"{panel['title']}: {unanswered}"
    for query in asked(name, dashboards()[name]):
        if query.panel.startswith(("variable ", "annotation ")):
            assert can_answer(query.expr, engine), query.where


def test_units_are_grafanas() -> None:
    allowed = {value for value in vars(units).values() if isinstance(value, str)}
    used = {p["fieldConfig"]["defaults"].get("unit") for d in dashboards().values() for p in panels(d)} - {None}
    assert used <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_present_figures_are_asked_as_instants(name: str) -> None:
    """A range query whose series has ended would show its last value: a lag of zero for a cluster that is gone."""
    for panel in panels(dashboards()[name]):
        present = panel["type"] in ("stat", "table", "bargauge")
        assert all(bool(target.get("instant")) == present for target in panel["targets"]), panel["title"]
        if panel["type"] == "stat":
            assert panel["fieldConfig"]["defaults"]["noValue"] == "no data"


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_a_picture_in_the_documentation(name: str) -> None:
    picture = ROOT / f"docs/pictures/dashboards/{name}.png"
    assert picture.exists(), "draw it: make dashboard-pictures"
    assert picture.stat().st_size < 200_000
    assert f"(../pictures/dashboards/{name}.png)" in (ROOT / "docs/how-to/monitoring.md").read_text()


def test_alerts_of_one_name_are_no_error_of_the_panel_that_lists_them() -> None:
    """Two brokers may be ill at once, and two directories of one broker full; `*` would want one of each."""
    (query,) = [
        query for query in expressions() if query.panel == "Which alerts fire?" and query.dashboard == "overview"
    ]
    assert " and ignoring (alertstate) " in query.expr
    assert "group_left" not in query.expr


def test_two_clusters_of_one_name_are_never_added_up() -> None:
    """Environments may be namespaces with a Cluster of the same name each, whose pods have the same names, too."""
    names = {"cluster", "pod", "broker", "topic", "consumergroup"}
    mixed = [
        f"{query.where}: by ({labels})"
        for query in expressions()
        if query.dashboard != "operator" and not query.panel.startswith("variable ")
        for labels in re.findall(r"\bby \(([^)]*)\)", query.expr)
        if names & set(labels.split(", ")) and "namespace" not in labels.split(", ")
    ]
    assert mixed == []
