"""Alert rules of Broadsheet: one table, from which the chart's PrometheusRule and the index of runbooks are made.

.venv/bin/python -m tools.alerts            writes charts/broadsheet/files/alerts.yaml and docs/runbooks/index.md
.venv/bin/python -m tools.alerts --check    names those that are stale, and fails if any is

`table` has the alerts, `rules` writes them as Prometheus reads them.
"""
