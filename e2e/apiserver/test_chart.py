"""The chart with the real Helm: an upgrade as the page shows it, and values that cannot be."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import yaml

from e2e.apiserver.server import REPOSITORY, Api, programs
from e2e.operator.pages import commands

CHART = REPOSITORY / "charts/broadsheet"
LATER = {"argocd": "argocd-cm", "dashboards": "dashboards", "prometheusRule": "prometheus-rule"}
"""Values that the chart before the upgrade does not have, and their templates."""


def helm(api: Api, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(programs() / "helm"), "--kubeconfig", str(api.server.kubeconfig), *arguments]
    return subprocess.run(command, text=True, capture_output=True, timeout=60)


def older_chart(folder: Path) -> Path:
    chart = folder / "broadsheet"
    shutil.copytree(CHART, chart)
    values = yaml.safe_load((chart / "values.yaml").read_text())
    for name, template in LATER.items():
        del values[name]
        (chart / f"templates/{template}.yaml").unlink()
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    return chart


def test_an_upgrade_keeps_what_was_set_and_takes_new_defaults(api: Api, tmp_path: Path) -> None:
    """With --reuse-values alone, Helm leaves out the defaults of the new chart, and its templates fail."""
    options = ["--namespace", api.namespace, "--set", "crds.install=false,logLevel=debug"]
    done = helm(api, "install", "broadsheet", str(older_chart(tmp_path)), *options)
    assert done.returncode == 0, done.stderr
    [command] = [line for line in commands("how-to/upgrade.md", "sh") if line.startswith("helm upgrade")]
    words = shlex.split(command.replace("--namespace broadsheet", f"--namespace {api.namespace}"))
    words[words.index("charts/broadsheet")] = str(CHART)
    done = helm(api, *words[1:])
    assert done.returncode == 0, done.stderr
    arguments = api.one("Deployment", "broadsheet")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--log-level=debug" in arguments


def test_namespaces_to_watch_are_names(api: Api) -> None:
    done = helm(api, "template", "mine", str(CHART), "--set", "watchNamespaces={*}")
    assert done.returncode != 0 and "at '/watchNamespaces/0'" in done.stderr
    done = helm(api, "template", "mine", str(CHART), "--set", "watchNamespaces={kafka-dev,a}")
    assert done.returncode == 0, done.stderr
