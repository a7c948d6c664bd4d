"""The page docs/tutorial/kubernetes.md, command by command, as a person would type it."""

from __future__ import annotations

import re

from e2e.operator.pages import commands
from e2e.operator.providers import REPOSITORY
from e2e.operator.world import World, is_at_rest, is_ready, unique

PAGE = "tutorial/kubernetes.md"
NAMESPACE = "default"
BOOTSTRAP = f"news-bootstrap.{NAMESPACE}.svc:9092"


def steps() -> list[str]:
    """Those of the shell of `make kubernetes`, until the operator is taken away."""
    # The first `helm upgrade` is for images from a registry; what follows it is the one for the images built here.
    elsewhere = re.compile("make |helm upgrade(?!.*--set)|helm uninstall")
    return [line for line in commands(PAGE) if not elsewhere.match(line)]


def test_the_tutorial_is_true(world: World) -> None:
    def wait() -> None:
        world.wait("cluster", "news", is_ready, NAMESPACE, 90)
        world.wait("topic", "orders", is_ready, NAMESPACE)

    assert len(steps()) > 10
    output = ""
    for command in steps():
        done = world.kube.run(["bash", "-c", f"cd {REPOSITORY} && {command}"], timeout=180)
        if '"partitions": 2' in command:
            assert "partitions can grow but never shrink" in done.stderr
            continue
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        output += done.stdout
        if "apply -f" in command:
            wait()
        if "KafkaConsumer" in command:
            assert done.stdout.count("order ") == 10, done.stdout
            world.wait("consumergroup", "billing", is_ready, NAMESPACE, 30)
            group = world.wait("consumergroup", "billing", lambda g: g["status"].get("lag") == 0, NAMESPACE, 30)
            assert group["status"]["state"] in ("Empty", "Stable")
        if "delete pod" in command:
            wait()
        if "readyReplicas" in command:
            grown = world.wait("cluster", "news", is_at_rest, NAMESPACE, 120)
            assert grown["status"]["voters"] == [0, 1, 2]
            records = "records of before it grew"
            assert world.client("consume", "orders", unique("late"), "10", bootstrap=BOOTSTRAP), records
    assert "billing" in output
    world.kube.kubectl("delete", "pod", "client", "-n", NAMESPACE, "--wait=false")
    world.kube.kubectl("delete", "pvc", "-l", "broadsheet.io/cluster=news", "-n", NAMESPACE, "--wait=false")
