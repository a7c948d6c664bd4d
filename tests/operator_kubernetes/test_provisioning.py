"""What a Cluster is made of: rendered from plain values."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers import provisioning
from broadsheet_operator.reconcilers.properties import ANNOTATION, plan_live_change
from broadsheet_operator.reconcilers.provisioning import Existing, Settings

SETTINGS = Settings(image="broker:1")
UID = "00000000-0000-4000-8000-000000000001"


def cluster(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> Cluster:
    metadata = {"name": "news", "namespace": "paper", "uid": UID}
    body = {"apiVersion": "broadsheet.io/v1alpha1", "kind": "Cluster", "metadata": metadata}
    return Cluster.model_validate({**body, "spec": spec or {"brokers": {}}, **({"status": status} if status else {})})


def rendered(spec: dict[str, Any] | None = None, existing: Existing | None = None) -> dict[str, dict[str, Any]]:
    return {c["kind"]: c for c in provisioning.children(cluster(spec), existing or Existing(), SETTINGS)
            if c["metadata"]["name"] != "news-bootstrap"}  # fmt: skip


def properties(spec: dict[str, Any] | None = None) -> dict[str, str]:
    text = rendered(spec)["ConfigMap"]["data"]["server.properties"]
    return dict(line.split("=", 1) for line in text.splitlines())


def test_children_are_owned_by_the_cluster_and_carry_its_label() -> None:
    children = provisioning.children(cluster(), Existing(), SETTINGS)
    assert [c["kind"] for c in children] == [
        "ServiceAccount", "ConfigMap", "Service", "Service", "NetworkPolicy", "PodDisruptionBudget", "StatefulSet",
    ]  # fmt: skip
    for child in children:
        assert child["metadata"]["namespace"] == "paper"
        assert child["metadata"]["labels"]["broadsheet.io/cluster"] == "news"
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Cluster", UID, True)


def test_an_external_cluster_has_no_children() -> None:
    assert provisioning.children(cluster({"external": {"bootstrapServers": ["k:9092"]}}), Existing(), SETTINGS) == []


def test_a_pod_has_no_rights_it_does_not_need() -> None:
    pod = rendered()["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["name"] == "kafka"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert rendered()["StatefulSet"]["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_every_voter_is_named_and_factors_follow_the_number_of_brokers() -> None:
    one, three = properties(), properties({"brokers": {"replicas": 3}})
    assert one["controller.quorum.voters"] == "0@news-brokers-0.news-brokers.paper.svc:9093"
    assert one["offsets.topic.replication.factor"] == "1"
    assert three["controller.quorum.voters"].count("@") == 3
    assert (three["offsets.topic.replication.factor"], three["min.insync.replicas"]) == ("3", "2")


def test_what_a_person_declares_wins_and_null_is_left_out() -> None:
    config = {"min.insync.replicas": 1, "log.retention.ms": None, "num.partitions": "7"}
    given = properties({"brokers": {"replicas": 3}, "config": config})
    assert given["min.insync.replicas"] == "1"
    assert given["num.partitions"] == "7"
    assert "log.retention.ms" not in given


def inputs(spec: dict[str, Any]) -> str:
    return str(rendered(spec)["StatefulSet"]["spec"]["template"]["metadata"]["annotations"][provisioning.INPUTS])


BASE: dict[str, Any] = {"brokers": {"storage": {"size": "1Gi"}}}


@pytest.mark.parametrize(
    ("spec", "restarts"),
    [
        ({"brokers": {"storage": {"size": "2Gi"}}}, False),
        ({**BASE, "config": {"log.retention.ms": "1"}}, False),
        ({**BASE, "allowedNamespaces": [{"namespace": "a"}]}, False),
        ({**BASE, "podDisruptionBudget": {"maxUnavailable": 0}}, False),
        ({"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}}, None),
        ({**BASE, "config": {"log.roll.hours": "1"}}, True),
        ({**BASE, "image": "broker:2"}, True),
        ({**BASE, "listeners": [{"name": "plain", "port": 9095}]}, True),
        ({"brokers": {"storage": {"size": "1Gi"}, "resources": {"limits": {"memory": "1Gi"}}}}, True),
        ({"brokers": {"storage": {"size": "1Gi"}, "template": {"labels": {"a": "b"}}}}, True),
    ],
)
def test_only_what_a_broker_is_started_with_restarts_it(spec: dict[str, Any], restarts: bool | None) -> None:
    if restarts is not None:
        assert (inputs(spec) != inputs(BASE)) == restarts


def test_a_newer_operator_leaves_a_running_template_alone() -> None:
    old = rendered(BASE)["StatefulSet"]
    old["spec"]["template"]["spec"]["containers"][0]["args"] = ["as an older operator wrote them"]
    new = rendered(BASE, Existing(stateful_set=old))["StatefulSet"]
    assert new["spec"]["template"] == old["spec"]["template"]
    changed = rendered({**BASE, "image": "broker:2"}, Existing(stateful_set=old))["StatefulSet"]
    assert changed["spec"]["template"]["spec"]["containers"][0]["args"] != ["as an older operator wrote them"]


def test_a_cluster_keeps_the_image_it_was_created_with() -> None:
    old = rendered(BASE)["StatefulSet"]
    newer = Settings(image="broker:9")
    children = provisioning.children(cluster({**BASE, "config": {"log.roll.hours": "1"}}), Existing(old), newer)
    assert children[-1]["spec"]["template"]["spec"]["containers"][0]["image"] == "broker:1"


def claim(size: str, identity: str = "") -> dict[str, Any]:
    annotations = {provisioning.CLUSTER_ID: identity} if identity else {}
    metadata = {"name": "data-news-brokers-0", "annotations": annotations}
    return {"metadata": metadata, "spec": {"resources": {"requests": {"storage": size}}}}


def test_volumes_grow_and_never_shrink() -> None:
    brokers = cluster({"brokers": {"storage": {"size": "2Gi"}}}).spec.brokers
    assert brokers is not None
    assert provisioning.claims_to_grow(brokers, (claim("1Gi"), claim("2Gi"), claim("3Gi"))) == [
        ("data-news-brokers-0", "2Gi")
    ]


def test_volumes_that_are_there_say_which_cluster_this_is() -> None:
    fresh = provisioning.cluster_id(cluster(), Existing())
    assert len(fresh) == 22
    assert fresh == provisioning.cluster_id(cluster(), Existing()), "made from the uid: the same after a crash"
    assert provisioning.cluster_id(cluster(), Existing(claims=(claim("1Gi", "kept"),))) == "kept"
    assert provisioning.cluster_id(cluster(status={"clusterId": "told"}), Existing()) == "told"


def config_map(keys: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {ANNOTATION: keys}}}


@pytest.mark.parametrize(
    ("config", "remembered", "observed", "changes", "resets"),
    [
        ({}, "", {}, {}, ()),
        ({"log.retention.ms": 5}, "", {}, {"log.retention.ms": "5"}, ()),
        ({"log.retention.ms": 5}, "log.retention.ms", {"log.retention.ms": "5"}, {}, ()),
        ({"log.retention.ms": 5}, "", {"log.retention.ms": "6"}, {"log.retention.ms": "5"}, ()),
        ({}, "log.retention.ms", {"log.retention.ms": "5"}, {}, ("log.retention.ms",)),
        ({}, "log.retention.ms", {}, {}, ()),
        ({}, "", {"log.retention.ms": "5"}, {}, ()),
        ({"log.retention.ms": None}, "log.retention.ms", {"log.retention.ms": "5"}, {}, ()),
        ({"log.roll.hours": 5}, "", {}, {}, ()),
    ],
)
def test_live_properties(
    config: dict[str, Any], remembered: str, observed: dict[str, str | None], changes: dict[str, str], resets: Any
) -> None:
    plan = plan_live_change(cluster({"brokers": {}, "config": config}), config_map(remembered), observed)
    assert (plan.changes, plan.resets) == (changes, resets)


def test_live_property_that_somebody_else_sets_from_now_on_is_left_as_it_is() -> None:
    handed_over = cluster({"brokers": {}, "unmanagedConfig": ["log.retention.ms"]})
    assert not plan_live_change(handed_over, config_map("log.retention.ms"), {"log.retention.ms": "5"})


@pytest.mark.parametrize(
    ("asked", "made_with", "brokers", "words"),
    [
        (1, 0, 1, ""),
        (3, 0, 3, ""),
        (3, 3, 3, ""),
        (3, 1, 1, "brokers.replicas is 3 and the cluster was made with 1"),
        (1, 3, 3, "brokers.replicas is 1 and the cluster was made with 3"),
    ],
)
def test_the_number_of_brokers_stays_what_the_cluster_was_made_with(
    asked: int, made_with: int, brokers: int, words: str
) -> None:
    """The brokers are the quorum's voters: two new ones beside an old one would be a majority that knows nothing."""
    given = cluster({"brokers": {"replicas": asked}})
    held, said = provisioning.held_back(given, {"spec": {"replicas": made_with}} if made_with else None)
    assert held.spec.brokers is not None
    assert held.spec.brokers.replicas == brokers
    assert said.startswith(words)
    assert bool(said) == bool(words)
