"""The operator when things break: killed in the middle of changes, without its API server, and what it tells."""

from __future__ import annotations

import threading
import time

import pytest

from e2e.operator.world import HOME, World, is_ready, machines, resource, unique
from tests.support.waiting import wait_until


def broker_uid(world: World, cluster: str, namespace: str) -> str:
    pod = world.get("pod", f"{cluster}-brokers-0", namespace)
    return str(pod["metadata"]["uid"]) if pod else ""


@pytest.mark.parametrize("delay_seconds", [0.0, 0.4, 1.5])
def test_killed_in_the_middle_of_every_kind_of_change_it_goes_on(news: World, delay_seconds: float) -> None:
    """A Cluster and Topics made, topics grown, changed and deleted, offsets reset, a broker restarted: all at once."""
    namespace = unique("killed")
    bootstrap = f"rough-bootstrap.{namespace}.svc:9092"
    news.kube.kubectl("create", "namespace", namespace)
    cluster = {"brokers": {"replicas": 1, "storage": {"size": "1Gi"}}, "config": {"log.roll.hours": "24"}}
    news.apply(news.cluster("rough", cluster, namespace))
    topic = {"cluster": "rough", "partitions": 2, "deletionPolicy": "Delete"}
    news.apply(*(resource("Topic", name, topic, namespace) for name in ("grown", "changed", "deleted")))
    news.apply(resource("ConsumerGroup", "readers", {"cluster": "rough"}, namespace))
    for name in ("grown", "changed", "deleted"):
        news.wait("topic", name, is_ready, namespace, 90)
    news.client("produce", "grown", "20", bootstrap=bootstrap)
    news.client("consume", "grown", "readers", "20", bootstrap=bootstrap)
    news.apply(resource("ConsumerGroup", "readers", {"cluster": "rough"}, namespace))
    news.wait("consumergroup", "readers", is_ready, namespace, 60)
    before = broker_uid(news, "rough", namespace)

    wait_until(news.leader, "an operator to lead", 40)
    news.apply(
        resource("Topic", "grown", {**topic, "partitions": 6}, namespace),
        resource("Topic", "changed", {**topic, "retention": {"time": "3h"}}, namespace),
        *(resource("Topic", f"made-{n}", topic, namespace) for n in range(10)),
        resource("ConsumerGroup", "readers", {"cluster": "rough", "reset": {"to": "earliest"}}, namespace),
        news.cluster("another", cluster, namespace),
    )
    news.delete("topic", "deleted", "--wait=false", namespace=namespace)
    news.patch("cluster", "rough", {"config": {"log.roll.hours": "48"}}, namespace)
    time.sleep(delay_seconds)  # where in the changes it is hit, not for how long something is waited for
    killed = news.kill_operator()

    wait_until(lambda: news.leader() not in ("", killed), "another operator to lead", 60)
    news.wait_until(lambda: broker_uid(news, "rough", namespace) not in ("", before), "the broker to be restarted", 60)
    for name in ("grown", "changed", *(f"made-{n}" for n in range(10))):
        news.wait("topic", name, is_ready, namespace, 60)
    news.wait_gone("topic", "deleted", namespace)
    news.wait("cluster", "rough", is_ready, namespace, 60)
    news.wait("cluster", "another", is_ready, namespace, 90)
    news.wait("consumergroup", "readers", lambda g: g["status"].get("lag") == 20, namespace, 60)
    assert news.client("describe", "grown", bootstrap=bootstrap)["partitions"] == 6
    assert "10800000" in str(news.client("describe", "changed", bootstrap=bootstrap)["configs"])
    assert "deleted" not in news.client("topics", bootstrap=bootstrap)
    news.kube.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.machines("stops the API server")
def test_a_minute_without_the_api_server(news: World) -> None:
    """Clients notice nothing; what was declared just before is done afterwards."""
    kube = machines(news.kube)
    before, topic = broker_uid(news, "news", HOME), unique("patient")
    news.apply(resource("Topic", topic, {"cluster": "news", "partitions": 1}))
    pause = threading.Thread(target=kube.restart_control_plane_part, args=("kube-apiserver", 60.0))
    pause.start()
    pause.join()
    wait_until(lambda: kube.kubectl("get", "--raw=/readyz", check=False).returncode == 0, "the API server", 60)
    news.wait("topic", topic, is_ready, seconds=90)
    another = unique("patient")
    news.apply(resource("Topic", another, {"cluster": "news", "partitions": 1}))
    news.wait("topic", another, is_ready, seconds=60)
    assert broker_uid(news, "news", HOME) == before


def test_metrics_have_the_names_that_dashboards_know(news: World) -> None:
    topic, group = unique("measured"), unique("readers")
    news.apply(resource("Topic", topic, {"cluster": "news", "partitions": 1}))
    news.apply(resource("ConsumerGroup", group, {"cluster": "news"}))
    news.wait("topic", topic)
    news.client("produce", topic, "30")
    read = len(news.client("consume", topic, group, "10"))
    labels = f'namespace="{HOME}",cluster="news",consumergroup="{group}"'
    wanted = f'kafka_consumergroup_lag{{{labels},topic="{topic}",partition="0"}}'
    wait_until(lambda: any(same_series(wanted, name) for name in news.metrics()), "the lag in the metrics", 60)
    wait_until(
        lambda: [v for name, v in news.metrics().items() if same_series(wanted, name)] == [30.0 - read], "the lag", 30
    )
    others = unique("others")
    news.client("consume", topic, others, "10")
    of_others = f'kafka_consumergroup_members{{namespace="{HOME}",cluster="news",consumergroup="{others}"}}'
    wait_until(lambda: any(same_series(of_others, name) for name in news.metrics()), "a group that is not declared", 60)
    metrics = news.metrics()
    assert metrics["process_resident_memory_bytes"] > 0
    reachable = f'broadsheet_cluster_reachable{{namespace="{HOME}",cluster="news"}}'
    assert [value for name, value in metrics.items() if same_series(reachable, name)] == [1]
    assert any(name.startswith('broadsheet_resources{kind="Topic"') for name in metrics)
    brokers = news.kube.kubectl("get", "--raw", f"/api/v1/namespaces/{HOME}/pods/news-brokers-0:9404/proxy/metrics")
    assert "kafka_server_replicamanager_partitioncount" in brokers.stdout


def same_series(wanted: str, name: str) -> bool:
    """Whether two series are the same, in whatever order their labels stand."""

    def parts(series: str) -> tuple[str, list[str]]:
        metric, _, labels = series.rstrip("}").partition("{")
        return metric, sorted(labels.split(","))

    return parts(wanted) == parts(name)
