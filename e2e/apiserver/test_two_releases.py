"""Two releases of the operator over the same namespaces: one looks after a Cluster, the other stands by."""

from __future__ import annotations

import subprocess
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from broadsheet_operator.handlers.ownership import OPERATOR
from e2e.apiserver.operators import QUICK, Kubelet, OperatorThread
from e2e.apiserver.server import REPOSITORY, Api, programs
from tests.support.waiting import wait_until

SPEC: dict[str, Any] = {"brokers": {"storage": {"size": "1Gi"}}}
BRIEF = replace(QUICK, lease_seconds=5.0, renew_deadline_seconds=4.0, lease_retry_seconds=0.2, held_seconds=0.2)


def owner(api: Api) -> str:
    return str(api.one("Cluster", "news")["metadata"].get("annotations", {}).get(OPERATOR, ""))


def test_the_second_release_stands_by_and_takes_over_when_the_first_is_gone(api: Api, kubelet: Kubelet) -> None:
    """Both led and both acted, and the only sign was a conflict with a traceback."""
    with OperatorThread(api.namespace, BRIEF, lease_name="first") as first:
        api.resource("Cluster", "news", SPEC)
        kubelet.run("news")
        api.ready("Cluster", "news")
        assert owner(api) == f"{api.namespace}/first"
        with OperatorThread(api.namespace, BRIEF, lease_name="second", image="broker:2") as second:
            said = f"the operator with the Lease {api.namespace}/first looks after this Cluster, and this one"
            wait_until(lambda: any(said in note for _, note in api.notes("news")), "an event that says so")
            api.resource("Topic", "orders", {"cluster": "news", "partitions": 1})
            api.ready("Topic", "orders")
            assert "orders" in first.kafka.topics and second.kafka.calls == []
            first.stop()
            wait_until(lambda: owner(api) == f"{api.namespace}/second", "the second release to take over", 30, 0.1)
            api.resource("Topic", "later", {"cluster": "news", "partitions": 1})
            api.ready("Topic", "later")
            assert "later" in second.kafka.topics
            assert [note for reason, note in api.notes("news") if reason == "AnotherOperator"] != []


def test_a_release_that_was_renamed_takes_its_clusters_over_at_once(api: Api, kubelet: Kubelet) -> None:
    """It waited for two lease durations, and warned of an operator that had given its Lease back before."""
    patient = replace(BRIEF, lease_seconds=60.0)
    with OperatorThread(api.namespace, patient, lease_name="first"):
        api.resource("Cluster", "news", SPEC)
        kubelet.run("news")
        api.ready("Cluster", "news")
    with OperatorThread(api.namespace, patient, lease_name="second"):
        wait_until(lambda: owner(api) == f"{api.namespace}/second", "the new release to take over", 20, 0.1)
        words = f"before it was the one with the Lease {api.namespace}/first, which nobody holds"
        wait_until(lambda: any(words in note for _, note in api.notes("news")), "an event that says so", 20, 0.1)
        assert {reason for reason, _ in api.notes("news")} & {"AnotherOperator", "OperatorGone"} == set()


def test_a_lease_that_is_given_back_in_an_upgrade_is_waited_for(api: Api, kubelet: Kubelet) -> None:
    patient = replace(BRIEF, lease_seconds=60.0)
    with OperatorThread(api.namespace, patient, lease_name="first") as first:
        api.resource("Cluster", "news", SPEC)
        kubelet.run("news")
        api.ready("Cluster", "news")
        with OperatorThread(api.namespace, patient, lease_name="second"):
            wait_until(lambda: "AnotherOperator" in dict(api.notes("news")), "it to stand by", 20, 0.1)
            first.stop()
            words = f"no operator holds the Lease {api.namespace}/first any more"
            wait_until(lambda: words in dict(api.notes("news")).get("OperatorGone", ""), "other words", 20, 0.1)
            with OperatorThread(api.namespace, patient, lease_name="first"):
                api.resource("Topic", "orders", {"cluster": "news", "partitions": 1})
                api.ready("Topic", "orders")
                assert owner(api) == f"{api.namespace}/first"


