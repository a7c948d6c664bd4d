"""What Kubernetes refuses stands in the Cluster's status in its own words, and stops nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from e2e.apiserver.operators import QUICK, Kubelet, OperatorThread
from e2e.apiserver.server import Api
from tests.support.waiting import wait_until

SPEC: dict[str, Any] = {"brokers": {"storage": {"size": "1Gi"}}}


def template(**fields: Any) -> dict[str, Any]:
    return {"brokers": {"storage": {"size": "1Gi"}, "template": fields}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (template(priorityClassName="No Such"), "spec.template.spec.priorityClassName: Invalid value"),
        (template(labels={"a b": "c"}), "spec.template.labels: Invalid value"),
        (template(annotations={"a b": "c"}), "annotations: Invalid value"),
        (
            {"brokers": {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}},
            "spec.template.spec.containers[0].resources.requests: Invalid value",
        ),
        (
            {"brokers": {"resources": {"requests": {"cpus": "1"}}}},
            "must be a standard resource type or fully qualified",
        ),
        (
            template(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "no key", "labelSelector": {}}]}}),
            "topologyKey: Invalid value",
        ),
    ],
)  # fmt: skip
def test_a_child_that_is_refused_is_said_with_its_field_and_the_others_are_made(
    api: Api, operator: OperatorThread, spec: dict[str, Any], words: str
) -> None:
    """The Cluster was Pending for ever, "Waiting for the operator", and the refusal stood in the log."""
    api.resource("Cluster", "news", spec)
    message = api.says("Cluster", "news", "Stalled", words)
    assert message.startswith("StatefulSet news-brokers: ")
    assert api.conditions("Cluster", "news")["Ready"]["reason"] == "RefusedByKubernetes"
    for kind, name in (
        ("ConfigMap", "news-config"),
        ("Service", "news-bootstrap"),
        ("PodDisruptionBudget", "news-brokers"),
    ):
        assert api.get(kind, name) is not None, "the other children go on"
    wait_until(lambda: any(words in note for _, note in api.notes("news")), "an event that says so")


def test_a_change_that_is_refused_is_said_and_taking_it_back_heals(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    api.resource("Cluster", "news", {**template(labels={"a b": "c"}), "config": {"num.network.threads": "4"}})
    api.says("Cluster", "news", "Stalled", "spec.template.labels: Invalid value")
    wait_until(lambda: operator.kafka.properties.get("num.network.threads") == "4", "the rest of the change")
    api.resource("Cluster", "news", SPEC)
    api.ready("Cluster", "news")
    assert "Stalled" not in api.conditions("Cluster", "news")


def test_what_is_refused_is_not_asked_again_each_moment(api: Api) -> None:
    slow = replace(QUICK, cluster_ready_seconds=3600.0)
    with OperatorThread(api.namespace, slow):
        api.resource("Cluster", "news", template(labels={"a b": "c"}))
        api.says("Cluster", "news", "Stalled", "spec.template.labels: Invalid value")
        generation = api.one("Cluster", "news")["metadata"]["generation"]
        api.resource("Cluster", "news", {**template(labels={"a b": "c"}), "paused": False})
        asked = [entry for entry in api.server.writes() if is_apply_of(entry, api.namespace)]
        assert len(asked) <= 3, generation


def is_apply_of(entry: dict[str, Any], namespace: str) -> bool:
    thing = entry.get("objectRef", {})
    return bool(thing.get("namespace") == namespace and thing.get("resource") == "statefulsets")


@pytest.fixture
def storage_class(api: Api) -> Iterator[str]:
    """One that cannot expand volumes."""
    name = f"fixed-{api.namespace[-6:]}"
    body = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    api.create({**body, "provisioner": "example.org/none", "allowVolumeExpansion": False})
    yield name
    api.delete("StorageClass", name)


def test_a_volume_that_cannot_grow_is_said(
    api: Api, operator: OperatorThread, kubelet: Kubelet, storage_class: str
) -> None:
    """The Cluster said Ready, of the old generation."""
    storage = {"size": "1Gi", "storageClass": storage_class}
    api.resource("Cluster", "news", {"brokers": {"storage": storage}})
    kubelet.run("news")
    api.ready("Cluster", "news")
    changed = {"brokers": {"storage": {**storage, "size": "2Gi"}}, "config": {"num.network.threads": "4"}}
    api.resource("Cluster", "news", changed)
    message = api.says("Cluster", "news", "Stalled", "storageclass that provisions the pvc must support resize")
    assert message.startswith("PersistentVolumeClaim data-news-brokers-0 cannot grow to 2Gi: ")
    wait_until(lambda: operator.kafka.properties.get("num.network.threads") == "4", "the rest of the change")


def test_storage_that_is_refused_behind_the_schema_is_said(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    """A Cluster that an older definition let change: Kubernetes refuses to change a StatefulSet's volumes."""
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    crd = api.one("CustomResourceDefinition", "clusters.broadsheet.io")
    brokers = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["brokers"]
    rules = brokers.pop("x-kubernetes-validations")
    path = api.path("CustomResourceDefinition", "clusters.broadsheet.io")
    api.call("PUT", path, crd)
    try:
        wait_until(lambda: without_rule(api), "the definition to be taken up", every_s=0.1)
        api.says("Cluster", "news", "Stalled", "updates to statefulset spec for fields other than")
    finally:
        crd = api.one("CustomResourceDefinition", "clusters.broadsheet.io")
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"]["brokers"]["x-kubernetes-validations"] = rules
        api.call("PUT", path, crd)


