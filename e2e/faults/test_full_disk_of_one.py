"""The disk of one of three brokers fills up under load and becomes free again: real ENOSPC on a small file system."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.brokers import Brokers
from e2e.faults.disk import SmallDisk
from e2e.faults.load import Load
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

TOPIC, PARTITIONS = "orders", 6
OFFSETS = "__consumer_offsets"


@pytest.fixture
def disks() -> Iterator[dict[int, SmallDisk]]:
    """The disk of each broker, given back at the end."""
    made: dict[int, SmallDisk] = {}
    yield made
    for disk in made.values():
        disk.close()


@pytest.mark.parametrize("role", ["the active controller", "a leader"])
def test_a_disk_fills_up_and_becomes_free(
    kind: Callable[[Path], BrokerProcess], tmp_path: Path, role: str, disks: dict[int, SmallDisk]
) -> None:
    """Others lead at once: a leader steps aside, a controller without room for its log ends (who runs it starts it)."""

    def prepare(broker: BrokerProcess) -> None:
        disks[broker.node_id] = SmallDisk(broker)

    with Brokers(kind, tmp_path, prepare=prepare) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS, padding=2000) as load:
            load.wait_served(time.monotonic())
            cluster.wait_whole(TOPIC, OFFSETS)
            controller = cluster.controller()
            victim = controller
            if role == "a leader":
                victim = next(
                    state.leader for state in cluster.partitions(TOPIC).values() if state.leader != controller
                )
            began = time.monotonic()
            disks[victim].fill()
            wait_until(lambda: "No space left" in cluster[victim].output_since_start(), "the disk to be full")
            full = time.monotonic()
            served = load.wait_served(full)
            stayed = cluster[victim].running
            disks[victim].free()
            cluster.start()
            again = time.monotonic()
            cluster.wait_whole(TOPIC, OFFSETS)
            whole = time.monotonic() - again
            load.wait_served(time.monotonic())
        told = load.verify()
    print(
        f"{role} ran out of space: {'it stayed' if stayed else 'it ended'}; every partition took a record "
        f"{max(served.values()):.2f} s after that (longest gap {load.longest_gap(began, again):.2f} s); "
        f"whole {whole:.2f} s after there was space; {told}"
    )
