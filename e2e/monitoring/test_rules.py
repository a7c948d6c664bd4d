"""Unit tests of the alerts with promtool: what fires when, and that nothing else does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from e2e.monitoring.rules.cases import CASES
from e2e.monitoring.rules.worlds import test_file as unit_tests
from tools.alerts.__main__ import RULES
from tools.alerts.table import ALERTS
from tools.dashboards.expressions import asked, dashboards, substitute

EXAMPLE = RULES.parents[3] / "docs/examples/monitoring/prometheus.yaml"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=400)


def test_the_rules_are_valid() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_a_bad_rule_is_named(tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text())
    rules["groups"][0]["rules"][0]["expr"] = "sum(("
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(rules))
    done = promtool("check", "rules", broken)
    assert done.returncode != 0
    assert rules["groups"][0]["rules"][0]["alert"] in done.stdout + done.stderr


def test_the_scrape_configuration_of_the_documentation_is_valid(tmp_path: Path) -> None:
    """Debian's Prometheus is built without the discovery of pods: a file takes its place here."""
    config = yaml.safe_load(EXAMPLE.read_text())
    for job in config["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
        job["file_sd_configs"] = [{"files": ["targets.json"]}]
    (tmp_path / "alerts.yaml").write_text(RULES.read_text())
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    done = promtool("check", "config", tmp_path / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    fired = {alert for case in CASES for alerts in case.expected.values() for alert in alerts}
    assert {alert.name for alert in ALERTS} - fired == set()


def test_exactly_the_right_alerts_fire(tmp_path: Path) -> None:
    """Quiet hours, rolling changes, drains, restarts; and each trouble, before and after the time that it may take."""
    file = tmp_path / "cases.yaml"
    tests = unit_tests(str(RULES), ((case.name, case.world(), case.expected) for case in CASES))
    file.write_text(yaml.safe_dump(tests, width=1_000_000, sort_keys=False))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_late_records_are_not_lost_on_the_dashboard_and_never_make_up_for_those_of_another_cluster(
    tmp_path: Path,
) -> None:
    """Cluster a lost three, two of which came late; in b a record came late that was lost before."""
    (query,) = [q for q in asked("canary", dashboards()["canary"]) if q.panel == "Records lost"]
    courses = {
        ("lost", "a"): "0 3+0x59",
        ("late", "a"): "0 0 2+0x58",
        ("lost", "b"): "1+0x60",
        ("late", "b"): "0 1+0x59",
    }
    series = [
        {"series": f'broadsheet_canary_records_{what}_total{{namespace="paper",cluster="{who}"}}', "values": values}
        for (what, who), values in courses.items()
    ]
    expr = f"round({substitute(query.expr)}, 0.1)"
    samples = [{"labels": "{}", "value": 1}]
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": expr, "eval_time": "60m", "exp_samples": samples}],
    }
    file = tmp_path / "panel.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
