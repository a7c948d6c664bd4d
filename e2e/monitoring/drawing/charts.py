"""Graphs as SVG: lines and areas over time, states over time."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from e2e.monitoring.drawing.frames import COLOURS, Line, mapped, written

GRID, FAINT = "#2c3235", "#8e9297"
LEFT, BOTTOM, TOP, RIGHT = 70, 20, 8, 12


def graph(
    panel: Mapping[str, Any], series: Sequence[Line], step: float, span: tuple[float, float], size: tuple[int, int]
) -> str:
    """Lines, or areas on each other, with axes, limits as dashed lines, and gaps where samples are missing."""
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults.get("custom", {}), defaults.get("unit", "short")
    width, height = size
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    stairs = custom.get("lineInterpolation") == "stepAfter"
    layers = _stack(series) if stacked else [(line, {}) for line in series]
    highest = max([top for line, _ in layers for top in line.points.values()] or [1.0])
    ticks = _ticks(defaults.get("max") or highest or 1.0, 1024 if unit in ("bytes", "Bps") else 1000)
    scale = _Scale(span, ticks[-1], width, height)
    parts = [_axes(scale, ticks, unit)]
    for line, floor in reversed(layers):
        for run in _runs(line.points, step):
            parts.append(_area(scale, run, line, floor, stairs, 0.3 if stacked else 0.08))
    for limit in defaults.get("thresholds", {}).get("steps", ()) if custom.get("thresholdsStyle") else ():
        if limit["value"] is not None and limit["value"] <= ticks[-1]:
            y = scale.y(limit["value"])
            style = f'stroke="{COLOURS[limit["color"]]}" stroke-dasharray="8 6" opacity="0.8"'
            parts.append(f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" {style}/>')
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def states(
    panel: Mapping[str, Any], series: Sequence[Line], step: float, span: tuple[float, float], size: tuple[int, int]
) -> str:
    """One bar per series, in the colours of its values."""
    width, height = size
    left = min(260, 20 + 7 * max((len(line.name) for line in series), default=0))
    row = (height - BOTTOM - TOP) / max(1, len(series))
    bar = min(26.0, row * 0.8)
    parts = []
    for number, line in enumerate(series):
        middle = TOP + row * (number + 0.5)
        name = html.escape(line.name)
        parts.append(f'<text x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="{FAINT}">{name}</text>')
        for begin, end, value in _same(line.points, step):
            x = left + (begin - span[0]) / (span[1] - span[0]) * (width - left - RIGHT)
            wide = (end - begin) / (span[1] - span[0]) * (width - left - RIGHT)
            _, colour = mapped(value, panel["fieldConfig"]["defaults"].get("mappings", ())) or ("", COLOURS["text"])
            place = f'x="{x:.1f}" y="{middle - bar / 2:.1f}" width="{wide:.1f}" height="{bar:.1f}"'
            parts.append(f'<rect {place} fill="{colour}" opacity="0.85"/>')
    parts.append(_times(span, left, width, height))
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def _same(points: Mapping[float, float], step: float) -> list[tuple[float, float, float]]:
    """Times with one value: begin, end and the value; a gap ends one."""
    found: list[tuple[float, float, float]] = []
    for at, value in sorted(points.items()):
        if found and found[-1][2] == value and at - found[-1][1] < step / 2:
            found[-1] = (found[-1][0], at + step, value)
        else:
            found.append((at, at + step, value))
    return found


class _Scale:
    def __init__(self, span: tuple[float, float], top: float, width: int, height: int) -> None:
        self.span, self.top, self.width, self.height = span, top, width, height

    def x(self, at: float) -> float:
        return LEFT + (at - self.span[0]) / (self.span[1] - self.span[0]) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self.height - BOTTOM - max(0.0, min(value, self.top)) / self.top * (self.height - BOTTOM - TOP)


def _axes(scale: _Scale, ticks: Sequence[float], unit: str) -> str:
    parts = []
    for tick in ticks:
        y = scale.y(tick)
        parts.append(f'<line x1="{LEFT}" x2="{scale.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        text = html.escape(written(tick, unit))
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{FAINT}">{text}</text>')
    return "".join(parts) + _times(scale.span, LEFT, scale.width, scale.height)


def _times(span: tuple[float, float], left: int, width: int, height: int) -> str:
    wide = width - left - RIGHT
    every = next(e for e in (15, 30, 60, 120, 300, 900, 3600) if (span[1] - span[0]) / e * 70 <= wide)
    parts = []
    at = math.ceil(span[0] / every) * every
    while at < span[1]:
        x = left + (at - span[0]) / (span[1] - span[0]) * wide
        text = time.strftime("%H:%M" if every >= 60 else "%H:%M:%S", time.gmtime(at))
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 5}" text-anchor="middle" fill="{FAINT}">{text}</text>')
        at += every
    return "".join(parts)


def _area(
    scale: _Scale,
    run: Sequence[tuple[float, float]],
    line: Line,
    floor: Mapping[float, float],
    stairs: bool,
    opacity: float,
) -> str:
    points: list[tuple[float, float]] = []
    for at, value in run:
        if stairs and points:
            points.append((scale.x(at), points[-1][1]))
        points.append((scale.x(at), scale.y(value)))
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2" fill="{line.colour}"/>'
    path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    under = [(scale.x(at), scale.y(floor.get(at, 0.0))) for at, _ in reversed(run)]
    closed = path + "L" + "L".join(f"{x:.1f},{y:.1f}" for x, y in under) + "Z"
    stroke = f'stroke="{line.colour}" stroke-width="2" fill="none"'
    return f'<path d="{closed}" fill="{line.colour}" opacity="{opacity}"/><path d="{path}" {stroke}/>'


def _runs(points: Mapping[float, float], step: float) -> list[list[tuple[float, float]]]:
    """The points without gaps: a line is not drawn across what was not measured."""
    runs: list[list[tuple[float, float]]] = []
    before = -math.inf
    for at, value in sorted(points.items()):
        if value != value:
            continue
        if at - before > 1.5 * step:
            runs.append([])
        runs[-1].append((at, value))
        before = at
    return runs


def _stack(series: Sequence[Line]) -> list[tuple[Line, dict[float, float]]]:
    """Each series on those before it, with what is below it."""
    below: dict[float, float] = {}
    layers = []
    for line in series:
        top = {at: value + below.get(at, 0.0) for at, value in line.points.items()}
        layers.append((Line(line.name, line.colour, top), dict(below)))
        below |= top
    return layers


def _ticks(highest: float, thousand: int) -> list[float]:
    """Round numbers from 0 to above the highest value; of bytes, round in KiB or MiB."""
    if thousand == 1024 and highest >= 1024:
        return [tick * 1024 for tick in _ticks(highest / 1024, thousand)]
    raw = highest / 4
    power = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    every = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    return [every * number for number in range(math.ceil(highest / every * 0.999) + 1)]
