"""Draws a dashboard's JSON from a real Prometheus, without Grafana: to look at it, and for the documentation.

`frames` asks what a panel asks, `charts` draws graphs as SVG, `page` lays panels out as Grafana does, and Debian's
chromium takes the picture. It is not Grafana's own drawing: titles, places, units, thresholds, colours, legends and
empty panels are what it shows, and what a review needs.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from e2e.monitoring.drawing.page import WIDTH, html
from e2e.monitoring.prometheus import Prometheus
from tools.dashboards.expressions import dashboards

LARGEST_BYTES = 200_000


def draw(name: str, prometheus: Prometheus, target: Path, seconds: float = 300.0) -> None:
    """A picture of a dashboard, of the last seconds."""
    text, height = html(dashboards()[name], prometheus, time.time(), seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder:
        page = Path(folder, "page.html")
        page.write_text(text.replace(str(prometheus.folder), ""))  # no path of this machine in a picture
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}", "--virtual-time-budget=1000",
                f"--screenshot={target}", page.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    _optimise(target)


def _optimise(picture: Path) -> None:
    """A palette is enough for what is drawn here."""
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--speed=1", f"--output={picture}", "64", str(picture)], check=True)
    size = picture.stat().st_size
    assert size < LARGEST_BYTES, f"{picture.name} has {size} bytes; at most {LARGEST_BYTES} are kept in the repository"
