"""A dashboard as a page: panels where Grafana puts them."""

from __future__ import annotations

import html as escape
from collections.abc import Mapping
from typing import Any

from e2e.monitoring.drawing import charts, frames
from e2e.monitoring.prometheus import Prometheus

WIDTH, UNIT, GAP, HEAD = 1400, 36, 8, 52
STYLE = """
*{box-sizing:border-box} body{margin:0;background:#111217;color:#ccccdc;font:12px Inter,Arial,sans-serif}
h1{font-size:16px;font-weight:500;margin:16px 14px} h1 span{color:#8e9297;font-size:12px;margin-left:14px}
.panel{position:absolute;background:#181b1f;border:1px solid #25292e;border-radius:3px;overflow:hidden}
.row{position:absolute;font-size:14px;font-weight:500;padding:9px 4px;color:#e6e6f0}
.title{padding:7px 10px 3px;font-weight:500;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.big{display:flex;align-items:center;justify-content:center;height:calc(100% - 30px);font-size:34px;font-weight:500}
.none{color:#8e9297;display:flex;align-items:center;justify-content:center;height:calc(100% - 40px);font-size:14px}
.legend{padding:0 10px;color:#9fa5ad;line-height:17px;max-height:36px;overflow:hidden} .legend b{font-weight:500}
.legend i{display:inline-block;width:12px;height:3px;margin:0 5px 3px 0} .legend span{margin-right:14px}
table{border-collapse:collapse;width:100%} th{text-align:left;color:#6e9fff;font-weight:500;padding:5px 10px}
td{padding:5px 10px;border-top:1px solid #25292e;white-space:nowrap} svg text{font:11px Inter,Arial,sans-serif}
.bar{display:grid;grid-template-columns:34% 1fr 70px;gap:8px;align-items:center;padding:2px 10px}
.bar div{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;text-align:right}
.bar u{display:block;height:14px;border-radius:2px;text-decoration:none}
"""


def html(dashboard: Mapping[str, Any], prometheus: Prometheus, end: float, seconds: float) -> tuple[str, int]:
    """The page and its height."""
    parts = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] * (WIDTH - 2 * GAP) / 24 + GAP, HEAD + place["y"] * UNIT
        width, height = int(place["w"] * (WIDTH - 2 * GAP) / 24 - GAP), place["h"] * UNIT - GAP
        style = f"left:{left:.0f}px;top:{top}px;width:{width}px;height:{height}px"
        title = escape.escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f'<div class="row" style="{style}">⌄ {title}</div>')
            continue
        body = DRAWN[panel["type"]](panel, prometheus, (end - seconds, end), (width - 4, height))
        parts.append(f'<div class="panel" style="{style}"><div class="title">{title}</div>{body}</div>')
    bottom = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"])
    heading = f"<h1>{escape.escape(dashboard['title'])}<span>{escape.escape(dashboard['description'])}</span></h1>"
    page = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{heading}{''.join(parts)}"
    return page, HEAD + bottom * UNIT + GAP


Span, Size = tuple[float, float], tuple[int, int]


def _stat(panel: Mapping[str, Any], prometheus: Prometheus, span: Span, size: Size) -> str:
    found = frames.values(panel, prometheus, span[1] - span[0])
    defaults = panel["fieldConfig"]["defaults"]
    if not found:
        return f'<div class="big" style="color:#8e9297;font-size:22px">{defaults["noValue"]}</div>'
    value = found[0][3]
    text, colour = frames.mapped(value, defaults.get("mappings", ())) or (
        frames.written(value, defaults["unit"], defaults.get("decimals")),
        frames.colour_of(value, defaults["thresholds"]),
    )
    small = "font-size:26px;" if len(text) > 8 else ""
    return f'<div class="big" style="{small}color:{colour}">{escape.escape(text)}</div>'


def _graph(panel: Mapping[str, Any], prometheus: Prometheus, span: Span, size: Size) -> str:
    series, step = frames.lines(panel, prometheus, span[1], span[1] - span[0])
    if not series:
        return _nothing(panel)
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    drawn = charts.graph(panel, series, step, span, (size[0], size[1] - 66))
    items = [
        f'<span><i style="background:{line.colour}"></i>{escape.escape(line.name)} '
        f"<b>{frames.written(line.last, unit)}</b></span>"
        for line in series
    ]
    return f'{drawn}<div class="legend">{"".join(items)}</div>'


def _states(panel: Mapping[str, Any], prometheus: Prometheus, span: Span, size: Size) -> str:
    series, step = frames.lines(panel, prometheus, span[1], span[1] - span[0])
    if not series:
        return _nothing(panel)
    mappings = panel["fieldConfig"]["defaults"].get("mappings", ())
    seen = {frames.mapped(value, mappings) for line in series for value in line.points.values()} - {None}
    items = [f'<span><i style="background:{c};height:10px;margin:0 5px -1px 0"></i>{t}</span>' for t, c in sorted(seen)]
    drawn = charts.states(panel, series, step, span, (size[0], size[1] - 56))
    return f'{drawn}<div class="legend">{"".join(items)}</div>'


def _table(panel: Mapping[str, Any], prometheus: Prometheus, span: Span, size: Size) -> str:
    headings, cells = frames.rows(panel, prometheus, span[1] - span[0])
    if not cells:
        return _nothing(panel)
    head = "".join(f"<th>{escape.escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(_cell(panel, cell) for cell in row)}</tr>" for row in cells[: (size[1] - 60) // 27])
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(panel: Mapping[str, Any], cell: Any) -> str:
    if isinstance(cell, str):
        return f"<td>{escape.escape(cell)}</td>"
    name, value = cell
    properties = frames.overrides(panel, name)
    text, colour = frames.mapped(value, properties.get("mappings", ())) or (
        frames.written(value, properties.get("unit", "short")),
        frames.colour_of(value, properties["thresholds"]) if "thresholds" in properties else "#ccccdc",
    )
    return f'<td style="color:{colour}">{escape.escape(text)}</td>'


def _bars(panel: Mapping[str, Any], prometheus: Prometheus, span: Span, size: Size) -> str:
    found = sorted(frames.values(panel, prometheus, span[1] - span[0]), key=lambda row: -row[3])
    if not found:
        return _nothing(panel)
    defaults = panel["fieldConfig"]["defaults"]
    highest = defaults.get("max") or max(row[3] for row in found) or 1.0
    parts = []
    for name, _, _, value in found[: (size[1] - 40) // 22]:
        colour = frames.colour_of(value, defaults["thresholds"])
        bar = f'<u style="width:{max(1.0, 100 * value / highest):.1f}%;background:{colour}"></u>'
        text = f'<span style="color:{colour}">{frames.written(value, defaults["unit"])}</span>'
        parts.append(f'<div class="bar"><div>{escape.escape(name)}</div>{bar}{text}</div>')
    return "".join(parts)


def _nothing(panel: Mapping[str, Any]) -> str:
    return f'<div class="none">{escape.escape(panel["fieldConfig"]["defaults"].get("noValue", "No data"))}</div>'


DRAWN = {"stat": _stat, "timeseries": _graph, "state-timeline": _states, "table": _table, "bargauge": _bars}
