"""The page of metrics: each has a question, and what Strimzi's dashboards ask for is really exported."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import re
import sys
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


STRIMZI = tool("strimzi_metrics")
ENGINES = tool("engine_metrics")
PAGE = tool("metrics_page")
CATALOGUE = json.loads((ROOT / "tools/metrics.json").read_text())
EXPORTED = {row["name"] for rows in CATALOGUE.values() for row in rows}
BROADSHEET = {row["name"] for who, rows in CATALOGUE.items() for row in rows if who != "apache-kafka"}
"""What is exported where no broker is Apache Kafka."""
NAMES = {who: {row["name"] for row in rows} for who, rows in CATALOGUE.items()}


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_each_metric_answers_one_question(name: str) -> None:
    assert PAGE.question(name).rstrip(".").endswith(("?", "either")), "a question"


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in PAGE.QUESTIONS])
def test_each_question_is_answered_by_a_metric(pattern: str) -> None:
    assert any(PAGE.re.fullmatch(pattern, name) for name in EXPORTED)


@pytest.mark.parametrize("asked", STRIMZI.ASKED, ids=lambda asked: asked.name)
def test_what_strimzis_dashboards_ask_for_is_answered(asked: Any) -> None:
    if asked.here == "same":
        assert asked.name in BROADSHEET
    else:
        assert asked.name not in BROADSHEET, "it is exported: say so"
        assert not asked.here or asked.here in BROADSHEET
        assert asked.words or asked.here, "say why there is none"


def test_the_tables_of_the_engines_are_what_they_export() -> None:
    """Both ways: what only one of them has is in its table, and nothing else is."""
    ours, theirs = NAMES["broker"], NAMES["apache-kafka"]
    assert set(ENGINES.ONLY_BROADSHEET) == ours - theirs
    general = (ENGINES.OF_THE_JVM, ENGINES.OF_THE_AGENT)
    assert set(ENGINES.ONLY_APACHE_KAFKA) == {name for name in theirs - ours if not name.startswith(general)}
    assert set(ENGINES.DIFFERENT) <= ours & theirs
    labels = {who: {row["name"]: set(row["labels"]) for row in rows} for who, rows in CATALOGUE.items()}
    extra = {name for name in ours & theirs if labels["apache-kafka"][name] - labels["broker"][name]}
    described = {name for name in extra if name in ENGINES.DIFFERENT or "connection_" in name}
    assert extra == described, "labels that only Apache Kafka's have: say so in DIFFERENT"


def test_what_is_asked_instead_is_exported() -> None:
    for table, others in ((ENGINES.ONLY_BROADSHEET, "apache-kafka"), (ENGINES.ONLY_APACHE_KAFKA, "broker")):
        for name, instead in table.items():
            assert set(instead.names) <= NAMES[others] | NAMES["operator"], name
            assert instead.names or instead.words, f"{name}: say why there is none"


def test_no_metric_is_asked_for_twice() -> None:
    names = [asked.name for asked in STRIMZI.ASKED]
    assert len(names) == len(set(names))


def test_the_page_on_autoscaling_asks_for_what_is_exported() -> None:
    text = (ROOT / "docs/how-to/autoscale.md").read_text()
    blocks = {
        b.get("kind", "values"): b for b in map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", text, re.S | re.M))
    }
    (rule,) = blocks["values"]["rules"]["external"]
    (metric,) = blocks["HorizontalPodAutoscaler"]["spec"]["metrics"]
    asked = metric["external"]["metric"]
    (row,) = [row for row in CATALOGUE["operator"] if row["name"] == asked["name"]]
    assert rule["seriesQuery"] == f'{{__name__="{asked["name"]}"}}'
    assert set(asked["selector"]["matchLabels"]) | {"namespace"} == set(row["labels"])
    # What the adapter sums by must be there for the selector to find it.
    by = re.search(r"sum by \((.*?)\)", rule["metricsQuery"])
    assert by is not None and set(by[1].split(", ")) == set(asked["selector"]["matchLabels"])
