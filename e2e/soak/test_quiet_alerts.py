"""A quiet half hour: brokers that serve, groups that read, an operator at rest, and not one alert."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from e2e.monitoring.site import running


def test_no_alert_fires_in_a_quiet_hour(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With the real `for` of each alert, from the first scrape on: a cluster that starts is quiet, too."""
    seconds = float(request.config.getoption("--soak-seconds"))
    began = time.time()
    with running(tmp_path, factor=1.0, interval="5s") as site:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(30.0, left))
            fired = site.prometheus.firing()
            assert fired == set(), f"{seconds - left:.0f} s after the start"
        lasted = time.time() - began
        assert site.prometheus.ever_fired(lasted) == set()
        assert site.prometheus.ask("sum(broadsheet_operator_leading) == 1"), "nothing was watched"
        print(f"\n{lasted:.0f} s without an alert; {len(site.prometheus.ask('up == 1'))} processes were scraped")
