"""What a Cluster is made of: rendered from plain values."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers import exchange_state, provisioning
from broadsheet_operator.reconcilers.properties import ANNOTATION, MIN_ISR, plan_live_change
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


def test_factors_follow_the_number_of_brokers() -> None:
    one, three = properties(), properties({"brokers": {"replicas": 3}})
    assert one["offsets.topic.replication.factor"] == "1"
    assert (three["offsets.topic.replication.factor"], three["min.insync.replicas"]) == ("3", "2")


FIRST = "broadsheet.initial.controllers"


def formed(replicas: int, **spec: Any) -> dict[str, Any]:
    """server.properties of a Cluster whose quorum was seen."""
    config_map = {"metadata": {"annotations": {provisioning.QUORUM: provisioning.FORMED}}}
    children = rendered({"brokers": {"replicas": replicas, **spec}}, Existing(config_map=config_map))
    text = children["ConfigMap"]["data"]["server.properties"]
    assert children["ConfigMap"]["metadata"]["annotations"][provisioning.QUORUM] == provisioning.FORMED
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.parametrize(("replicas", "voters"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_first_voters_are_named_until_the_quorum_was_seen(replicas: int, voters: int) -> None:
    """An empty volume that comes back must ask, and never begin a second quorum or pretend to be what it was."""
    storage = {"storage": {"size": "1Gi"}}
    new = properties({"brokers": {"replicas": replicas, **storage}})
    assert "controller.quorum.voters" not in new
    assert len(new["controller.quorum.bootstrap.servers"].split(",")) == voters
    first = new[FIRST].split(",")
    assert len({item.rpartition(":")[2] for item in first}) == voters, "each has a directory id of its own"
    assert first[0].startswith("0@news-brokers-0.news-brokers.paper.svc:9093:")
    later = formed(replicas, **storage)
    assert (FIRST in later) == (replicas == 1), "one broker alone has nobody to ask"


def test_brokers_without_lasting_volumes_form_again_only_where_one_of_them_votes() -> None:
    assert FIRST in formed(2)
    assert FIRST not in formed(3)


def test_volumes_remember_that_there_was_a_quorum() -> None:
    claim = {"metadata": {"name": "data-0", "annotations": {provisioning.QUORUM: provisioning.FORMED}}}
    assert provisioning.is_formed(Existing(claims=(claim,)))
    config_map: dict[str, Any] = {"metadata": {"name": "news-config"}}
    existing = Existing(claims=(claim, {"metadata": {"name": "data-1"}}), config_map=config_map)
    marks = [(item["metadata"]["name"], marks) for item, marks in provisioning.to_mark(existing, "broadsheet")]
    formed = {provisioning.QUORUM: provisioning.FORMED}
    of_ours = {**formed, exchange_state.ENGINE: "broadsheet"}
    assert marks == [("data-0", of_ours), ("data-1", of_ours), ("news-config", formed)]
    assert not provisioning.is_formed(Existing(claims=({"metadata": {}},), config_map=config_map))


def test_a_fixed_quorum_stays_as_it_was_made() -> None:
    text = "cluster.id=a\ncontroller.quorum.voters=0@there:9093\n"
    config_map = {"metadata": {}, "data": {"server.properties": text}}
    kept = rendered(None, Existing(config_map=config_map))["ConfigMap"]["data"]["server.properties"]
    assert "controller.quorum.voters=0@there:9093\n" in kept
    assert "bootstrap.servers" not in kept


def test_a_drained_brokers_volume_goes_by_the_policy() -> None:
    def when_scaled(policy: dict[str, str]) -> str:
        spec = rendered({"brokers": {"storage": {"size": "1Gi", **policy}}})["StatefulSet"]["spec"]
        assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
        return str(spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"])

    assert when_scaled({}) == "Retain"
    assert when_scaled({"deletionPolicy": "Delete"}) == "Delete"


def test_the_budget_is_closed_while_a_stop_would_hurt() -> None:
    def budget(evictable: int | None) -> int:
        children = provisioning.children(cluster({"brokers": {"replicas": 3}}), Existing(), SETTINGS, evictable)
        return next(int(c["spec"]["maxUnavailable"]) for c in children if c["kind"] == "PodDisruptionBudget")

    assert [budget(None), budget(1), budget(0)] == [1, 1, 0]


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
        ({"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}}, True),
        ({**BASE, "config": {"log.roll.hours": "1"}}, True),
        ({**BASE, "image": "broker:2"}, True),
        ({**BASE, "listeners": [{"name": "plain", "port": 9095}]}, True),
        ({"brokers": {"storage": {"size": "1Gi"}, "resources": {"limits": {"memory": "1Gi"}}}}, True),
        ({"brokers": {"storage": {"size": "1Gi"}, "template": {"labels": {"a": "b"}}}}, True),
    ],
)
def test_only_what_a_broker_is_started_with_restarts_it(spec: dict[str, Any], restarts: bool) -> None:
    assert (inputs(spec) != inputs(BASE)) == restarts


def test_a_fourth_broker_restarts_none() -> None:
    three, four = ({"brokers": {"replicas": n, "storage": {"size": "1Gi"}}} for n in (3, 4))
    assert inputs(three) == inputs(four)


def test_a_broker_that_is_taken_away_while_it_starts_does_not_use_up_its_grace_period() -> None:
    """As the first process of its namespace it ignored SIGTERM until Python had a handler: the pod stayed for 90 s."""
    assert rendered()["StatefulSet"]["spec"]["template"]["spec"]["shareProcessNamespace"] is True


JSON_LOGS = "--override=broadsheet.log.format=json"


def test_pods_log_json_unless_the_cluster_says_otherwise() -> None:
    def arguments(spec: dict[str, Any]) -> list[str]:
        found: list[str] = rendered(spec)["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["args"]
        return found

    assert JSON_LOGS in arguments({"brokers": {}})
    text = {"brokers": {}, "config": {"broadsheet.log.format": "text"}}
    assert JSON_LOGS not in arguments(text)
    assert properties(text)["broadsheet.log.format"] == "text"


def test_a_newer_operator_leaves_a_running_template_alone() -> None:
    old = rendered(BASE)["StatefulSet"]
    old["spec"]["template"]["spec"]["containers"][0]["args"] = ["as an older operator wrote them"]
    old["metadata"]["annotations"][provisioning.RENDERED] = "by another release"
    new = rendered(BASE, Existing(stateful_set=old))["StatefulSet"]
    assert new["spec"]["template"] == old["spec"]["template"]
    assert new["metadata"]["annotations"][provisioning.RENDERED] == "by another release"


def test_a_template_that_somebody_has_edited_is_put_back() -> None:
    """It was kept as if an older operator had rendered it."""
    fresh = rendered(BASE)["StatefulSet"]
    edited = rendered(BASE)["StatefulSet"]
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/nothing:none"
    assert rendered(BASE, Existing(stateful_set=edited))["StatefulSet"] == fresh


def image_of(spec: dict[str, Any], existing: dict[str, Any] | None, operator: str = "broker:1") -> str:
    children = provisioning.children(cluster(spec), Existing(stateful_set=existing), Settings(image=operator))
    image: str = children[-1]["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def test_a_cluster_keeps_the_image_that_an_operator_has_chosen() -> None:
    running = rendered(BASE)["StatefulSet"]
    assert image_of(BASE, running, "broker:2") == "broker:1", "a newer operator restarts no broker"
    assert image_of({**BASE, "image": "mine:7"}, running) == "mine:7"


def test_an_image_that_is_taken_back_goes() -> None:
    """The StatefulSet kept the broken image for ever, since the default was read back from it."""
    broken = rendered({**BASE, "image": "localhost/nothing:none"})["StatefulSet"]
    assert image_of(BASE, broken) == "broker:1"
    assert image_of(BASE, broken, "broker:2") == "broker:2", "as a new Cluster would have it"


def test_the_image_of_a_cluster_from_before_choices_were_remembered_stays() -> None:
    running = rendered(BASE)["StatefulSet"]
    del running["metadata"]["annotations"][provisioning.CHOSEN]
    assert image_of(BASE, running, "broker:2") == "broker:1"


def test_a_host_may_be_the_rack() -> None:
    """Two topologySpreadConstraints with one key are refused by the API server."""
    spec = {"brokers": {"rack": {"topologyKey": "kubernetes.io/hostname"}}}
    constraints = rendered(spec)["StatefulSet"]["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == ["kubernetes.io/hostname"]
    both = rendered(BASE)["StatefulSet"]["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in both] == [provisioning.ZONE, "kubernetes.io/hostname"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "broker:2"}, "image changed from broker:1 to broker:2"),
        ({"config": {"log.roll.hours": "5"}}, "log.roll.hours set to 5"),
        ({"brokers": {"resources": {"requests": {"cpu": 1}}}}, 'resources set to {"requests": {"cpu": 1}}'),
        ({"config": {"ssl.key.password": "x"}}, "a property changed whose value is a secret"),
        (
            {"listeners": [{"name": "plain", "port": 9095}]},
            "advertised listeners changed from PLAIN://$(POD_NAME).news-brokers.paper.svc:9092,CONTROLLER://",
        ),
    ],
)
def test_a_restart_says_which_difference_it_is_for(change: dict[str, Any], words: str) -> None:
    before = rendered(BASE)["StatefulSet"]
    pod = before["spec"]["template"]
    after = rendered({**BASE, **change}, Existing(stateful_set=before))["StatefulSet"]
    assert provisioning.pod_is_outdated(pod, after) == "PodHasOldRevision"
    assert provisioning.why_outdated(pod, after).startswith(words)
    assert "x" not in pod["metadata"]["annotations"].values()


def test_a_property_that_changes_or_goes_is_named_with_its_values() -> None:
    first = rendered({**BASE, "config": {"log.roll.hours": "5", "log.dirs.max": "1"}})["StatefulSet"]
    second = rendered({**BASE, "config": {"log.roll.hours": "7"}}, Existing(stateful_set=first))["StatefulSet"]
    words = provisioning.why_outdated(first["spec"]["template"], second)
    assert words == "log.dirs.max 1 removed; log.roll.hours changed from 5 to 7"
    no_memory = {"metadata": {"annotations": {}}}
    assert provisioning.why_outdated(no_memory, second) == "", "a pod from before inputs were remembered"


def claim(size: str, cluster_id: str | None = None) -> dict[str, Any]:
    annotations = {"broadsheet.io/cluster-id": cluster_id} if cluster_id else {}
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
    observed = {MIN_ISR: "1", **observed}
    plan = plan_live_change(cluster({"brokers": {}, "config": config}), config_map(remembered), observed)
    assert (plan.changes, plan.resets) == (changes, resets)


@pytest.mark.parametrize(
    ("spec", "present", "changes"),
    [
        ({"brokers": {"replicas": 3}}, 1, {MIN_ISR: "2"}),
        ({"brokers": {"replicas": 3}}, 3, {MIN_ISR: "2"}),
        ({"brokers": {"replicas": 1}}, 3, {MIN_ISR: "2"}),
        ({"brokers": {"replicas": 1}}, 1, {}),
        ({"brokers": {"replicas": 3}, "config": {MIN_ISR: 3}}, 3, {MIN_ISR: "3"}),
        ({"brokers": {"replicas": 3}, "unmanagedConfig": [MIN_ISR]}, 3, {}),
        ({"external": {"bootstrapServers": ["there:9092"]}}, 3, {}),
    ],
)
def test_min_isr_of_the_cluster_follows_the_number_of_brokers(
    spec: dict[str, Any], present: int, changes: dict[str, str]
) -> None:
    """It was made with one broker: what its configuration says since means nothing to it (KIP-966)."""
    brokers = cluster(spec, {"replicas": present})
    assert plan_live_change(brokers, config_map(""), {MIN_ISR: "1"}).changes == changes


def test_min_isr_that_is_declared_no_more_goes_to_what_suits_the_brokers() -> None:
    """It cannot be taken back: a cluster with eligible leader replicas refuses that."""
    plan = plan_live_change(cluster({"brokers": {"replicas": 3}}), config_map(MIN_ISR), {MIN_ISR: "3"})
    assert (plan.changes, plan.resets) == ({MIN_ISR: "2"}, ())


def test_live_property_that_somebody_else_sets_from_now_on_is_left_as_it_is() -> None:
    handed_over = cluster({"brokers": {}, "unmanagedConfig": ["log.retention.ms"]})
    observed: dict[str, str | None] = {"log.retention.ms": "5", MIN_ISR: "1"}
    assert not plan_live_change(handed_over, config_map("log.retention.ms"), observed)


STATIC = {"metadata": {}, "data": {"server.properties": "controller.quorum.voters=0@there:9093\n"}}
UNFORMED: dict[str, Any] = {"metadata": {}, "data": {"server.properties": ""}}
FORMED = {"metadata": {"annotations": {provisioning.QUORUM: provisioning.FORMED}}}


@pytest.mark.parametrize(
    ("asked", "running", "config_map", "brokers", "words"),
    [
        (3, 0, None, 3, ""),
        (3, 3, FORMED, 3, ""),
        (3, 1, FORMED, 3, ""),
        (1, 3, FORMED, 3, ""),
        (3, 1, UNFORMED, 1, "brokers.replicas is 3; the cluster of 1 has not formed its metadata quorum yet"),
        (1, 3, UNFORMED, 3, "brokers.replicas is 1; the cluster of 3 has not formed its metadata quorum yet"),
        (3, 1, STATIC, 1, "the metadata quorum of this cluster is fixed: set brokers.replicas back to 1"),
    ],
)
def test_a_cluster_grows_at_once_and_shrinks_when_it_is_drained(
    asked: int, running: int, config_map: dict[str, Any] | None, brokers: int, words: str
) -> None:
    given = cluster({"brokers": {"replicas": asked}})
    stateful_set = {"spec": {"replicas": running}} if running else None
    held, said = provisioning.held_back(given, Existing(stateful_set, (), config_map))
    assert held.spec.brokers is not None
    assert held.spec.brokers.replicas == brokers
    assert said.startswith(words)
    assert bool(said) == bool(words)
