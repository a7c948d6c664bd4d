"""The repositories of docs/examples/gitops, as the page docs/how-to/gitops.md has them, with what a test must change.

Changed are the addresses of the repositories and the images. Of the three environments one is run: the Kubernetes of
the tests is too small for the brokers of all, and what differs between them are patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from e2e.gitops.argocd import API, FINALIZER, NAMESPACE
from e2e.gitops.repository import BRANCH, Repository
from e2e.operator.images import BROKER, OPERATOR
from e2e.operator.providers import REPOSITORY
from e2e.operator.world import resource

Body = dict[str, Any]
EXAMPLES = REPOSITORY / "docs/examples/gitops"
ENVIRONMENT = "kafka-dev"
"""Name of the environment's Application and of its namespace."""
CLUSTER = "news"
BOOTSTRAP = f"{CLUSTER}-bootstrap.{ENVIRONMENT}.svc:9092"
DEFINITIONS = [f"{plural}.broadsheet.io" for plural in ("clusters", "topics", "consumergroups")]
OVERLAY = "environments/dev/kustomization.yaml"
PAGE_KAFKA, PAGE_BROADSHEET = "https://git.example.com/kafka.git", "https://git.example.com/broadsheet.git"

OPERATOR_FILE = "argocd/apps/operator.yaml"
CRD_FILE = "charts/broadsheet/files/crds/clusters.yaml"
CHART_FILE = "charts/broadsheet/Chart.yaml"
LATER_FIELD = "maintenanceWindows"
"""A field of a Cluster that the chart before the upgrade does not have."""


def text(*bodies: Body) -> str:
    return yaml.safe_dump_all(bodies, sort_keys=False)


def use_examples(kafka: Repository, broadsheet: Repository | None = None) -> None:
    """Fill the clone with the examples, for the environment dev alone."""
    kafka.copy(EXAMPLES, ".")
    for path in sorted(kafka.clone.rglob("*.yaml")):
        content = path.read_text().replace(PAGE_KAFKA, kafka.url)
        path.write_text(content.replace(PAGE_BROADSHEET, broadsheet.url if broadsheet else PAGE_BROADSHEET))
    kafka.write({f"environments/{name}/environment.yaml": None for name in ("staging", "prod")})
    kafka.write({OPERATOR_FILE: operator(kafka)})


def operator(kafka: Repository, **values: Any) -> str:
    """The example's Application of the operator, with the images under test and further values of the chart."""
    body = yaml.safe_load(kafka.read(OPERATOR_FILE))
    repository, _, tag = OPERATOR.rpartition(":")
    settings = {"image": {"repository": repository, "tag": tag}, "broker": {"image": BROKER}, **values}
    body["spec"]["source"]["helm"]["valuesObject"] |= settings
    return text(body)


def overlay(kafka: Repository, *, orders: Mapping[str, Any] | None = None, without: str = "") -> dict[str, str]:
    """The overlay of dev with these fields of the Topic orders, or without a team."""
    body = yaml.safe_load((EXAMPLES / OVERLAY).read_text())
    body["resources"] = [name for name in body["resources"] if not without or not name.endswith(f"/{without}")]
    if orders:
        patch = [{"op": "add", "path": f"/spec/{field}", "value": value} for field, value in orders.items()]
        target = {"kind": "Topic", "name": "orders"}
        body["patches"].append({"target": target, "patch": yaml.safe_dump(patch)})
    return {OVERLAY: text(body)}


def older_chart(broadsheet: Repository) -> dict[str, str]:
    """Files of the chart as an older release might have had them: another version, and a field less."""
    definition = yaml.safe_load(broadsheet.read(CRD_FILE))
    for version in definition["spec"]["versions"]:
        del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][LATER_FIELD]
    chart = yaml.safe_load(broadsheet.read(CHART_FILE)) | {"version": "0.0.9", "appVersion": "0.0.9"}
    return {CRD_FILE: text(definition), CHART_FILE: text(chart)}


def application(name: str, url: str, path: str, namespace: str, **source: Any) -> Body:
    """An Application that is not of the page; it is deleted with what it made."""
    policy: Body = {
        "automated": {"prune": True, "selfHeal": True},
        "syncOptions": ["CreateNamespace=true"],
        "retry": {"limit": 5, "refresh": True},
    }
    spec = {
        "project": "default",
        "source": {"repoURL": url, "targetRevision": BRANCH, "path": path, **source},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
        "syncPolicy": policy,
    }
    metadata = {"name": name, "namespace": NAMESPACE, "finalizers": [FINALIZER]}
    return {"apiVersion": API, "kind": "Application", "metadata": metadata, "spec": spec}


def topics(count: int, prefix: str = "archive") -> str:
    """Many topics of one partition each."""
    spec = {"cluster": CLUSTER, "partitions": 1}
    return text(*(resource("Topic", f"{prefix}-{number:03}", spec, ENVIRONMENT) for number in range(count)))
