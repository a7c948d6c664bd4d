"""kill -9 among three brokers: what is acknowledged stays, and writes go on within about a second."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from e2e.brokers import Brokers
from e2e.faults.load import Load, seconds
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

SEED = int(os.environ.get("SEED", "20260101"))
KILLS = int(os.environ.get("CLUSTER_KILLS", "9"))
TOPIC, PARTITIONS = "orders", 6


def test_kill_9_of_leaders_controllers_and_anybody(kind: Callable[[Path], BrokerProcess], tmp_path: Path) -> None:
    chance = random.Random(SEED)
    first: list[float] = []
    fenced: list[float] = []
    back: list[float] = []
    with Brokers(kind, tmp_path) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS, groups=2) as load:
            load.wait_served(time.monotonic())
            for number in range(KILLS):
                victim = (
                    lambda: cluster.leader(TOPIC, chance.randrange(PARTITIONS)),
                    cluster.controller,
                    lambda: chance.randint(1, 3),
                )[number % 3]()
                led = [index for index, state in cluster.partitions(TOPIC).items() if state.leader == victim]
                time.sleep(chance.uniform(0, 0.3))
                began = time.monotonic()
                cluster[victim].kill()
                others = cluster.others(victim)
                wait_until(lambda: victim not in cluster.members(others), f"{victim} to be fenced (SEED={SEED})", 30)  # noqa: B023
                fenced.append(time.monotonic() - began)
                served = load.wait_served(began)
                first += [served[index] for index in led]
                again = time.monotonic()
                cluster.start()
                cluster.wait_whole(TOPIC, "__consumer_offsets")
                back.append(time.monotonic() - again)
        told = load.verify()
    print(
        f"{KILLS} kills: first acknowledged write of a partition whose leader was killed: {seconds(first)}; "
        f"fenced: {seconds(fenced)}; whole again after the start: {seconds(back)}; {told}"
    )
