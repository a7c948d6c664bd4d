"""What the tests want of a Kubernetes that was there before them, and what they leave of it.

They install the operator, take its definitions away again, restart brokers and drain nodes, so they have a Kubernetes
to themselves or none: one that knows Broadsheet already is refused before anything is touched.
"""

from __future__ import annotations

import re
from typing import Any

from e2e.operator.images import BROKER, OPERATOR
from e2e.operator.providers import Kubernetes, KubernetesError

ZONE = "topology.kubernetes.io/zone"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NAMESPACES = ("paper", "broadsheet", "argocd", "flux-system", "kafka-dev", "second")
"""Made by the tests and taken away with all that is in them."""
UNIQUE = re.compile(r"^[a-z]+-[0-9a-f]{6}$")
"""Other namespaces that the tests make."""


def require(cluster: Kubernetes) -> list[str]:
    """The namespaces that there are. A KubernetesError says all that is in the way of the tests."""
    namespaces = names(cluster, "namespaces")
    nodes, classes = cluster.get("nodes")["items"], cluster.get("storageclasses")["items"]
    wrong = complaints(nodes, classes, names(cluster, "crds"), namespaces)
    if wrong:
        raise KubernetesError("this Kubernetes cannot be used for the tests: " + "; ".join(wrong))
    print(f"images that its nodes must have or be able to pull: {BROKER} {OPERATOR}")
    return namespaces


def names(cluster: Kubernetes, kind: str) -> list[str]:
    """Names of all objects of a kind."""
    return [item["metadata"]["name"] for item in cluster.get(kind)["items"]]


def complaints(
    nodes: list[dict[str, Any]], classes: list[dict[str, Any]], definitions: list[str], namespaces: list[str]
) -> list[str]:
    """What is in the way, in words."""
    found = []
    ours = [name for name in definitions if name.endswith(".broadsheet.io")]
    if ours:
        found.append(f"Broadsheet is installed ({', '.join(ours)}), and the tests would take it away with everything")
    tools = [name for name in definitions if name.endswith((".argoproj.io", ".toolkit.fluxcd.io"))]
    if tools:
        found.append(f"Argo CD or Flux is installed ({', '.join(tools)}), and the tests would take it away")
    taken = [name for name in namespaces if name in NAMESPACES]
    if taken:
        found.append(f"it has the namespaces {' and '.join(taken)}, which the tests make and delete")
    usable = [node for node in nodes if not node["spec"].get("unschedulable") and not _tainted(node)]
    zones = {node["metadata"].get("labels", {}).get(ZONE) for node in usable} - {None}
    if len(zones) < 3:
        found.append(f"three zones are needed, and its nodes that take pods have {len(zones)} (label {ZONE})")
    default = [c for c in classes if c["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"]
    if not any(c.get("allowVolumeExpansion") for c in default):
        found.append("it has no default StorageClass whose volumes can grow (allowVolumeExpansion)")
    return found


def clean_up(cluster: Kubernetes, before: list[str]) -> None:
    """Leave nothing of ours behind, whatever the tests came to. `before`: the namespaces that there were."""
    definitions = [f"{plural}.broadsheet.io" for plural in ("topics", "consumergroups", "clusters")]
    options = ["--ignore-not-found", "--timeout=120s"]
    # While the operator runs, so that it lets go of what it holds.
    cluster.kubectl("delete", "crd", *definitions, *options, check=False, timeout=130)
    cluster.run(["helm", "uninstall", "broadsheet", "--namespace", "broadsheet", "--ignore-not-found"])
    made = [name for name in names(cluster, "namespaces") if name in NAMESPACES or UNIQUE.search(name)]
    for namespace in set(made) - set(before):
        cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false", check=False)


def _tainted(node: dict[str, Any]) -> bool:
    return any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in node["spec"].get("taints", ()))
