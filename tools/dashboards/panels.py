"""The kinds of panel that the dashboards use, with one look: colours, units, thresholds and texts.

A stat, a table and a bar show the present, so they ask instant queries: a series that has ended disappears from them
and is not shown with its last value. Lines and states show the past and leave a gap where there was no sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, FieldColor, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARNING, BAD, CALM, PLAIN = "green", "yellow", "red", "blue", "text"
IN, OUT = "blue", "purple"
NO_DATA = "no data"
"""Of a panel whose metrics are absent: not the same as zero, and never coloured as good."""

RUNBOOKS = "https://github.com/broadsheet/broadsheet/blob/main/docs/runbooks"
"""Where runbooks are; the chart puts its value `runbookUrl` in this place."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression: the legend of its series in a graph, or the name of its column in a table."""

    expr: str
    legend: str = ""
    unit: str = "short"
    """Of a column, or of a line that has another one than its panel."""
    texts: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Of a column: text and colour by value."""
    red: float | None = None
    """Of a column: coloured from this value on."""


def stat_panel(
    title: str,
    expr: str,
    what: str,
    *,
    unit: str = "short",
    yellow: float | None = None,
    red: float | None = None,
    low_is_bad: bool = False,
    texts: Mapping[int, tuple[str, str]] | None = None,
    alerts: Sequence[str] = (),
    legend: str = "",
    decimals: int | None = None,
    width: int = 4,
    height: int = 4,
) -> stat.Panel:
    """One figure of this moment. `yellow` and `red` are where its colour changes; without them it has none."""
    panel = stat.Panel().unit(unit).with_target(_instant(expr, legend)).no_value(NO_DATA)
    panel.thresholds(_thresholds(yellow, red, low_is_bad, plain=CALM))
    panel.color_mode(looks.BigValueColorMode.VALUE).graph_mode(looks.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if texts:
        panel.mappings([_mapping(texts)])
    if decimals is not None:
        panel.decimals(decimals)
    return _framed(panel, title, what, alerts, width, height)


def lines(
    title: str,
    *queries: Query,
    what: str,
    unit: str = "short",
    yellow: float | None = None,
    red: float | None = None,
    low_is_bad: bool = False,
    colours: Mapping[str, str] | None = None,
    stacked: bool = False,
    steps: bool = False,
    highest: float | None = None,
    alerts: Sequence[str] = (),
    width: int = 12,
    height: int = 8,
) -> timeseries.Panel:
    """What was when. A limit is drawn as a dashed line, so that one sees how far away it is."""
    panel = timeseries.Panel().unit(unit).min(0).line_width(2).fill_opacity(30 if stacked else 8)
    panel.show_points(looks.VisibilityMode.NEVER).span_nulls(False)
    panel.color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    for number, query in enumerate(queries):
        panel.with_target(_range(query, number))
        if query.unit != "short":
            panel.override_by_query(chr(ord("A") + number), [_property("unit", query.unit)])
    if yellow is not None or red is not None:
        panel.thresholds(_thresholds(yellow, red, low_is_bad, plain="transparent"))
        style = looks.GraphTresholdsStyleMode.DASHED
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if steps:
        panel.line_interpolation(looks.LineInterpolation.STEP_AFTER)
    if highest is not None:
        panel.max(highest)
    for legend, colour in (colours or {}).items():
        panel.override_by_name(legend, [_property("color", {"mode": "fixed", "fixedColor": colour})])
    legend_style = common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST).show_legend(True)
    panel.legend(legend_style.placement(looks.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]))
    panel.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    return _framed(panel, title, what, alerts, width, height)


def states(
    title: str,
    query: Query,
    *,
    what: str,
    alerts: Sequence[str] = (),
    width: int = 12,
    height: int = 8,
) -> statetimeline.Panel:
    """A bar per series that changes its colour with its value; a gap is a time without samples."""
    panel = statetimeline.Panel().with_target(_range(query, 0)).mappings([_mapping(query.texts)]).no_value(NO_DATA)
    panel.show_value(looks.VisibilityMode.NEVER).merge_values(True).row_height(0.8).fill_opacity(80).line_width(0)
    panel.color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
    panel.legend(common.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.BOTTOM))
    return _framed(panel, title, what, alerts, width, height)


def table_panel(
    title: str,
    *columns: Query,
    what: str,
    labels: Mapping[str, str],
    links: Mapping[str, str] | None = None,
    sort: str = "",
    alerts: Sequence[str] = (),
    width: int = 12,
    height: int = 8,
    nothing: str = NO_DATA,
) -> table.Panel:
    """One row per combination of `labels` (label: heading), one column per query.

    `links` maps a label to the dashboard that its cells lead to. `nothing` is shown when no query has a row.
    """
    panel = table.Panel().no_value(nothing).cell_height(looks.TableCellHeight.SM)
    hidden = ["Time", "__name__"]
    headings = dict(labels)
    for number, column in enumerate(columns):
        letter = chr(ord("A") + number)
        value = f"Value #{letter}" if len(columns) > 1 else "Value"
        headings[value] = column.legend
        panel.with_target(_instant(column.expr, "", letter).format(PromQueryFormat.TABLE))
        properties = [_property("unit", column.unit)]
        if column.texts:
            properties.append(_property("mappings", [_mapping(column.texts)]))
        if column.texts or column.red is not None:
            properties.append(_property("custom.cellOptions", {"type": "color-text"}))
            steps = _thresholds(None, column.red, False, plain=PLAIN).build()
            properties.append(_property("thresholds", steps))
        panel.override_by_name(column.legend, properties)
    for label, uid in (links or {}).items():
        panel.override_by_name(labels[label], [_property("links", [_row_link(uid, labels)])])
    if len(columns) > 1:
        panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    order = {name: index for index, name in enumerate(headings)}
    organize = {"excludeByName": dict.fromkeys(hidden, True), "indexByName": order, "renameByName": headings}
    panel.with_transformation(DataTransformerConfig(id_val="organize", options=organize))
    shown = {"include": {"names": list(headings.values())}}
    panel.with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options=shown))
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    return _framed(panel, title, what, alerts, width, height)


def bars(
    title: str,
    query: Query,
    *,
    what: str,
    unit: str = "short",
    yellow: float | None = None,
    red: float | None = None,
    highest: float | None = None,
    alerts: Sequence[str] = (),
    width: int = 8,
    height: int = 8,
) -> bargauge.Panel:
    """The present values of several series as bars, to see which is the largest."""
    target = _instant(query.expr, query.legend)
    panel = bargauge.Panel().unit(unit).min(0).with_target(target).no_value(NO_DATA)
    panel.thresholds(_thresholds(yellow, red, False, plain=CALM))
    panel.orientation(looks.VizOrientation.HORIZONTAL).display_mode(looks.BarGaugeDisplayMode.BASIC)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if highest is not None:
        panel.max(highest)
    return _framed(panel, title, what, alerts, width, height)


def _framed(panel: Any, title: str, what: str, alerts: Sequence[str], width: int, height: int) -> Any:
    """Title, place, and a description that ends with the runbooks of the alerts that watch the same."""
    words = " ".join(what.split())
    if alerts:
        words += "\n\nRunbook: " + ", ".join(f"[{alert}]({RUNBOOKS}/{alert}.md)" for alert in alerts)
        panel.links([_runbook(alert) for alert in alerts])
    return panel.title(title).description(words).datasource(SOURCE).span(width).height(height)


def _runbook(alert: str) -> DashboardLink:
    link = DashboardLink(f"Runbook: {alert}").type(DashboardLinkType.LINK)
    return link.url(f"{RUNBOOKS}/{alert}.md").target_blank(True)


def _range(query: Query, number: int) -> Dataquery:
    target = Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).range().datasource(SOURCE)
    return target.legend_format(query.legend or "__auto")


def _instant(expr: str, legend: str, letter: str = "A") -> Dataquery:
    target = Dataquery().expr(expr).ref_id(letter).instant().datasource(SOURCE)
    return target.legend_format(legend or "__auto")


def _thresholds(yellow: float | None, red: float | None, low_is_bad: bool, plain: str) -> ThresholdsConfig:
    """Colours from the lowest value up; Grafana wants the first step to have no value."""
    limited = yellow is not None or red is not None
    good = (PLAIN if plain == PLAIN else GOOD if plain != "transparent" else plain) if limited else plain
    if low_is_bad:
        steps = [Threshold(None, BAD if red is not None else WARNING)]
        if red is not None:
            steps.append(Threshold(red, WARNING if yellow is not None else good))
        if yellow is not None:
            steps.append(Threshold(yellow, good))
    else:
        steps = [Threshold(None, good)]
        steps += [Threshold(yellow, WARNING)] if yellow is not None else []
        steps += [Threshold(red, BAD)] if red is not None else []
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(texts: Mapping[int, tuple[str, str]]) -> ValueMap:
    return ValueMap(
        options={
            str(value): ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(texts.items())
        }
    )


def _property(name: str, value: object) -> DynamicConfigValue:
    return DynamicConfigValue(id_val=name, value=value)


def _row_link(uid: str, labels: Mapping[str, str]) -> dict[str, object]:
    """To another dashboard, with the variables that this row's labels give."""
    known = {"namespace": "namespace", "cluster": "cluster", "topic": "topic", "consumergroup": "group"}
    given = "&".join(f'var-{known[k]}=${{__data.fields["{v}"]}}' for k, v in labels.items() if k in known)
    return {"title": "Open", "url": f"/d/{uid}?{given}&${{datasource:queryparam}}&${{__url_time_range}}"}


__all__ = ["Query", "bars", "lines", "stat_panel", "states", "table_panel"]
