"""A short walk with an engine: it starts, grows and restarts. `--engine apache-kafka` runs the other tests on that one.

ENGINE_WALKS=apache-kafka,broadsheet walks with both and prints what docs/explanation/engines.md compares.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from e2e.operator.engines import ENGINES
from e2e.operator.world import World, condition, is_at_rest, is_ready, resource, unique

NAME = "press"
STATIC = "group.initial.rebalance.delay.ms"
WALKS = os.environ.get("ENGINE_WALKS", "apache-kafka").split(",")


@pytest.mark.parametrize("name", WALKS)
def test_it_starts_grows_and_restarts_one_by_one_and_no_record_is_lost(
    world: World, name: str, request: pytest.FixtureRequest
) -> None:
    engine = request.getfixturevalue("apache_kafka") if name == "apache-kafka" else ENGINES[name]
    world = replace(world, engine=engine)
    namespace, began = unique("press"), time.monotonic()
    bootstrap = f"{NAME}-bootstrap.{namespace}.svc:9092"

    def took(what: str) -> None:
        nonlocal began
        print(f"{name}: {what} after {time.monotonic() - began:.0f} s")
        began = time.monotonic()

    def pods() -> dict[str, str]:
        selector = f"app.kubernetes.io/name=broadsheet,broadsheet.io/cluster={NAME}"
        found = world.kube.get("pods", "-n", namespace, "-l", selector)["items"]
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}

    world.kube.kubectl("create", "namespace", namespace)
    spec = {"brokers": {"replicas": 1, "storage": {"size": "1Gi", "deletionPolicy": "Delete"}}, "config": {STATIC: "0"}}
    world.apply(
        world.cluster(NAME, spec, namespace),
        resource("Topic", "orders", {"cluster": NAME, "partitions": 6}, namespace),
        resource("ConsumerGroup", "readers", {"cluster": NAME}, namespace),
    )
    world.wait("cluster", NAME, is_ready, namespace, 90)
    world.wait("topic", "orders", is_ready, namespace)
    took("one broker and a topic are Ready")
    world.client("produce", "orders", "60", "alone", bootstrap=bootstrap)

    world.kube.kubectl("scale", "cluster", NAME, "-n", namespace, "--replicas=3")
    grown = world.wait(
        "cluster", NAME, lambda c: is_at_rest(c) and c["status"].get("voters") == [0, 1, 2], namespace, 90, "voters"
    )
    assert [broker["state"] for broker in grown["status"]["brokers"]] == ["Running"] * 3
    world.patch("topic", "orders", {"replicationFactor": 3}, namespace)
    everywhere = "three replicas, all in sync"
    world.wait("topic", "orders", lambda t: is_ready(t) and t["status"]["inSync"] == "18/18", namespace, 60, everywhere)
    took("three vote and have the topic's replicas")

    before = pods()
    world.patch("cluster", NAME, {"config": {STATIC: "10"}}, namespace)
    away = set()

    def restarted() -> bool:
        now = pods()
        away.update(before.items() - now.items())
        return len(away) == 3

    world.wait_until(restarted, "three restarts", 90)
    world.wait("cluster", NAME, is_at_rest, namespace, 60)
    took("all three have restarted, one after the other")
    memory = [resident_mib(world, pod, namespace) for pod in sorted(pods())]
    print(f"{name}: resident memory of the brokers, MiB: {', '.join(map(str, memory))}")
    world.client("produce", "orders", "60", "together", bootstrap=bootstrap)
    read = world.client("consume", "orders", "readers", "120", bootstrap=bootstrap)
    assert sorted(read) == sorted(f"{tag}-{n}" for tag in ("alone", "together") for n in range(60))
    group = world.wait("consumergroup", "readers", lambda g: g["status"].get("lag") == 0, namespace, 30, "no lag")
    assert condition(group)["status"] == "True"
    world.kube.kubectl("delete", "namespace", namespace, "--wait=false")


def resident_mib(world: World, pod: str, namespace: str) -> int:
    """Of all processes in a broker's container, which its image may show no tool for."""
    shown = world.kube.kubectl(
        "exec", pod, "-n", namespace, "-c", "kafka", "--", "sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null; true"
    )
    lines = [line.split() for line in shown.stdout.splitlines() if line.startswith("VmRSS:")]
    return sum(int(line[1]) for line in lines) // 1024
