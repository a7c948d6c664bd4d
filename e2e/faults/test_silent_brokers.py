"""Brokers that are there and say nothing: stopped processes and cut networks among three brokers.

Nobody can tell a silent broker from a slow one before its session is over (3 s here): until then writes to what it
led wait. Afterwards they go on elsewhere, and what the silent one believed meanwhile must not be told to anybody.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.brokers import Brokers
from e2e.faults.load import Load, seconds
from e2e.faults.network import Network
from tests.support.broker_process import BrokerProcess

SEED = int(os.environ.get("SEED", "20260101"))
PAUSES = int(os.environ.get("PAUSES", "4"))
CUTS = int(os.environ.get("CUTS", "6"))
SESSION_S = 3.0
TOPIC, PARTITIONS = "orders", 6


def test_stopped_processes(kind: Callable[[Path], BrokerProcess], tmp_path: Path) -> None:
    """SIGSTOP for less and for more than a session, of leaders, the active controller and a group's coordinator."""
    chance = random.Random(SEED)
    first: list[float] = []
    with Brokers(kind, tmp_path) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS, groups=2) as load:
            load.wait_served(time.monotonic())
            for number in range(PAUSES):
                victim = (
                    cluster.controller,
                    lambda: cluster.coordinator("group-0"),
                    lambda: cluster.leader(TOPIC, chance.randrange(PARTITIONS)),
                )[number % 3]()
                led = [index for index, state in cluster.partitions(TOPIC).items() if state.leader == victim]
                began = time.monotonic()
                cluster[victim].pause()
                if number % 2:
                    time.sleep(chance.uniform(0.2, 0.8) * SESSION_S)
                else:
                    served = load.wait_served(began)
                    first += [served[index] for index in led]
                    time.sleep(chance.uniform(0, 1))
                cluster[victim].resume()
                load.wait_served(time.monotonic())
                cluster.wait_whole(TOPIC, "__consumer_offsets")
        told = load.verify()
    print(f"{PAUSES} pauses: first acknowledged write of a stopped leader's partition: {seconds(first)}; {told}")


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(3) as network:
        yield network


def test_cut_networks(kind: Callable[[Path], BrokerProcess], tmp_path: Path, network: Network) -> None:
    """One broker cut off from all, from the brokers alone, and in one direction alone; leaders and controllers."""
    chance = random.Random(SEED)
    first: dict[str, list[float]] = {}

    def unheard(node: int, cluster: Brokers) -> None:
        network.cut(node, *cluster.others(node))

    def deaf(node: int, cluster: Brokers) -> None:
        for other in cluster.others(node):
            network.cut(other, node)

    faults: dict[str, Callable[[int, Brokers], None]] = {
        "isolated": lambda node, _: network.isolate(node),
        "cut off from the brokers": lambda node, _: network.part(node),
        "unheard": unheard,
        "deaf": deaf,
        "cut off from one broker": lambda node, cluster: network.part_pair(node, chance.choice(cluster.others(node))),
    }
    with Brokers(kind, tmp_path, prepare=network.place) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS, groups=2) as load:
            load.wait_served(time.monotonic())
            for number in range(CUTS):
                name = list(faults)[number % len(faults)]
                victim = (
                    cluster.controller,
                    lambda: cluster.leader(TOPIC, chance.randrange(PARTITIONS)),
                )[number % 2]()
                led = [index for index, state in cluster.partitions(TOPIC).items() if state.leader == victim]
                began = time.monotonic()
                faults[name](victim, cluster)
                served = load.wait_served(began)
                first.setdefault(name, []).extend(served[index] for index in led)
                time.sleep(chance.uniform(0, 2))
                network.heal()
                load.wait_served(time.monotonic())
                cluster.wait_whole(TOPIC, "__consumer_offsets")
        told = load.verify()
    figures = "; ".join(f"{name}: {seconds(values)}" for name, values in first.items())
    print(f"{CUTS} cuts: first acknowledged write of the partitions that were led there: {figures}; {told}")