def without_rule(api: Api) -> bool:
    from e2e.apiserver.server import Refused

    try:
        api.resource("Cluster", "news", {"brokers": {}})
    except Refused:
        return False
    return True


def test_a_pod_that_the_stateful_set_cannot_create_is_said(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    """A quota for two of three brokers: "broker 1 starting" for ever, and the reason in an event of another object."""
    api.resource("Cluster", "news", {"brokers": {"replicas": 2, "storage": {"size": "1Gi"}}})
    wait_until(lambda: api.get("StatefulSet", "news-brokers"), "the StatefulSet")
    kubelet.pod("news-brokers-0", api.one("StatefulSet", "news-brokers")["spec"]["template"])
    error = 'pods "news-brokers-1" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1'
    failed_create(api, "news", "news-brokers-1", error)
    message = api.says("Cluster", "news", "Stalled", "exceeded quota: few")
    assert message == f"broker 1: {error}"
    wait_until(lambda: states(api) == ["Running", "Failed"], "broker 0 to be seen")
    wait_until(lambda: any("exceeded quota" in note for _, note in api.notes("news")), "an event that says so")
    operator.kafka.pods = lambda: [0, 1]
    kubelet.run("news")
    api.ready("Cluster", "news")


def states(api: Api) -> list[str]:
    return [broker["state"] for broker in api.one("Cluster", "news")["status"]["brokers"]]


def failed_create(api: Api, cluster: str, pod: str, error: str) -> None:
    """What the StatefulSet controller does."""
    now = api.call("GET", api.path("Namespace", api.namespace))["metadata"]["creationTimestamp"]
    owner = api.one("StatefulSet", f"{cluster}-brokers")
    reference = {"kind": "StatefulSet", "namespace": api.namespace, "name": f"{cluster}-brokers"}
    message = f"create Pod {pod} in StatefulSet {cluster}-brokers failed error: {error}"
    path = api.path("CoreEvent")
    api.call("POST", path, {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{pod}.1", "namespace": api.namespace},
        "involvedObject": {**reference, "uid": owner["metadata"]["uid"], "apiVersion": "apps/v1"},
        "reason": "FailedCreate", "message": message, "type": "Warning",
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    })  # fmt: skip


def test_a_child_that_the_api_server_fails_to_take_is_said_and_tried_again(api: Api, operator: OperatorThread) -> None:
    """An admission webhook that does not answer: 500 each time. Nothing said so."""
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": api.namespace},
        "webhooks": [
            {
                "name": "nobody.example.org",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}},
                "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["*"]}],
            }
        ],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    api.call("POST", path, hook)
    try:
        api.resource("Cluster", "news", SPEC)
        wait_until(lambda: "failed calling webhook" in ready_message(api), "the failure to be said", 20, 0.1)
        assert "Stalled" not in api.conditions("Cluster", "news"), "it may become well by itself"
        assert api.get("ConfigMap", "news-config") is not None
    finally:
        api.call("DELETE", f"{path}/{api.namespace}")
    wait_until(lambda: api.get("StatefulSet", "news-brokers"), "the StatefulSet at the next try", 20)


def ready_message(api: Api) -> str:
    return str(api.conditions("Cluster", "news").get("Ready", {}).get("message", ""))
