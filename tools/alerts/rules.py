"""The alerts as Prometheus reads them."""

from __future__ import annotations

from typing import Any

import yaml

from tools.alerts.table import GROUPS_OF_ALERTS, Alert
from tools.dashboards.panels import RUNBOOKS

SELDOM = {"NoMessageForTooLong": "5m"}
"""Rules that read hours of samples are evaluated less often, in a group of their own."""


def groups(factor: float = 1.0) -> list[dict[str, Any]]:
    """Rule groups. `factor` shortens every `for`, so that a test need not wait; the expressions stay the same."""
    found = []
    for name, alerts in GROUPS_OF_ALERTS.items():
        often = [rule(alert, factor) for alert in alerts if alert.name not in SELDOM]
        found.append({"name": f"broadsheet-{name}", "rules": often})
        for alert in alerts:
            if alert.name in SELDOM:
                group = {"name": f"broadsheet-{name}-seldom", "interval": SELDOM[alert.name]}
                found.append({**group, "rules": [rule(alert, factor)]})
    return found


def rule(alert: Alert, factor: float = 1.0) -> dict[str, Any]:
    """One alerting rule."""
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": f"{round(alert.wait * factor)}s" if factor != 1.0 else duration(alert.wait),
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{RUNBOOKS}/{alert.name}.md",
        },
    }


def duration(seconds: int) -> str:
    """As people write it: 90 is 90s, 120 is 2m."""
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def text(factor: float = 1.0) -> str:
    """A rule file for Prometheus; the chart puts the same into a PrometheusRule."""
    return yaml.safe_dump({"groups": groups(factor)}, sort_keys=False, width=1_000_000, allow_unicode=True)