def test_an_upgrade_of_the_release_keeps_its_clusters(api: Api, kubelet: Kubelet) -> None:
    for image in ("broker:1", "broker:2"):
        with OperatorThread(api.namespace, BRIEF, image=image):
            api.resource("Cluster", "news", SPEC)
            kubelet.run("news")
            api.ready("Cluster", "news")
            assert owner(api) == f"{api.namespace}/broadsheet"
    assert all(reason != "AnotherOperator" for reason, _ in api.notes("news"))


def test_a_second_release_says_that_it_is_not_alone_before_there_is_a_cluster(
    api: Api,
) -> None:
    """Argo CD renders charts without a cluster to look at, so that no check of Helm's can notice it."""
    with OperatorThread(api.namespace, BRIEF, lease_name="first") as first:
        with OperatorThread(api.namespace, BRIEF, lease_name="second") as second:
            for one, other in ((first, "second"), (second, "first")):
                assert one.process is not None and one.process.operator is not None
                wait_until(lambda one=one: neighbours(one), "the other one to be noticed", 30, 0.1)
                name = f"{api.namespace}/{other}"
                assert neighbours(one) == {name: f"the namespace {api.namespace}"}
                assert f'broadsheet_operator_other{{lease="{name}"}} 1.0' in scrape(one)
            words = f"the operator with the Lease {api.namespace}/first watches the namespace {api.namespace}, too"
            wait_until(lambda: any(words in note for _, note in api.notes("second")), "an event of its Lease", 20, 0.1)
            assert sum(reason == "AnotherOperator" for reason, _ in api.notes("second")) == 1, "once"
        wait_until(lambda: neighbours(first) == {}, "the second one to be forgotten", 30, 0.1)
    with OperatorThread("default", BRIEF, lease_name="third", lease_namespace=api.namespace) as third:
        assert third.process is not None and third.process.operator is not None
        looks = [api.one("Lease", "third")["metadata"]["annotations"]["broadsheet.io/watches"]]
        assert looks == ["default"] and neighbours(third) == {}


def neighbours(one: OperatorThread) -> dict[str, str]:
    assert one.process is not None
    return dict(one.process.operator.neighbours.others) if one.process.operator else {}


def scrape(one: OperatorThread) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{one.http_port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def helm(api: Api, release: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [programs() / "helm", "install", release, REPOSITORY / "charts/broadsheet", "-n", api.namespace]
    arguments = [str(part) for part in command]
    return subprocess.run([*arguments, *options], text=True, capture_output=True, timeout=60)


@pytest.fixture
def from_helm(api: Api) -> Any:
    """The definitions as the release `other` has installed them; put back afterwards."""
    names = [f"{plural}.broadsheet.io" for plural in ("clusters", "topics", "consumergroups")]
    owned = {"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": "elsewhere"}
    for name in names:
        api.patch("CustomResourceDefinition", name, {"metadata": {"annotations": owned}})
    yield
    for name in names:
        api.patch("CustomResourceDefinition", name, {"metadata": {"annotations": dict.fromkeys(owned)}})


def test_a_second_helm_release_is_told_what_to_set(api: Api, from_helm: None) -> None:
    done = helm(api, "mine")
    assert done.returncode != 0
    words = "belong to the release other in the namespace elsewhere: install this release with --set crds.install=false"
    assert words in done.stderr
    done = helm(api, "mine", "--set", "crds.install=false")
    assert done.returncode == 0, done.stderr
    assert "symbolic link" not in done.stderr + done.stdout


def test_definitions_that_helm_has_not_installed_are_named(api: Api) -> None:
    done = helm(api, "mine")
    assert "were not installed by Helm: install this release with --set crds.install=false" in done.stderr
