"""From nothing to `kubectl get consumergroups`: the operator by helm, three manifests, clients in two languages."""

from __future__ import annotations

import os
import pathlib
import uuid

import pytest
import yaml

from e2e.clients.programs import parse, programs
from e2e.operator.providers import REPOSITORY
from e2e.operator.world import (
    HOME,
    OPERATOR_NAMESPACE,
    World,
    condition,
    is_ready,
    machines,
    resource,
    unique,
)
from tests.support.waiting import wait_until


def test_two_operators_are_ready_and_one_leads(world: World) -> None:
    deployment = world.get("deployment", "broadsheet", OPERATOR_NAMESPACE)
    assert deployment is not None
    assert deployment["status"]["readyReplicas"] == 2, "a standby must be Ready, or helm --wait never ends"
    wait_until(world.leader, "an operator to lead", 30)
    pods = {pod["metadata"]["name"] for pod in world.operator_pods()}
    assert world.leader() in pods
    leading = {name: world.metrics(name)["broadsheet_operator_leading"] for name in pods}
    assert sorted(leading.values()) == [0.0, 1.0], leading


def test_the_example_becomes_ready_and_kubectl_shows_what_is(world: World) -> None:
    namespace = unique("example")
    world.kube.kubectl("create", "namespace", namespace)
    text = (REPOSITORY / "docs/examples/kubernetes.yaml").read_text()
    world.kube.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)
    names = {body["kind"]: body["metadata"]["name"] for body in yaml.safe_load_all(text)}
    world.wait("cluster", names["Cluster"], namespace=namespace, seconds=90)
    world.wait("topic", names["Topic"], namespace=namespace)
    waiting = world.wait(
        "consumergroup", names["ConsumerGroup"], lambda g: condition(g)["reason"] == "GroupNotFound", namespace
    )
    assert condition(waiting)["status"] == "True", "a group that does not exist yet is watched: nothing waits for it"

    bootstrap = f"{names['Cluster']}-bootstrap.{namespace}.svc:9092"
    world.client("produce", names["Topic"], "30", bootstrap=bootstrap)
    read = world.client("consume", names["Topic"], names["ConsumerGroup"], "20", bootstrap=bootstrap)
    assert len(read) >= 20
    lag = 30 - len(read)
    world.wait("consumergroup", names["ConsumerGroup"], lambda g: g["status"].get("lag") == lag, namespace)
    shown = world.kube.kubectl("get", "broadsheet", "-n", namespace).stdout
    print(shown)
    topic_row = next(line.split() for line in shown.splitlines() if line.startswith("topic."))
    assert topic_row[1:6] == [names["Cluster"], "3", "1", "3/3", "True"]
    columns = world.kube.kubectl("get", "consumergroups", "-n", namespace).stdout.splitlines()[0].split()
    assert {"GROUP", "STATE", "MEMBERS", "LAG", "VERDICT", "READY"} <= set(columns)
    world.kube.kubectl("delete", "namespace", namespace, "--timeout=90s")


def test_the_chart_refuses_values_it_does_not_know_and_renders_one_file(world: World) -> None:
    chart = str(REPOSITORY / "charts/broadsheet")
    refused = world.kube.run(["helm", "template", "x", chart, "--set", "replcas=3"])
    assert refused.returncode != 0
    assert "replcas" in refused.stderr
    disabled = ["--set", "prometheusRule.enabled=true", "--set", "prometheusRule.disabled={BrokerDwn}"]
    refused = world.kube.run(["helm", "template", "x", chart, *disabled])
    assert refused.returncode != 0
    assert "there is no alert BrokerDwn" in refused.stderr
    namespace = unique("single")
    world.kube.kubectl("create", "namespace", namespace)
    options = ["--namespace", namespace, "--set", "networkPolicy.enabled=true", "--set", "crds.install=false"]
    rendered = world.kube.run(["helm", "template", "single", chart, *options])
    assert rendered.returncode == 0, rendered.stderr
    # Not for good: a second operator would manage the same resources.
    world.kube.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=rendered.stdout)
    monitored = world.kube.run(["helm", "template", "x", chart, "--set", "podMonitor.enabled=true"])
    assert monitored.stdout.count("kind: PodMonitor") == 2
    assert "namespaceSelector: {any: true}" in monitored.stdout
    some = ["--set", "podMonitor.enabled=true", "--set", "watchNamespaces={a,b}"]
    monitored = world.kube.run(["helm", "template", "x", chart, *some])
    assert 'namespaceSelector: {matchNames: ["a","b"]}' in monitored.stdout
    world.kube.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.machines("runs clients outside of pods")
@pytest.mark.parametrize("language", ["python", "java-4.3.0"])
def test_clients_reach_the_brokers_through_the_services(news: World, language: str) -> None:
    """librdkafka and the Java client, beside the control plane, with the addresses that pods use."""
    machines(news.kube)
    topic, group = unique("orders"), f"readers-{uuid.uuid4().hex[:6]}"
    news.apply(resource("Topic", topic, {"cluster": "news", "partitions": 3}))
    news.wait("topic", topic)
    news.apply(resource("ConsumerGroup", group, {"cluster": "news"}))
    settings = {"BOOTSTRAP_SERVERS": f"news-bootstrap.{HOME}.svc:9092", "TOPIC": topic, "GROUP_ID": group}
    command = ["env", *(f"{key}={value}" for key, value in settings.items())]
    done = news.kube.run([*command, *programs(language).producer, "30"], timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(parse(done.stdout)) == 30
    output = pathlib.Path(f"/tmp/e2e-consumer-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    with output.open("w+") as file:
        consumer = news.kube.popen([*command, *programs(language).consumer], stdout=file)
        try:
            wait_until(lambda: len(parse(output.read_text())) >= 30, f"30 orders read by {language}", 60)
            group_now = news.wait(
                "consumergroup", group, lambda g: is_ready(g) and g["status"].get("members") == 1, seconds=30
            )
            assert group_now["status"]["state"] in ("Stable", "PreparingRebalance", "CompletingRebalance")
            news.wait("consumergroup", group, lambda g: g["status"].get("lag") == 0, seconds=40)
        finally:
            consumer.terminate()
            consumer.wait(30)
            output.unlink()
    news.wait("consumergroup", group, lambda g: g["status"].get("members") == 0, seconds=60)
    news.delete("consumergroup", group)
    news.delete("topic", topic)
