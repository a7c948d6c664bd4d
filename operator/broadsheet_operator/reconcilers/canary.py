"""The canary of a Cluster: the objects that run it on Kubernetes, and the condition that says what it found. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broadsheet_operator.api import canary_limits
from broadsheet_operator.api.cluster import Canary, Cluster
from broadsheet_operator.api.meta import Condition
from broadsheet_operator.api.quantities import format_duration
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.conditions import Statement, TruthValue
from broadsheet_operator.reconcilers.observed import BrokerView, Failure
from broadsheet_operator.reconcilers.pods import trouble
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, HTTP_PORT, metadata_maker
from broadsheet_operator.reconcilers.reasons import Reason, reason_of
from broadsheet_operator.reconcilers.rendering import render

NAME, COMPONENT = "broadsheet-canary", "canary"
"""Labels of its pod. Its name is not a broker's, or Services would send clients to it."""
TOPIC = "broadsheet.io/canary-topic"
"""Annotation of the Deployment: the topic that goes with it."""
DEFAULT_MS = 1000
RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
_TRUTH: Mapping[bool | None, TruthValue] = {True: "True", False: "False", None: "Unknown"}
_STARTING = Reason.CANARY_STARTING
SILENT_SECONDS = 45.0
"""A canary that ran and does not answer for so long says nothing any more."""


def name_of(cluster: str) -> str:
    """The name of a canary's objects."""
    return f"{cluster}-canary"


def interval_ms(canary: Canary) -> int:
    """Milliseconds between two records of a broker."""
    return canary_limits.interval_ms(canary.interval) if canary.interval else DEFAULT_MS


def max_latency_ms(canary: Canary) -> int:
    """Milliseconds that 99 % of the records may take."""
    return canary_limits.latency_ms(canary.max_latency) if canary.max_latency else DEFAULT_MS


def children(cluster: Cluster, image: str, servers: Sequence[str]) -> list[dict[str, Any]]:
    """The objects that run the canary."""
    canary = cluster.spec.canary
    assert canary is not None
    selector = {"app.kubernetes.io/name": NAME, CLUSTER_LABEL: cluster.metadata.name}
    labels = selector | {"app.kubernetes.io/component": COMPONENT, "app.kubernetes.io/managed-by": "broadsheet"}
    given = canary.resources.model_dump(mode="json", exclude_none=True) if canary.resources else RESOURCES
    context = {
        "name": name_of(cluster.metadata.name),
        "topic": canary.topic,
        "selector": selector,
        "labels": labels,
        "image": image,
        "servers": ",".join(servers),
        "interval": format_duration(interval_ms(canary)) if canary.interval is None else f"{interval_ms(canary)}ms",
        "max_latency": f"{max_latency_ms(canary)}ms",
        "http_port": HTTP_PORT,
        "resources": given,
        "metadata": metadata_maker(cluster, labels),
    }
    return [render("canary-network-policy", context), render("canary-deployment", context)]


def is_canary(pod: Mapping[str, Any], cluster: str) -> bool:
    """Whether this is the pod of the Cluster's canary."""
    labels = pod["metadata"].get("labels", {})
    return bool(labels.get("app.kubernetes.io/name") == NAME and labels.get(CLUSTER_LABEL) == cluster)


def status_url(pod: Mapping[str, Any]) -> str:
    """Where a canary's pod says how it is; empty while it has no address."""
    address = pod.get("status", {}).get("podIP", "")
    if not address or "deletionTimestamp" in pod["metadata"]:
        return ""
    return f"http://{f'[{address}]' if ':' in address else address}:{HTTP_PORT}/status"


def staying(
    brokers: Sequence[BrokerView], running: int | None, deleting: frozenset[int] = frozenset()
) -> list[BrokerView]:
    """Brokers that should lead a partition. `running`: how many stay; None: all. `deleting`: their pods are going."""
    return [b for b in brokers if (running is None or b.id < running) and b.id not in deleting]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a canary beside what it says."""

    refusal: str = ""
    """Why its topic may not be used."""
    failure: Failure | None = None
    """What did not work for its topic."""
    image_is_missing: bool = False
    deployment: Mapping[str, Any] | None = None
    pod: Mapping[str, Any] | None = None
    problem: str = ""
    """Why it did not answer."""
    silent_seconds: float | None = None
    """Since it answered last; None: it never did."""
    waited_seconds: float = 0.0
    """Since it was looked for first: how long an operator that has just started has waited for an answer."""


def statement(health: CanaryHealth | None, around: Circumstances, before: Condition | None) -> Statement:
    """The condition. `health`: what the canary said last; `before`: the condition as it is."""
    if around.image_is_missing:
        words = "the canary does not run: the operator was started without --canary-image; the chart sets it"
        return Statement("CanaryHealthy", "Unknown", Reason.CANARY_NOT_RUNNING, words)
    if around.refusal:
        return Statement("CanaryHealthy", "Unknown", Reason.TOPIC_EXISTS, around.refusal)
    if health is not None and (around.silent_seconds or 0.0) <= SILENT_SECONDS:
        if health.healthy is None and around.failure is None and before is not None and before.status != "Unknown":
            # A canary that has just started forms its verdict soon; until then the one before it stands.
            return Statement("CanaryHealthy", before.status, reason_of(before.reason) or _STARTING, before.message)
        if around.failure is not None and health.healthy is not True:
            words = f"{health.message}; {around.failure.message}"
            return Statement("CanaryHealthy", "Unknown", around.failure.reason, words)
        reason = reason_of(health.reason) or _STARTING
        return Statement("CanaryHealthy", _TRUTH[health.healthy], reason, health.message)
    words = _why_not(around)
    if words:
        return Statement("CanaryHealthy", "Unknown", Reason.CANARY_NOT_RUNNING, f"the canary does not run: {words}")
    if around.silent_seconds is not None:
        words = f"the canary does not answer: {around.problem}"
        return Statement("CanaryHealthy", "Unknown", Reason.CANARY_NOT_RUNNING, words)
    if before is not None and (before.status != "Unknown" or before.reason == Reason.CANARY_NOT_RUNNING):
        # An operator that has just started does not know yet; what was said stands until it does, or should.
        if around.waited_seconds > SILENT_SECONDS:
            words = around.problem or "it has no pod with an address"
            words = f"the canary does not answer: {words}"
            return Statement("CanaryHealthy", "Unknown", Reason.CANARY_NOT_RUNNING, words)
        if before.status != "Unknown":
            return Statement("CanaryHealthy", before.status, reason_of(before.reason) or _STARTING, before.message)
    return Statement("CanaryHealthy", "Unknown", Reason.CANARY_STARTING, "the canary starts")


def _why_not(around: Circumstances) -> str:
    """Why the canary has no pod that runs, in Kubernetes' words."""
    for condition in (around.deployment or {}).get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message", "its pod cannot be made"))
    return trouble(around.pod)[1] if around.pod is not None else ""
