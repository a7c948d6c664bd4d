"""What dashboards ask of Prometheus: every expression in their JSON, with the name of the panel that asks it."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tools.metrics import catalogue

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "charts/broadsheet/files/dashboards"
ENGINES = {"broker": "Broadsheet", "apache-kafka": "Apache Kafka"}
"""Who exports the metrics of brokers, as the catalogue names it, and what people call it."""
OTHERS = ("operator", "canary")
"""What a Cluster has beside its brokers, whatever they are."""


@dataclass(frozen=True)
class Asked:
    """One expression of a dashboard."""

    dashboard: str
    """Name of the file, without .json."""
    panel: str
    """Title of the panel; `variable NAME` or `annotation NAME` for what no panel asks."""
    expr: str
    legend: str = ""
    instant: bool = False

    @property
    def where(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def asked(name: str, dashboard: dict[str, Any]) -> Iterator[Asked]:
    """Every expression of a dashboard: panels, annotations, and the selectors of its variables."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            legend = target.get("legendFormat", "").replace("__auto", "")
            yield Asked(name, panel["title"], target["expr"], legend, bool(target.get("instant")))
    for annotation in dashboard["annotations"]["list"]:
        yield Asked(name, f"annotation {annotation['name']}", annotation["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = parts_of_label_values(variable["query"])
            yield Asked(name, f"variable {variable['name']}", f"count by ({label}) ({selector})")


def metrics_of(expr: str) -> set[str]:
    """The metrics that an expression reads, as the catalogue names them: a histogram by its own name."""
    names = re.findall(r"\b(?:broadsheet|kafka|kminion|process|jvm|jmx)_\w+", expr)
    known = {metric.name for rows in catalogue().values() for metric in rows}
    return {name if name in known else re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def can_answer(expr: str, engine: str) -> bool:
    """Whether a Cluster with this engine (`broker` or `apache-kafka`, as in the catalogue) exports what it reads."""
    exported = {metric.name for who, rows in catalogue().items() if who in (engine, *OTHERS) for metric in rows}
    read = metrics_of(expr)
    return not read or bool(read & exported)


def parts_of_label_values(query: str) -> tuple[str, str]:
    """Selector and label of Grafana's `label_values(selector, label)`."""
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
    assert found, f"not label_values(selector, label): {query}"
    return found[1], found[2]


def substitute(expr: str, *, interval: str = "5m", over: str = "1h", **chosen: str) -> str:
    """An expression with the values of Grafana's variables; variables that are not given select everything."""
    expr = expr.replace("$__rate_interval", interval).replace("$__range", over)
    return re.sub(r"\$(\w+)", lambda found: chosen.get(found[1], ".*"), expr)
