"""Grafana dashboards of Broadsheet, written in Python and committed as JSON.

.venv/bin/python -m tools.dashboards            writes charts/broadsheet/files/dashboards/*.json
.venv/bin/python -m tools.dashboards --check    names those that are stale, and fails if any is

`boards` has one module per dashboard, `panels` the few kinds of panel that they use, `board` what all dashboards
share: variables, links, annotations and layout. `expressions` reads the JSON back: every PromQL expression in it, with
the name of its panel, for the tests.
"""
