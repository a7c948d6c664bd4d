"""Derives the state of a broker from its pod. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers.cluster import BrokerState

FORGOTTEN_SECONDS = 1200.0
"""The StatefulSet controller tries again at least this often, and says each time what went wrong."""
STUCK_SECONDS = 30.0
"""A pod that still exists this long after its grace period is on a node that does not answer."""

UNPLACED_SECONDS = 60.0
"""A pod that no node takes for this long is more than a volume that is being made."""
RETURN_SECONDS = 600.0
"""A broker that was stopped on purpose and is not back after this time is missing."""


def pod_number(cluster: str, pod: str) -> int | None:
    """The node id of a broker's pod; None if it is none of this Cluster's StatefulSet."""
    prefix, _, number = pod.rpartition("-")
    return int(number) if prefix == f"{cluster}-brokers" and number.isdigit() else None


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether Kubernetes sends traffic to this pod."""
    return _condition(pod, "Ready") == "True"


def state_of(
    index: int,
    pod: Mapping[str, Any] | None,
    cluster: Cluster,
    now: datetime,
    not_created: str = "",
    *,
    stopped: bool = False,
) -> BrokerState:
    """A broker's state, with the container's own words where it fails. `not_created`: why there is no pod; `stopped`:
    there should be none."""
    metadata = cluster.metadata
    host = f"{metadata.name}-brokers-{index}.{metadata.name}-brokers.{metadata.namespace}.svc"
    endpoint = f"{host}:{cluster.listeners()[0].port}"

    def state(name: str, words: str = "") -> BrokerState:
        message = f"broker {index}: {words}" if words else ""
        return BrokerState(index, name, endpoint, message, pod=pod["metadata"]["name"] if pod else "")

    if pod is None and stopped:
        return state("Stopped")
    if pod is None:
        return state("Failed", not_created) if not_created else state("Starting")
    node = pod.get("spec", {}).get("nodeName", "")
    # Of a node that is gone Kubernetes says that its pods are not ready; that their containers are was said before.
    is_lost = not is_ready(pod) and _condition(pod, "ContainersReady") == "True"
    if "deletionTimestamp" in pod["metadata"] and not is_lost:
        since = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
        if (now - since).total_seconds() > STUCK_SECONDS:
            words = f"its pod cannot end, because {node or 'its node'} does not answer; "
            return state("Lost", words + "it comes back with the node, or when the node is deleted for good")
        return state("Stopping")
    if is_ready(pod):
        return state("Running")
    if is_lost:
        return state("Lost", f"{node or 'its node'} does not answer")
    name, words = trouble(pod)
    return replace(state(name or "Starting", words), unplaced=_unplaced_seconds(pod, now) > UNPLACED_SECONDS)


def trouble(pod: Mapping[str, Any]) -> tuple[str, str]:
    """Why a pod's container does not run, as a state and in Kubernetes' or its own words; empty if nothing is wrong."""
    for whose, status in _containers(pod):
        waiting = status.get("state", {}).get("waiting") or {}
        ended = status.get("lastState", {}).get("terminated") or {}
        reason, last_words = waiting.get("reason", ""), _last_line(ended.get("message", ""))
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            # What Kubernetes says of a crash changes with each try; what the container said does not.
            message = "" if last_words and reason == "CrashLoopBackOff" else waiting.get("message", "")
            return "Failed", ": ".join(filter(None, [whose, reason, message, last_words]))
        if ended.get("exitCode"):
            words = f"starts again after it ended with exit code {ended['exitCode']}"
            return "Restarting", ": ".join(filter(None, [whose, words, last_words]))
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "Starting", condition.get("message", "")
    return "", ""


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The states of a pod's containers, and before them those of init containers that have not done their work."""
    status = pod.get("status", {})
    for found in status.get("initContainerStatuses", ()):
        ended = found.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") != 0:
            yield f"init container {found['name']}", found
    yield from (("", found) for found in status.get("containerStatuses", ()))


class Returning:
    """Remembers which brokers of a Cluster were stopped on purpose and are on their way back.

    A pod that is deleted, by the operator or by an eviction, is replaced by another one. A broker that crashes keeps
    its pod, and one whose node is gone is Lost: neither is on its way back.
    """

    def __init__(self) -> None:
        self._since: dict[int, datetime] = {}

    def look(self, states: Sequence[BrokerState], now: datetime) -> bool:
        """Whether one is, as of this look at all of them."""
        for broker in states:
            if broker.state == "Stopping" or (broker.state == "Starting" and not broker.pod):
                self._since.setdefault(broker.id, now)
            elif broker.state != "Starting":
                self._since.pop(broker.id, None)
        self._since = {id: since for id, since in self._since.items() if id in {broker.id for broker in states}}
        return any((now - since).total_seconds() < RETURN_SECONDS for since in self._since.values())


def not_created(
    cluster: str, events: Iterable[Mapping[str, Any]], last_seen: Mapping[int, datetime], now: datetime
) -> dict[int, str]:
    """Why brokers have no pod, by node id, out of the StatefulSet's FailedCreate events (core/v1).

    `last_seen`: when a broker last had a pod; what was said before that is of another time.
    """
    found: dict[int, tuple[datetime, str]] = {}
    for event in events:
        text = str(event.get("message", ""))
        pod = next((word for word in text.split() if pod_number(cluster, word) is not None), "")
        number = pod_number(cluster, pod)
        stamp = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
        if number is None or not stamp:
            continue
        at = datetime.fromisoformat(stamp)
        if (now - at).total_seconds() > FORGOTTEN_SECONDS or (number in last_seen and at < last_seen[number]):
            continue
        words = text.partition("failed error: ")[2] or text
        if number not in found or found[number][0] <= at:
            found[number] = at, words
    return {number: words for number, (_, words) in sorted(found.items())}


_OF_EVERY_JVM = ("Error: Could not create the Java Virtual Machine.", "Error: A fatal exception has occurred.")
"""What Java says behind the line that says why."""


def _last_line(text: str) -> str:
    """What a broker said last; of a traceback it is the line that says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_OF_EVERY_JVM)] or lines
    return plain(telling[-1])[:500] if telling else ""


def plain(line: str) -> str:
    """A log line as people read it: of one in JSON its message."""
    if not line.startswith("{"):
        return line
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line


def _unplaced_seconds(pod: Mapping[str, Any], now: datetime) -> float:
    """For how long the scheduler has found no node for a pod."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if (
            condition["type"] == "PodScheduled"
            and condition["status"] == "False"
            and condition.get("lastTransitionTime")
        ):
            return (now - datetime.fromisoformat(condition["lastTransitionTime"])).total_seconds()
    return 0.0


def _condition(pod: Mapping[str, Any], kind: str) -> str:
    conditions = pod.get("status", {}).get("conditions", ())
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")
