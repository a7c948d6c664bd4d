"""The chart's PodMonitors as scrape configurations, and the pods of a Kubernetes as Prometheus' discovery finds them.

What the Prometheus operator and `kubernetes_sd_configs` do, for the fields that the chart uses: a wrong selector, port
or relabeling in a PodMonitor is wrong here, too. A field that is not known fails, so that none is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from e2e.monitoring.prometheus import Pod

Job = dict[str, Any]


def scrape_job(monitor: Mapping[str, Any]) -> Job:
    """A PodMonitor as the scrape configuration that the Prometheus operator makes of it."""
    spec, metadata = monitor["spec"], monitor["metadata"]
    _only(spec, "selector", "namespaceSelector", "podMetricsEndpoints")
    _only(spec["selector"], "matchLabels", "matchExpressions")
    _only(spec.get("namespaceSelector", {}), "any")
    (endpoint,) = spec["podMetricsEndpoints"]
    _only(endpoint, "port", "path", "interval", "honorLabels", "relabelings")
    rules = [_keep(_label(name), value) for name, value in spec["selector"].get("matchLabels", {}).items()]
    for expression in spec["selector"].get("matchExpressions", ()):
        assert expression["operator"] == "In", f"PodMonitor: this test does not know {expression}"
        rules.append(_keep(_label(expression["key"]), "|".join(expression["values"])))
    if not spec.get("namespaceSelector", {}).get("any"):
        rules.append(_keep("__meta_kubernetes_namespace", metadata["namespace"]))
    rules.append(_keep("__meta_kubernetes_pod_container_port_name", endpoint["port"]))
    rules.append({"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Failed|Succeeded", "action": "drop"})
    rules += [{_snake(key): value for key, value in rule.items()} for rule in endpoint["relabelings"]]
    job: Job = {"job_name": metadata["name"], "kubernetes_sd_configs": [{"role": "pod"}], "relabel_configs": rules}
    if endpoint["path"] != "/metrics":
        job["metrics_path"] = endpoint["path"]
    return {**job, "honor_labels": True} if endpoint.get("honorLabels") else job


def _keep(label: str, value: str) -> dict[str, Any]:
    return {"source_labels": [label], "regex": value, "action": "keep"}


def _label(name: str) -> str:
    return "__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def _only(given: Mapping[str, Any], *known: str) -> None:
    unknown = set(given) - set(known)
    assert not unknown, f"PodMonitor: this test does not know {sorted(unknown)}"


def ports(pods: Sequence[Mapping[str, Any]]) -> Iterator[Pod]:
    """One target per port of each container of pods that have an address, as the discovery makes them."""
    for pod in pods:
        metadata, address = pod["metadata"], pod.get("status", {}).get("podIP")
        for container in pod["spec"]["containers"] if address else ():
            for port in container.get("ports", ()):
                place = f"{address}:{port['containerPort']}"
                labels = metadata.get("labels", {})
                yield Pod(place, metadata["namespace"], metadata["name"], labels, port.get("name", ""))
