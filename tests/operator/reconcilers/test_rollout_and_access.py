"""Which broker may restart, and who may declare what: tables of plain values."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.topic import Topic
from broadsheet_operator.reconcilers.access import refusal
from broadsheet_operator.reconcilers.observed import ClusterHealth, LackingPartition, TopicPartition
from broadsheet_operator.reconcilers.rollout import PodView, behind, evictable, held, next_step, unsafe_to_stop


def pod(
    number: int,
    *,
    ready: bool = True,
    outdated: str | None = "PodHasOldRevision",
    deleting: bool = False,
    why: str = "",
    fenced: bool = False,
) -> PodView:
    return PodView(number, f"news-brokers-{number}", f"uid-{number}", ready, outdated, deleting, why, fenced)


CURRENT: dict[str, Any] = {"outdated": None}


@pytest.mark.parametrize(
    ("pods", "controller", "unsafe", "restarted", "words"),
    [
        ([pod(0, **CURRENT), pod(1, **CURRENT), pod(2, **CURRENT)], 0, {}, None, ""),
        ([pod(0), pod(1), pod(2)], 0, {}, 1, "restarting broker 1; 3 of 3 brokers to restart"),
        ([pod(0), pod(1), pod(2, fenced=True, **CURRENT)], 0, {}, None, "waiting until broker 2 is ready"),
        ([pod(0), pod(1, fenced=True), pod(2)], 0, {}, None, "waiting until broker 1 is ready"),
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


def health(*lacking: tuple[tuple[int, ...], tuple[int, ...], int]) -> ClusterHealth:
    """Partitions orders-0, orders-1 ... by replicas, ISR, and min.insync.replicas as in force."""
    partitions = tuple(
        LackingPartition(TopicPartition("orders", n), None, replicas, isr, min_isr)
        for n, (replicas, isr, min_isr) in enumerate(lacking)
    )
    return ClusterHealth(1, len(partitions), 0, {}, {}, partitions)


@pytest.mark.parametrize(
    ("replicas", "isr", "min_isr", "unsafe"),
    [
        ((0, 1, 2), (0, 1), 2, {0, 1}),
        ((0, 1, 2), (0, 1), 1, set()),
        ((0, 1, 2), (0,), 1, {0}),
        ((0, 1, 2), (0,), 2, {0}),
        ((0, 1, 2), (0, 1), 3, {0, 1}),
        ((0, 1), (0,), 2, {0}),
        ((0, 1), (0,), 1, {0}),
        ((0, 1, 2, 3), (0, 1, 2), 2, set()),
        ((0,), (), 1, set()),
    ],
)
def test_no_partition_falls_below_min_isr(
    replicas: tuple[int, ...], isr: tuple[int, ...], min_isr: int, unsafe: set[int]
) -> None:
    assert unsafe_to_stop(health((replicas, isr, min_isr))).keys() == unsafe


def test_the_first_partition_that_forbids_a_stop_is_named() -> None:
    seen = health(((3, 4), (3, 4), 1), ((0, 1, 2), (0, 1), 2), ((0, 1), (0,), 1))
    assert unsafe_to_stop(seen)[0] == "orders-1 would fall below min ISR"
    assert unsafe_to_stop(health(((0, 1), (0,), 1))) == {0: "orders-0 would have no replica in sync"}
    assert behind(seen) == {2: "orders-1", 1: "orders-2"}


def test_the_next_broker_waits_until_the_last_one_is_back_in_every_isr() -> None:
    pods = [pod(0), pod(1, **CURRENT), pod(2)]
    step = next_step(pods, 3, 0, {}, {1: "orders-2"})
    assert step.restart is None
    assert step.words == "broker 1 is not back in the ISR of orders-2 yet; 2 of 3 brokers to restart"
    assert next_step(pods, 3, 0, {}, {2: "orders-2"}).restart == pods[2], "what is not restarted yet need not be back"


def test_a_partition_without_another_replica_is_named_when_its_broker_restarts() -> None:
    step = next_step([pod(0), pod(1, **CURRENT)], 2, 1, {}, {}, {0: "logs-0"})
    assert step.words == "restarting broker 0 (logs-0 has no other replica); 1 broker to restart"


def test_a_new_broker_that_cannot_be_scheduled_holds_no_restart_up() -> None:
    """The pods that are there may be what keeps it from its node: a changed affinity is such a case."""
    pods = [pod(0), pod(1), pod(2), pod(3, ready=False, **CURRENT)]
    assert next_step(pods, 4, 0, {}).words.startswith("waiting until broker 3 is ready")
    assert next_step(pods, 4, 0, {}, idle={3}).restart == pods[1]


def test_outside_of_the_maintenance_windows_only_what_serves_nobody_is_restarted() -> None:
    waiting = held(next_step([pod(0)], 1, 0, {}), "waits for the maintenance window that opens soon")
    assert (waiting.restart, waiting.words) == (None, "broker 0 waits for the maintenance window that opens soon")
    broken = next_step([pod(0, ready=False)], 1, 0, {})
    assert held(broken, "waits") == broken
    nothing = next_step([pod(0, **CURRENT)], 1, 0, {})
    assert held(nothing, "waits") == nothing


@pytest.mark.parametrize(
    ("pods", "unsafe", "budget"),
    [
        ([pod(0), pod(1), pod(2)], {}, 1),
        ([pod(0), pod(1), pod(2)], {0: "orders-1"}, 0),
        ([pod(0), pod(1), pod(2)], None, 0),
        ([pod(0), pod(1), pod(2, ready=False)], {}, 0),
        ([pod(0), pod(1)], {}, 0),
        ([pod(0), pod(1), pod(2, deleting=True)], {}, 0),
    ],
)
def test_nodes_are_drained_only_while_every_broker_may_stop(
    pods: list[PodView], unsafe: dict[int, str] | None, budget: int
) -> None:
    assert evictable(pods, 3, unsafe, 1) == budget
    assert evictable([pod(0, ready=False)], 1, None, 1) == 1, "one broker has nobody to wait for"


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
    assert topic("news").cluster_key == ("team-a", "news")
    assert topic("paper/news").cluster_key == ("paper", "news")


def test_a_rollout_is_over_when_the_last_broker_is_back() -> None:
    """Its text was gone while the broker that was restarted last was still starting."""
    pods = [pod(0, **CURRENT), pod(1, ready=False, **CURRENT), pod(2, **CURRENT)]
    assert next_step(pods, 3, 0, {}).words == "", "a broker that starts by itself is no rollout"
    waiting = next_step(pods, 3, 0, {}, rolling=True)
    assert waiting.words == "waiting until broker 1 is ready; no other is left to restart"
    back = [pod(n, **CURRENT) for n in range(3)]
    lagging = next_step(back, 3, 0, {}, {1: "orders-0"}, rolling=True)
    assert lagging.words == "broker 1 is not back in the ISR of orders-0 yet; no other is left to restart"
    assert next_step(back, 3, 0, {}, {}, rolling=True).words == ""


def test_a_restart_names_its_reason() -> None:
    step = next_step([pod(0, why="image changed from a to b")], 1, 0, {})
    assert step.words == "restarting broker 0: image changed from a to b; 1 broker to restart"
