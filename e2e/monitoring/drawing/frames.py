"""What a panel shows: series over time, or the values of a moment, with Grafana's legends, units and colours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.monitoring.prometheus import Labels, Prometheus
from tools.dashboards.expressions import substitute

COLOURS = {
    "green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2",
    "purple": "#b877d9", "text": "#ccccdc", "transparent": "transparent",
}  # fmt: skip
PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a")
POINTS = 240


@dataclass(frozen=True)
class Line:
    """One series of a graph."""

    name: str
    colour: str
    points: Mapping[float, float]

    @property
    def last(self) -> float:
        return self.points[max(self.points)]


def lines(panel: Mapping[str, Any], prometheus: Prometheus, end: float, seconds: float) -> tuple[list[Line], float]:
    """The series of a graph, and the step between their points."""
    step = max(1.0, seconds / POINTS)
    fixed = _fixed_colours(panel)
    found: list[tuple[str, dict[float, float]]] = []
    for target in panel["targets"]:
        rows = prometheus.ask_range(_expr(target["expr"], seconds), end - seconds, end, step)
        found += [(legend(target, labels), values) for labels, values in rows]
    named = sorted(found, key=lambda row: row[0])
    return [
        Line(name, fixed.get(name, PALETTE[i % len(PALETTE)]), points) for i, (name, points) in enumerate(named)
    ], step


def values(panel: Mapping[str, Any], prometheus: Prometheus, seconds: float) -> list[tuple[str, str, Labels, float]]:
    """Legend, letter of the query, labels and value of each series of a moment."""
    return [
        (legend(target, sample.labels), target["refId"], sample.labels, sample.value)
        for target in panel["targets"]
        for sample in prometheus.ask(_expr(target["expr"], seconds))
    ]


def rows(panel: Mapping[str, Any], prometheus: Prometheus, seconds: float) -> tuple[list[str], list[list[Any]]]:
    """A table: headings, and cells that are texts or (heading, value), merged by labels as Grafana does it."""
    options = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
    order = options["indexByName"]
    renamed = {name: options["renameByName"][name] for name in sorted(order, key=lambda name: int(order[name]))}
    labels = [name for name in renamed if not name.startswith("Value")]
    columns = [name for name in renamed if name.startswith("Value")]
    merged: dict[tuple[str, ...], dict[str, float]] = {}
    for _, letter, found, value in values(panel, prometheus, seconds):
        column = "Value" if columns == ["Value"] else f"Value #{letter}"
        merged.setdefault(tuple(found.get(name, "") for name in labels), {})[column] = value
    cells = [
        [*key, *((renamed[column], row[column]) if column in row else "" for column in columns)]
        for key, row in merged.items()
    ]
    for by in panel["options"].get("sortBy", ()):
        at = list(renamed.values()).index(by["displayName"])
        cells.sort(key=lambda row: row[at][1] if isinstance(row[at], tuple) else -1.0, reverse=bool(by["desc"]))
    return list(renamed.values()), cells


def legend(target: Mapping[str, Any], labels: Labels) -> str:
    form = target.get("legendFormat", "")
    if form in ("", "__auto"):
        return ", ".join(f"{k}={v}" for k, v in labels.items() if k != "__name__")
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), form)


def overrides(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Properties of a field that are set by its name."""
    return {
        item["id"]: item["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == name
        for item in override["properties"]
    }


def colour_of(value: float, thresholds: Mapping[str, Any]) -> str:
    steps: Sequence[Mapping[str, Any]] = thresholds["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLOURS[reached[-1]["color"]]


def mapped(value: float, mappings: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Text and colour that a value is shown as."""
    for mapping in mappings:
        found = mapping["options"].get(f"{value:g}")
        if found:
            return found["text"], COLOURS[found["color"]]
    return None


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit, as Grafana writes it: three digits that count."""
    if value != value:
        return "NaN"
    if unit == "percentunit":
        return f"{_short(value * 100, decimals)}%"
    if unit in ("s", "ms"):
        return _time(value if unit == "s" else value / 1000)
    if unit in ("bytes", "Bps"):
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB")) + ("/s" if unit == "Bps" else "")
    suffix = {"reqps": " req/s", "cps": " c/s", "ops": " ops/s", "wps": " wr/s"}.get(unit, "")
    return (_short(value, decimals) if unit == "none" else _scaled(value, 1000, ("", "K", "Mil", "Bil"))) + suffix


def _time(value: float) -> str:
    for limit, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "min"), (1.0, "s")):
        if abs(value) >= limit:
            return f"{_short(value / limit)} {name}"
    return "0 s" if value == 0 else f"{_short(value * 1000)} ms"


def _scaled(value: float, step: int, units: Sequence[str]) -> str:
    place = 0
    while abs(value) >= step and place < len(units) - 1:
        value, place = value / step, place + 1
    return f"{_short(value)} {units[place]}".strip()


def _short(value: float, decimals: int | None = None) -> str:
    return f"{value:.{decimals}f}" if decimals is not None else f"{float(f'{value:.3g}'):g}"


def _expr(expr: str, seconds: float) -> str:
    return substitute(expr, interval="10s", over=f"{int(seconds)}s")


def _fixed_colours(panel: Mapping[str, Any]) -> dict[str, str]:
    return {
        override["matcher"]["options"]: COLOURS[item["value"]["fixedColor"]]
        for override in panel["fieldConfig"]["overrides"]
        for item in override["properties"]
        if item["id"] == "color"
    }
