"""A real Prometheus that scrapes what it is given as pods and evaluates the alerts of the chart."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tools.alerts.rules import text as rules

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/examples/monitoring/prometheus.yaml"
Labels = dict[str, str]
Spawn = Callable[..., Any]


class Sample(NamedTuple):
    """One series of an instant answer."""

    labels: Labels
    value: float


class Pod(NamedTuple):
    """A container port of a pod, as Prometheus' discovery of pods finds it."""

    address: str
    """host:port that is scraped."""
    namespace: str
    name: str
    labels: Mapping[str, str]
    port_name: str = "tcp-prometheus"

    def target(self) -> dict[str, Any]:
        """With the labels that `kubernetes_sd_configs` with the role pod gives before relabeling."""
        meta = {
            "__meta_kubernetes_namespace": self.namespace,
            "__meta_kubernetes_pod_name": self.name,
            "__meta_kubernetes_pod_phase": "Running",
            "__meta_kubernetes_pod_container_port_name": self.port_name,
        }
        for name, value in self.labels.items():
            meta["__meta_kubernetes_pod_label_" + "".join(c if c.isalnum() else "_" for c in name)] = value
        return {"targets": [self.address], "labels": meta}


def scrape_configs(jobs: Sequence[Mapping[str, Any]], targets: Path) -> list[dict[str, Any]]:
    """Scrape configurations with a file of targets instead of the discovery of pods, which Debian's build lacks."""
    return [
        {k: v for k, v in job.items() if k != "kubernetes_sd_configs"}
        | {"file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}
        for job in jobs
    ]


def _get(url: str) -> str:
    """What is at a URL, an error's text included; OSError if nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


class Prometheus:
    """The process, on loopback or where `inside` puts it; its data ends with it."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        interval: str = "1s",
        factor: float = 1 / 60,
        jobs: Sequence[Mapping[str, Any]] = (),
        spawn: Spawn = subprocess.Popen,
        fetch: Callable[[str], str] | None = None,
    ) -> None:
        """`factor` shortens the `for` of all alerts; `jobs` are scrape configurations, else the documentation's.
        `spawn` runs it elsewhere, in the network of pods for example, and `fetch` gets what is at a URL there."""
        self.folder = folder or Path(tempfile.mkdtemp(prefix="e2e-prometheus-"))
        self.port = free_port()
        self.targets = self.folder / "targets.json"
        self.targets.write_text("[]")
        (self.folder / "alerts.yaml").write_text(rules(factor))
        config = yaml.safe_load(EXAMPLE.read_text())
        config["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "1s"}
        config["scrape_configs"] = scrape_configs(jobs or config["scrape_configs"], self.targets)
        self.config = self.folder / "prometheus.yaml"
        self.config.write_text(yaml.safe_dump(config))
        self._spawn = spawn
        self._fetch = fetch or _get
        self._process: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        command = [
            "prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn", "--query.lookback-delta=15s",
        ]  # fmt: skip
        with (self.folder / "prometheus.log").open("wb") as log:
            self._process = self._spawn(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, "Prometheus to answer", 30)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "prometheus.log").read_text()
        try:
            return "Ready" in self.get("/-/ready")
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> str:
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        return self._fetch(f"{self.url}{path}{query}")

    def scrape(self, pods: Iterable[Pod]) -> None:
        """These are the pods from now on."""
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps([pod.target() for pod in pods]))
        new.replace(self.targets)

    def ask(self, expr: str) -> list[Sample]:
        """The answer of this moment; a bad expression fails with Prometheus' words."""
        return [Sample(row["metric"], float(row["value"][1])) for row in self._query("query", query=expr)]

    def ask_range(self, expr: str, start: float, end: float, step: float) -> list[tuple[Labels, dict[float, float]]]:
        """Series over a time: value by time."""
        rows = self._query("query_range", query=expr, start=f"{start}", end=f"{end}", step=f"{step}")
        return [(row["metric"], {float(t): float(v) for t, v in row["values"]}) for row in rows]

    def _query(self, how: str, **parameters: str) -> list[dict[str, Any]]:
        answer = json.loads(self.get(f"/api/v1/{how}", **parameters))
        if answer["status"] != "success":
            raise ValueError(f"{parameters['query']}: {answer['error']}")
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        result: list[dict[str, Any]] = data["result"]
        return result

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {sample.labels["alertname"] for sample in self.ask('ALERTS{alertstate="firing"}')}

    def wait_firing(self, *alerts: str, seconds: float = 60) -> None:
        """Until all of these fire at once."""
        try:
            wait_until(lambda: self.firing() >= set(alerts), f"{', '.join(alerts)} to fire", seconds, 0.3)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; these do: {sorted(self.firing())}") from None

    def wait_quiet(self, *but: str, seconds: float = 90) -> None:
        """Until no alert but these fires."""
        try:
            wait_until(lambda: self.firing() <= set(but), "no alert to fire", seconds, 0.3)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; these do: {sorted(self.firing())}") from None

    def ever_fired(self, seconds: float) -> set[str]:
        """Names of the alerts that fired at any time in these last seconds."""
        now = time.time()
        rows = self.ask_range('ALERTS{alertstate="firing"}', now - seconds, now, 1)
        return {labels["alertname"] for labels, _ in rows}
