"""What all dashboards share: how they are laid out, their variables, their links and what is marked on their graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from tools.dashboards.panels import SOURCE

TAG = "broadsheet"
SELECTED = 'namespace=~"$namespace", cluster=~"$cluster"'
"""In braces: what the variables at the top of a dashboard select."""
EVERYTHING = VariableOption(selected=True, text="All", value="$__all")
CLUSTERS = '{__name__=~"broadsheet_cluster_reachable|kafka_server_replicamanager_leadercount"'
"""Known to the operator, or to a scrape of its brokers: one of the two is there if the other fails."""
GRID = 24


@dataclass(frozen=True)
class Section:
    """A row with a heading, and its panels from left to right; they wrap at the dashboard's width."""

    heading: str
    panels: Sequence[Any]


@dataclass(frozen=True)
class Board:
    """A dashboard, before it is Grafana's JSON."""

    name: str
    """Of its file, and in its uid."""
    title: str
    what: str
    sections: Sequence[Section]
    variables: Sequence[QueryVariable] = ()
    """Besides datasource, namespace and cluster."""

    @property
    def uid(self) -> str:
        return uid(self.name)

    def build(self) -> models.Dashboard:
        """The dashboard as Grafana's model."""
        board = Dashboard(f"Broadsheet / {self.title}").uid(self.uid).tags([TAG, "kafka"]).description(self.what)
        board.time("now-1h", "now").refresh("30s").timezone("browser").readonly()
        board.tooltip(DashboardCursorSync.CROSSHAIR).variables([*common_variables(), *self.variables])
        board.annotation(_changes()).link(_other_boards())
        top = 0
        for section in self.sections:
            board.with_row(Row(section.heading).grid_pos(GridPos(h=1, w=GRID, x=0, y=top)))
            left, top, height = 0, top + 1, 0
            for panel in section.panels:
                place = panel.build().grid_pos
                if left + place.w > GRID:
                    left, top, height = 0, top + height, 0
                place.x, place.y = left, top
                left, height = left + place.w, max(height, place.h)
                board.with_panel(panel)
            top += height
        built = board.build()
        for number, panel in enumerate(built.panels or ()):
            panel.id_val = number + 1
        return built


def uid(name: str) -> str:
    """By which other dashboards and bookmarks find a dashboard; never change one."""
    return f"broadsheet-{name}"


def common_variables() -> list[Any]:
    """Datasource, namespace and cluster, in this order, on all dashboards."""
    return [
        DatasourceVariable("datasource").label("Datasource").type("prometheus"),
        chosen("namespace", f"label_values({CLUSTERS}}}, namespace)", "Namespace"),
        chosen("cluster", f'label_values({CLUSTERS}, namespace=~"$namespace"}}, cluster)', "Cluster"),
    ]


def chosen(name: str, query: str, label: str) -> QueryVariable:
    """A variable with the values of a label; all of them, until somebody chooses."""
    variable = QueryVariable(name).label(label).query(query).datasource(SOURCE).current(EVERYTHING)
    variable.multi(True).include_all(True).all_value(".*").sort(VariableSort.ALPHABETICAL_ASC)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _changes() -> AnnotationQuery:
    """A rolling change or drain is marked on every graph: what happens in it was planned."""
    marks = AnnotationQuery().name("Rolling changes and drains").datasource(SOURCE).enable(True).icon_color("blue")
    return marks.expr(f"max by (namespace, cluster) (broadsheet_cluster_rolling{{{SELECTED}}}) == 1")


def _other_boards() -> DashboardLink:
    link = DashboardLink("Broadsheet").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    return link.include_vars(True).keep_time(True)
