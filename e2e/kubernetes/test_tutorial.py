"""The page docs/tutorial/kubernetes.md, command by command, as a person would type it."""

from __future__ import annotations

import re

from e2e.kubernetes.cluster import REPOSITORY
from e2e.kubernetes.world import World, is_ready

PAGE = REPOSITORY / "docs/tutorial/kubernetes.md"
NAMESPACE = "default"


def steps() -> list[str]:
    """Commands in their order: those of the shell of `make kubernetes`, until the operator is taken away."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), flags=re.S | re.M)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    # The first `helm upgrade` is for images from a registry; what follows it is the one for the images built here.
    elsewhere = re.compile("make |helm upgrade(?!.*--set)|helm uninstall")
    return [line for line in lines if not elsewhere.match(line)]


def test_the_tutorial_is_true(world: World) -> None:
    def wait() -> None:
        world.wait("cluster", "news", is_ready, NAMESPACE, 90)
        world.wait("topic", "orders", is_ready, NAMESPACE)

    commands = steps()
    assert len(commands) > 10
    output = ""
    for command in commands:
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
    assert "billing" in output
    world.kube.kubectl("delete", "pod", "client", "-n", NAMESPACE, "--wait=false")
