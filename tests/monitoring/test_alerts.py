"""The alerts: fresh, asking only for what is exported, each with a runbook, and with no rule that cannot fire."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.monitoring.catalogue import known, labels_of, names_of, problems
from tools.alerts.rules import text
from tools.alerts.table import ALERTS, SEVERITIES, Alert, still, unplanned
from tools.dashboards.expressions import ENGINES, can_answer, dashboards

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/broadsheet"
RUNBOOKS = ROOT / "docs/runbooks"
HEADINGS = ["## Cause", "## What to check", "## What to do", "## When to wait"]
OF_KAFKA = {
    "UnderReplicatedPartitions", "OfflinePartitions", "UnderMinIsrPartitionCount", "AbnormalControllerState",
    "OfflineLogDirectoryCount", "KafkaRunningOutOfSpace", "KafkaBrokerContainersDown", "ScrapeProblem",
    "TooLargeConsumerGroupLag", "NoMessageForTooLong", "KafkaTopicNotReady", "KafkaNotReady",
}  # fmt: skip
"""Names by which people's routes and silences know these alerts from elsewhere."""


def each() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def test_the_committed_rules_are_what_the_table_declares() -> None:
    command = [sys.executable, "-m", "tools.alerts", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_are_unique_and_those_that_people_know() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(names) == len(set(names))
    assert set(names) >= OF_KAFKA


@each()
def test_an_alert_asks_for_what_is_exported(alert: Alert) -> None:
    found = problems(alert.expr, known())
    assert found == [], f"{alert.name}: {found}"


@each()
@pytest.mark.parametrize("engine", ENGINES)
def test_an_alert_can_fire_for_both_engines(alert: Alert, engine: str) -> None:
    assert can_answer(alert.expr, engine)


@each()
def test_an_alert_says_where_and_what(alert: Alert) -> None:
    """Labels in its texts are labels that it has; its severity is one of three; it ends as a sentence."""
    assert alert.severity in SEVERITIES
    used = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
    assert used <= labels_of(alert.expr, known()), alert.name
    assert alert.description.endswith(".")
    assert not alert.summary.endswith(".")


@each()
def test_a_runbook_has_what_a_person_needs_at_night(alert: Alert) -> None:
    page = RUNBOOKS / f"{alert.name}.md"
    assert page.exists(), f"{alert.name} has no runbook: write docs/runbooks/{alert.name}.md"
    text = page.read_text()
    assert text.startswith(f"# {alert.name}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == HEADINGS
    check = text.partition(HEADINGS[1])[2].partition(HEADINGS[2])[0]
    assert re.search(r"```sh\n(kubectl|kafka)", check), "commands to check with"


def test_every_runbook_has_an_alert_and_a_place_in_the_navigation() -> None:
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"index"}
    assert pages == {alert.name for alert in ALERTS}
    nav = (ROOT / "mkdocs.yml").read_text()
    assert set(re.findall(r"runbooks/(\w+)\.md", nav)) == pages | {"index"}


def test_panels_link_runbooks_that_exist() -> None:
    linked = {
        name
        for dashboard in dashboards().values()
        for panel in dashboard["panels"]
        for name in re.findall(r"/(\w+)\.md\)", panel.get("description", ""))
    }
    assert linked
    assert linked <= {alert.name for alert in ALERTS}


def test_every_alert_can_be_seen_on_a_dashboard() -> None:
    """Who is woken by an alert finds its metric as a graph; `since when` is the next question."""
    drawn = {
        name
        for dashboard in dashboards().values()
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"\b(?:kafka|broadsheet|process|up)\w*", target["expr"])
    }
    helpers = {
        "broadsheet_operator_resync_interval_seconds",
        "broadsheet_lag_wanted",
        "broadsheet_canary_last_round_timestamp_seconds",
        "broadsheet_canary_max_latency_seconds",
    }
    unseen = {a.name: missing for a in ALERTS if (missing := names_of(a.expr) - drawn - helpers)}
    assert unseen == {}


def test_a_factor_shortens_the_waiting_and_nothing_else() -> None:
    quick = [rule for group in yaml.safe_load(text(1 / 60))["groups"] for rule in group["rules"]]
    for slow, fast in zip(rules(), quick, strict=True):
        assert {**slow, "for": ""} == {**fast, "for": ""}
        assert _seconds(fast["for"]) == round(_seconds(slow["for"]) / 60)


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def test_what_a_change_brings_is_left_out_and_what_hangs_is_not() -> None:
    assert promql.parse(unplanned("up == 0")).prettify().count("unless on (namespace, cluster)") == 1
    assert still("x", "30m") == "min_over_time(x[30m]) == 1 and x offset 30m == 1"
    assert still("x", "1h", "== 0") == "max_over_time(x[1h]) == 0 and x offset 1h == 0"


def test_the_chart_replaces_the_address_of_the_runbooks() -> None:
    """The address stands in the files as it stands in the templates and in the values."""
    from tools.dashboards.panels import RUNBOOKS as address

    assert yaml.safe_load((CHART / "values.yaml").read_text())["runbookUrl"] == address
    for template in ("dashboards.yaml", "prometheus-rule.yaml"):
        assert f'replace "{address}" ' in (CHART / "templates" / template).read_text()
    assert all(rule["annotations"]["runbook_url"].startswith(f"{address}/") for rule in rules())


def test_the_scrape_configuration_of_the_documentation_can_be_read() -> None:
    """It is compared with the chart's PodMonitors where there is helm: e2e/monitoring/test_pods.py."""
    config = yaml.safe_load((ROOT / "docs/examples/monitoring/prometheus.yaml").read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == ["broadsheet-brokers", "broadsheet-operator"]


@pytest.mark.parametrize(
    ("interval", "fits"),
    [("5s", True), ("30s", True), ("120s", True), ("2m", True), ("0s", False), ("500ms", False), ("3m", False)],
)
def test_a_scrape_interval_that_alerts_cannot_work_with_is_refused(interval: str, fits: bool) -> None:
    """The shortest range of a rate is five minutes, and needs two samples even if a scrape fails."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    pattern = schema["properties"]["podMonitor"]["properties"]["interval"]["pattern"]
    assert bool(re.search(pattern, interval)) == fits
    shortest = min(int(minutes) for alert in ALERTS for minutes in re.findall(r"rate\(.*?\[(\d+)m\]", alert.expr))
    assert shortest >= 5
