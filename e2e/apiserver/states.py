"""Every state of a resource, brought about on a real API server: what Argo CD's health scripts and kstatus are shown.

    python -m e2e.apiserver.states

writes the objects into the chart, in the form of Argo CD's own tree, with the health that the scripts find in each.
`test_states.py` brings the same states about and compares.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from broadsheet_operator.reconcilers.exchange import Stored
from broadsheet_operator.reconcilers.observed import Failure, GroupView, MemberView, TopicPartition
from broadsheet_operator.reconcilers.reasons import Reason
from e2e.apiserver.operators import QUICK, Kubelet, OperatorThread
from e2e.apiserver.server import Api, ApiServer, Body, namespace
from tests.support.argo_lua import folder, run, script
from tests.support.waiting import wait_until

TIME = "2026-01-31T08:00:00Z"
NAMESPACE = "paper"
CALM = replace(QUICK, lease_retry_seconds=1.0, renew_deadline_seconds=20.0, lease_seconds=30.0)
"""A busy machine loses no Lease."""
IMPATIENT = replace(CALM, overdue_seconds=0.3)
"""What lasts longer than this is Stalled."""
STORED: dict[str, Any] = {"brokers": {"storage": {"size": "1Gi"}}}
EXTERNAL: dict[str, Any] = {"external": {"bootstrapServers": ["kafka.example.org:9092"]}}
CLOSED = [{"schedule": "0 3 29 2 *", "duration": "1h"}]
APACHE: dict[str, Any] = {"type": "apache-kafka", "version": "4.3.0", "exchange": "Stop"}
HELD = {"metadata": {"finalizers": ["example.org/hold"]}}
Story = Iterator[tuple[str, Body]]
"""Names of files, and the objects at that point. A name begins with the health."""


def clusters(api: Api) -> Story:
    """From the first second to the last of a Cluster."""
    kubelet, pod = Kubelet(api), "news-brokers-0"

    def news(reason: str, condition: str = "Ready") -> Body:
        return said(api, "Cluster", "news", reason, condition)

    api.resource("Cluster", "news", STORED)
    yield "progressing_new", api.one("Cluster", "news")
    with OperatorThread(api.namespace, CALM) as operator:
        yield "progressing_creating", news("Creating")
        kubelet.run("news")
        yield "healthy", settled(api, "news")
        waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "broker:1"'}
        fails(api, pod, waiting)
        yield "progressing_broker_down", news("BrokerDown")
        kubelet.becomes(pod, ready=True)
        api.resource("Cluster", "news", {**STORED, "paused": True})
        news("Paused", "Paused")
        yield "suspended_paused", settled(api, "news")
        api.resource("Cluster", "news", {**STORED, "image": "broker:2", "paused": True})
        yield "suspended_paused_with_a_change", news("Paused")
        api.resource("Cluster", "news", {**STORED, "image": "broker:2", "maintenanceWindows": CLOSED})
        yield "suspended_window", news("WaitingForMaintenanceWindow", "Reconciling")
        api.resource("Cluster", "news", {**STORED, "image": "broker:2"})
        yield "progressing_restarting", news("Creating")
        kubelet.finish(pod)
        kubelet.run("news")
        settled(api, "news")
        api.resource("Cluster", "news", {"brokers": {**STORED["brokers"], "template": {"labels": {"a b": "c"}}}})
        yield "degraded_refused", news("RefusedByKubernetes", "Stalled")
        api.resource("Cluster", "news", STORED)
        kubelet.finish(pod)
        kubelet.run("news")
        settled(api, "news")
        yield from exchanges(api, operator, kubelet)
        operator.stop()
    api.resource("Cluster", "news", {**STORED, "paused": False})
    yield "progressing_generation", api.one("Cluster", "news")
    with OperatorThread(api.namespace, IMPATIENT):
        fails(api, pod, waiting)
        yield "degraded_broker_down", news("BrokerDown", "Stalled")
    api.patch("Cluster", "news", HELD)
    api.delete("Cluster", "news")
    yield "progressing_deleting", api.one("Cluster", "news")


def exchanges(api: Api, operator: OperatorThread, kubelet: Kubelet) -> Story:
    """Another engine, and back."""
    operator.kafka.stored = Stored(features={"metadata.version": 33})
    api.resource("Cluster", "news", {**STORED, "engine": APACHE})
    yield "degraded_exchange_refused", said(api, "Cluster", "news", "NotSupported", "Stalled")
    operator.kafka.stored = Stored()
    api.resource("Cluster", "news", {**STORED, "engine": APACHE, "maintenanceWindows": CLOSED})
    yield "suspended_exchange_window", said(api, "Cluster", "news", "WaitingForMaintenanceWindow", "Reconciling")
    for number, engine in enumerate((APACHE, {"type": "broadsheet", "exchange": "Stop"})):
        api.resource("Cluster", "news", {**STORED, "engine": engine})
        replicas(api, 0)
        stopping = exchange(api, "waits until broker 0 has stopped")
        kubelet.stop("news")
        replicas(api, 1)
        starting = exchange(api, "waits until broker 0 runs")
        kubelet.run("news")
        done = settled(api, "news")
        if not number:
            yield "progressing_exchange_stopping", stopping
            yield "progressing_exchange_starting", starting
            yield "healthy_exchanged", done


def replicas(api: Api, count: int) -> None:
    """Wait until the StatefulSet has so many."""
    wait_until(
        lambda: api.one("StatefulSet", "news-brokers")["spec"]["replicas"] == count, f"{count} replicas", 30, 0.05
    )


def exchange(api: Api, words: str) -> Body:
    """The Cluster, once it says this of its exchange."""
    wait_until(lambda: words in api.one("Cluster", "news")["status"].get("exchange", ""), words, 30, 0.05)
    return api.one("Cluster", "news")


def fails(api: Api, pod: str, waiting: Body) -> None:
    """What the kubelet says of a container that does not run."""
    container = {"name": "kafka", "ready": False, "restartCount": 0, "image": "broker:1", "imageID": ""}
    conditions = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
    told = {
        "phase": "Pending",
        "conditions": conditions,
        "containerStatuses": [{**container, "state": {"waiting": waiting}}],
    }
    api.patch("Pod", pod, {"status": told}, "status")


def external_clusters(api: Api) -> Story:
    """A cluster that somebody else runs, and that cannot be reached."""
    with OperatorThread(api.namespace, CALM) as operator:
        api.resource("Cluster", "legacy", EXTERNAL)
        yield "healthy_external", api.ready("Cluster", "legacy")
        operator.kafka.down = True
        yield "progressing_unreachable", said(api, "Cluster", "legacy", "Timeout")
    with OperatorThread(api.namespace, IMPATIENT) as operator:
        operator.kafka.down = True
        yield "degraded_unreachable", said(api, "Cluster", "legacy", "Timeout", "Stalled")


def topics(api: Api) -> Story:
    """Topics of a cluster that comes, is paused and goes."""

    def topic(name: str, reason: str, condition: str = "Ready") -> Body:
        return said(api, "Topic", name, reason, condition)

    three = {"cluster": "news", "partitions": 3}
    api.resource("Topic", "orders", three)
    yield "progressing_new", api.one("Topic", "orders")
    with OperatorThread(api.namespace, CALM) as operator:
        yield "progressing_no_cluster", topic("orders", "ClusterNotFound")
        api.resource("Cluster", "without-pods", STORED)
        api.resource("Topic", "early", {**three, "cluster": "without-pods"})
        yield "progressing_cluster_not_ready", topic("early", "ClusterNotReady")
        operator.kafka.brokers = [0, 1]
        api.resource("Cluster", "news", EXTERNAL)
        yield "healthy", api.ready("Topic", "orders")
        operator.kafka.out_of_sync.add("orders")
        api.resource("Topic", "orders", {**three, "retention": {"time": "7d"}})
        yield "healthy_out_of_sync", topic("orders", "UnderReplicated", "InSync")
        api.resource("Topic", "wide", {**three, "replicationFactor": 3})
        yield "degraded_not_supported", topic("wide", "NotSupported", "Stalled")
        operator.kafka.topics["taken"] = (5, {})
        api.resource("Topic", "taken", three)
        yield "degraded_exists", topic("taken", "TopicExists", "Stalled")
        api.resource("Topic", "orders-again", {**three, "topicName": "orders"})
        yield "degraded_conflict", topic("orders-again", "ResourceConflict", "Stalled")
        words = "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576"
        operator.kafka.refuses["odd"] = Failure(Reason.INVALID_CONFIG, words, retriable=False)
        api.resource("Topic", "odd", {**three, "config": {"segment.bytes": 1}})
        yield "degraded_invalid_config", topic("odd", "InvalidConfig", "Stalled")
        operator.kafka.refuses["late"] = Failure(Reason.TIMEOUT, "create the topic late: no answer in time")
        api.resource("Topic", "late", three)
        yield "progressing_timeout", topic("late", "Timeout")
        api.resource("Cluster", "news", {**EXTERNAL, "maintenanceWindows": CLOSED})
        api.resource("Topic", "held", three)
        api.ready("Topic", "held")
        api.resource("Topic", "held", {**three, "replicationFactor": 2})
        yield "suspended_window", topic("held", "WaitingForMaintenanceWindow")
        api.resource("Cluster", "news", {**EXTERNAL, "paused": True})
        said(api, "Cluster", "news", "Paused", "Paused")
        api.resource("Topic", "later", three)
        yield "suspended_paused", topic("later", "Paused", "Paused")
        yield "suspended_as_before", topic("orders", "Paused", "Paused")
        api.resource("Cluster", "news", EXTERNAL)
        api.ready("Topic", "later")
        api.resource("Topic", "later", {**three, "deletionPolicy": "Delete"})
        api.ready("Topic", "later")
        api.patch("Topic", "later", HELD)
        api.delete("Topic", "later")
        yield "progressing_deleting", api.one("Topic", "later")
    api.resource("Topic", "orders", {**three, "retention": {"time": "1d"}})
    yield "progressing_generation", api.one("Topic", "orders")
    api.resource("Topic", "stray", {"cluster": "nowhere"})
    with OperatorThread(api.namespace, replace(IMPATIENT, resync_seconds=0.5)):
        yield "degraded_no_cluster", topic("stray", "ClusterNotFound", "Stalled")


def groups(api: Api) -> Story:
    """Consumer groups before their first consumer, behind, and with a reset."""

    def group(name: str, reason: str, condition: str = "Ready") -> Body:
        return said(api, "ConsumerGroup", name, reason, condition)

    here, at = {"cluster": "news"}, TopicPartition("orders", 0)
    limits = {**here, "lag": {"maxRecords": 10}}
    api.resource("ConsumerGroup", "billing", here)
    yield "progressing_new", api.one("ConsumerGroup", "billing")
    with OperatorThread(api.namespace, CALM) as operator:
        api.resource("Cluster", "news", EXTERNAL)
        api.ready("Cluster", "news")
        yield "healthy_absent", group("billing", "GroupNotFound")
        operator.kafka.put_group("billing", {at: 5}, 5)
        yield "healthy", group("billing", "Ready")
        operator.kafka.put_group("behind", {at: 5}, 50)
        api.resource("ConsumerGroup", "behind", limits)
        yield "healthy_behind", group("behind", "LagTooHigh", "LagWithinLimits")
        annotated = {"metadata": {"annotations": {"broadsheet.io/lag-is-health": "true"}}}
        yield "degraded_behind", api.patch("ConsumerGroup", "behind", annotated)
        member = MemberView("a-1", "reader", "10.0.0.7", None, (at,))
        operator.kafka.groups["busy"] = GroupView(
            "busy", True, "Stable", members=(member,), committed={at: 5}, starts={at: 0}, ends={at: 50}
        )
        api.resource("ConsumerGroup", "busy", here)
        api.ready("ConsumerGroup", "busy")
        api.resource("ConsumerGroup", "busy", {**here, "reset": {"to": "earliest"}})
        yield "progressing_reset_waits", group("busy", "GroupNotEmpty")
        api.resource("ConsumerGroup", "empty", here)
        api.ready("ConsumerGroup", "empty")
        api.resource("ConsumerGroup", "empty", {**here, "reset": {"to": "earliest"}})
        yield "degraded_reset_refused", group("empty", "ResetRefused", "Stalled")
        api.resource("ConsumerGroup", "billing-again", {**here, "groupId": "billing"})
        yield "degraded_conflict", group("billing-again", "ResourceConflict", "Stalled")
        api.resource("ConsumerGroup", "busy", {**here, "deletionPolicy": "Delete"})
        api.ready("ConsumerGroup", "busy")
        api.delete("ConsumerGroup", "busy")
        yield "progressing_deleting", group("busy", "GroupNotEmpty")
        api.resource("Cluster", "news", {**EXTERNAL, "paused": True})
        said(api, "Cluster", "news", "Paused", "Paused")
        api.resource("ConsumerGroup", "later", here)
        yield "suspended_paused", group("later", "Paused", "Paused")
        yield "suspended_as_before", group("billing", "Paused", "Paused")
    api.resource("ConsumerGroup", "billing", limits)
    yield "progressing_generation", api.one("ConsumerGroup", "billing")


STORIES: dict[str, tuple[Callable[[Api], Story], ...]] = {
    "Cluster": (clusters, external_clusters),
    "Topic": (topics,),
    "ConsumerGroup": (groups,),
}


def said(api: Api, kind: str, name: str, reason: str, condition: str = "Ready") -> Body:
    """The object, once a condition about its generation has this reason; of a pair that go together, both are there."""

    def there() -> bool:
        return api.conditions(kind, name).get(condition, {}).get("reason") == reason

    try:
        wait_until(there, f"{condition} of {kind} {name} to have the reason {reason}", 30, 0.05)
    except TimeoutError as error:
        raise AssertionError(f"{error}; it is {api.get(kind, name)}") from None
    return api.one(kind, name)


def settled(api: Api, name: str) -> Body:
    """A Cluster that is Ready, and in which nothing goes on."""

    def rests() -> bool:
        told = api.conditions("Cluster", name)
        return "Reconciling" not in told and told.get("Ready", {}).get("status") == "True"

    wait_until(rests, f"Cluster {name} to be Ready and at rest", 30, 0.05)
    return api.one("Cluster", name)


def scrubbed(body: Body, namespace: str) -> Body:
    """Without what is another one each time: ids, versions and times."""
    text = json.dumps(body).replace(namespace, NAMESPACE)
    text = text.replace("more than 0.005 minutes", "more than 10 minutes")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "2028-02-29 03:00 UTC", text)
    found: Body = json.loads(text)
    metadata = found["metadata"]
    for key in ("uid", "resourceVersion", "managedFields", "deletionGracePeriodSeconds"):
        metadata.pop(key, None)
    for key in ("creationTimestamp", "deletionTimestamp"):
        if key in metadata:
            metadata[key] = TIME
    for key in ("clusterId", "topicId"):
        if key in found.get("status", {}):
            found["status"][key] = "AAAAAAAAAAAAAAAAAAAAAA"
    for condition in found.get("status", {}).get("conditions", ()):
        condition["lastTransitionTime"] = TIME
    return found


def record(server: ApiServer, kind: str) -> dict[str, Body]:
    """By the name of its file, an object of a kind in every state."""
    found: dict[str, Body] = {}
    for number, story in enumerate(STORIES[kind]):
        with namespace(server, f"states-{kind.lower()}-{number}") as api:
            for name, body in story(api):
                assert name not in found, name
                found[name] = scrubbed(body, api.namespace)
    return found


def write(kind: str, found: dict[str, Body]) -> None:
    """The folder of a kind: the objects, and the health that the script finds in each."""
    place, tests = folder(kind), []
    for old in (place / "testdata").glob("*.yaml"):
        old.unlink()
    for name, body in sorted(found.items()):
        text = yaml.safe_dump(body, sort_keys=False, width=120, allow_unicode=True)
        (place / f"testdata/{name}.yaml").write_text(text)
        health = run(script(kind), body)
        if health["status"].lower() != name.partition("_")[0]:
            sys.exit(f"{kind} {name}: {health}")
        tests.append({"healthStatus": health, "inputPath": f"testdata/{name}.yaml"})
    text = yaml.safe_dump({"tests": tests}, sort_keys=False, width=120, allow_unicode=True)
    (place / "health_test.yaml").write_text(text)


def main() -> None:
    with ApiServer() as server, pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setenv("KUBECONFIG", str(server.kubeconfig))
        for kind in STORIES:
            found = record(server, kind)
            write(kind, found)
            print(f"{kind}: {len(found)} states")


if __name__ == "__main__":
    main()
