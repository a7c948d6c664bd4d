"""Which broker may restart, and who may declare what: tables of plain values."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.topic import Topic
from broadsheet_operator.reconcilers.access import cluster_of, refusal
from broadsheet_operator.reconcilers.rollout import PodView, next_step


def pod(
    number: int, *, ready: bool = True, outdated: str | None = "PodHasOldRevision", deleting: bool = False
) -> PodView:
    return PodView(number, f"news-brokers-{number}", f"uid-{number}", ready, outdated, deleting)


CURRENT: dict[str, Any] = {"outdated": None}


@pytest.mark.parametrize(
    ("pods", "controller", "unsafe", "restarted", "words"),
    [
        ([pod(0, **CURRENT), pod(1, **CURRENT), pod(2, **CURRENT)], 0, {}, None, ""),
        ([pod(0), pod(1), pod(2)], 0, {}, 1, "restarting broker 1; 3 of 3 brokers to restart"),
        ([pod(0), pod(1, **CURRENT), pod(2, **CURRENT)], 0, {}, 0, "restarting broker 0; 1 broker to restart"),
        ([pod(0), pod(1), pod(2)], 2, {0: "orders-1 would fall below min ISR"}, 1, "restarting broker 1"),
        ([pod(0), pod(1), pod(2)], 2, dict.fromkeys(range(3), "orders-1"), None, "broker 0 waits: orders-1"),
        ([pod(0), pod(1), pod(2)], None, None, None, "waiting until the cluster says"),
        ([pod(0), pod(1, outdated=None, ready=False), pod(2)], 0, {}, None, "waiting until broker 1 is ready"),
        ([pod(0), pod(1, ready=False), pod(2)], 0, None, 1, "restarting broker 1, which is not ready"),
        ([pod(0), pod(1, deleting=True), pod(2)], 0, {}, None, "waiting until broker 1 is ready"),
        ([pod(0), pod(2)], 0, {}, None, "waiting until broker 1 is ready"),
    ],
)
def test_one_at_a_time_the_controller_last(
    pods: list[PodView], controller: int | None, unsafe: dict[int, str] | None, restarted: int | None, words: str
) -> None:
    step = next_step(pods, 3, controller, unsafe)
    assert (step.restart.id if step.restart else None) == restarted
    assert step.words.startswith(words)
    assert bool(step.words) == bool(words)


def test_a_rollout_ends_with_every_broker_restarted_once() -> None:
    pods = {n: pod(n) for n in range(5)}
    order = []
    while (step := next_step(list(pods.values()), 5, 3, {})).restart is not None:
        order.append(step.restart.id)
        pods[step.restart.id] = pod(step.restart.id, outdated=None)
    assert order == [0, 1, 2, 4, 3]


def topic(cluster: str, name: str = "orders", namespace: str = "team-a") -> Topic:
    body = {"apiVersion": "broadsheet.io/v1alpha1", "kind": "Topic", "metadata": {"name": name, "namespace": namespace}}
    return Topic.model_validate({**body, "spec": {"cluster": cluster}})


@pytest.mark.parametrize(
    ("rules", "namespace", "name", "word"),
    [
        (None, "paper", "orders", ""),
        (None, "team-a", "orders", "allowedNamespaces"),
        ([{"namespace": "team-b"}], "team-a", "orders", "allowedNamespaces"),
        ([{"namespace": "team-a"}], "team-a", "orders", ""),
        ([{"namespace": "*"}], "team-a", "orders", ""),
        ([{"namespace": "team-a", "prefix": "a."}], "team-a", "orders", "must start with 'a.'"),
        ([{"namespace": "team-a", "prefix": "a."}], "team-a", "a.orders", ""),
        ([{"namespace": "team-a", "prefix": "a."}, {"namespace": "*", "prefix": "x."}], "team-a", "x.orders", ""),
        ([{"namespace": "team-a", "prefix": "a."}], "paper", "orders", ""),
    ],
)
def test_other_namespaces_need_leave(rules: list[dict[str, str]] | None, namespace: str, name: str, word: str) -> None:
    body = {
        "apiVersion": "broadsheet.io/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "news", "namespace": "paper"},
    }
    cluster = Cluster.model_validate(
        {**body, "spec": {"brokers": {}, **({"allowedNamespaces": rules} if rules else {})}}
    )
    said = refusal(topic("paper/news", name, namespace), cluster)
    assert word in said
    assert bool(said) == bool(word)


def test_a_cluster_is_named_with_or_without_its_namespace() -> None:
    assert cluster_of(topic("news")) == ("team-a", "news")
    assert cluster_of(topic("paper/news")) == ("paper", "news")
