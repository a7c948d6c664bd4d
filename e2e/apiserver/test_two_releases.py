"""Two releases of the operator over the same namespaces: one looks after a Cluster, the other stands by."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from broadsheet_operator.handlers.ownership import OPERATOR
from e2e.apiserver.operators import QUICK, Kubelet, OperatorThread
from e2e.apiserver.server import REPOSITORY, Api, programs
from tests.support.waiting import wait_until

SPEC: dict[str, Any] = {"brokers": {"storage": {"size": "1Gi"}}}
BRIEF = replace(QUICK, lease_seconds=2.0, renew_deadline_seconds=1.5, lease_retry_seconds=0.2, held_seconds=0.2)


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


def test_an_upgrade_of_the_release_keeps_its_clusters(api: Api, kubelet: Kubelet) -> None:
    for image in ("broker:1", "broker:2"):
        with OperatorThread(api.namespace, BRIEF, image=image):
            api.resource("Cluster", "news", SPEC)
            kubelet.run("news")
            api.ready("Cluster", "news")
            assert owner(api) == f"{api.namespace}/broadsheet"
    assert all(reason != "AnotherOperator" for reason, _ in api.notes("news"))


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
