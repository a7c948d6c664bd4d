"""What the operator costs and how fast it is; printed, and held against floors that a busy machine still keeps."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from typing import Any

import pytest

from e2e.operator.world import API, HOME, World, machines
from tests.support.waiting import wait_until

TOPICS = 1000
GROUPS = 100
SINGLES = 100
MEASURE = pathlib.Path(__file__).with_name("measure.py")


def measure(world: World, command: str, count: int) -> dict[str, Any]:
    done = world.kube.run([sys.executable, MEASURE, command, HOME, str(count)], timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.machines("measures beside the API server")
def test_the_operators_figures(news: World) -> None:
    machines(news.kube)
    clear(news)
    wait_until(news.leader, "an operator to lead", 30)
    single = measure(news, "latency", SINGLES)
    print(f"\napply to Ready, one Topic at a time ({SINGLES}): "
          f"median {single['median_s'] * 1000:.0f} ms, p99 {single['p99_s'] * 1000:.0f} ms")  # fmt: skip
    bulk = measure(news, "bulk", TOPICS)
    print(f"{TOPICS} Topics at once: {bulk['per_second']:.0f} a second, all Ready in {bulk['seconds']:.1f} s "
          f"(the API server took them in {bulk['creating_s']:.1f} s)")  # fmt: skip
    measure(news, "groups", GROUPS)
    wait_until(lambda: resources(news, "ConsumerGroup") >= GROUPS, f"{GROUPS} groups to be seen", 60)

    settle(news)
    before, cpu_before, begun = news.metrics(), news.metrics()["process_cpu_seconds_total"], time.monotonic()
    time.sleep(75)  # a resync comes within 66 s: this is the measurement's length
    after = news.metrics()
    share = (after["process_cpu_seconds_total"] - cpu_before) / (time.monotonic() - begun)
    written = after["broadsheet_operator_status_writes_total"] - before["broadsheet_operator_status_writes_total"]
    rounds = after["broadsheet_operator_resyncs_total"] - before["broadsheet_operator_resyncs_total"]
    resident = after["process_resident_memory_bytes"] / 1024 / 1024
    print(f"with {TOPICS + SINGLES} Topics and {GROUPS} ConsumerGroups: {resident:.0f} MiB resident, "
          f"{share * 100:.1f} % of a core when idle (resync and lag included), "
          f"{written:.0f} statuses written by {rounds:.0f} resyncs")  # fmt: skip
    clear(news)
    assert rounds >= 1
    assert written == 0, "a resync of what has not changed writes nothing"
    assert single["p99_s"] < 3, "aim: 1 s"
    assert bulk["per_second"] >= 20, "aim: 50"
    assert resident < 200, "aim: 150 MiB"


def clear(world: World) -> None:
    for plural in ("topics", "consumergroups"):
        world.kube.kubectl("delete", "--raw", f"/apis/{API}/namespaces/{HOME}/{plural}")
    wait_until(lambda: not world.kube.get("topics,consumergroups", "-n", HOME)["items"], "all of them to be gone", 120)


def resources(world: World, kind: str) -> float:
    return sum(
        value for name, value in world.metrics().items() if name.startswith(f'broadsheet_resources{{kind="{kind}"')
    )


def settle(world: World) -> None:
    """Until no status has been written for a while."""
    last, since = -1.0, time.monotonic()

    def quiet() -> bool:
        nonlocal last, since
        written = world.metrics()["broadsheet_operator_status_writes_total"]
        if written != last:
            last, since = written, time.monotonic()
        return time.monotonic() - since > 20  # a Cluster is looked at every 15 s

    wait_until(quiet, "the operator to have nothing to say", 120)
