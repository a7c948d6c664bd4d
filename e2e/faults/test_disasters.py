"""What befalls a whole cluster, or one directory of it, under load: what was acknowledged is there afterwards."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.brokers import Brokers
from e2e.faults.load import Load, seconds
from tests.support.broker_process import BrokerProcess

Kind = Callable[[Path], BrokerProcess]
SEED = int(os.environ.get("SEED", "20260101"))
TOPIC, PARTITIONS = "orders", 6
OFFSETS = "__consumer_offsets"


def test_all_brokers_killed_at_once(kind: Kind, tmp_path: Path) -> None:
    first: list[float] = []
    with Brokers(kind, tmp_path) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS) as load:
            for _ in range(2):
                load.wait_served(time.monotonic())
                cluster.kill()
                began = time.monotonic()
                cluster.start()
                first += load.wait_served(began).values()
                cluster.wait_whole(TOPIC, OFFSETS)
        told = load.verify()
    print(f"all killed: first acknowledged write after the start: {seconds(first)}; {told}")


def test_rolling_restart(kind: Kind, tmp_path: Path) -> None:
    """SIGTERM, one after the other, the next when the cluster is whole: nobody waits long for an acknowledgement."""
    gaps: list[float] = []
    with Brokers(kind, tmp_path) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS) as load:
            load.wait_served(time.monotonic())
            for node_id in cluster.brokers:
                began = time.monotonic()
                assert cluster[node_id].stop() in (0, 143), cluster[node_id].last_words()  # a JVM ends with 143
                cluster.start()
                cluster.wait_whole(TOPIC, OFFSETS)
                load.wait_served(time.monotonic())
                gaps.append(load.longest_gap(began, time.monotonic()))
        told = load.verify()
    print(f"rolling restart: longest time without an acknowledgement of one partition: {seconds(gaps)}; {told}")


def empty_a_follower(cluster: Brokers) -> None:
    """Its disk is gone; it comes back with a new one."""
    victim = cluster.others(cluster.controller(), cluster.leader(TOPIC, 0))[0]
    cluster[victim].kill()
    shutil.rmtree(cluster[victim].log_dir)


def remove_a_leaders_partition(cluster: Brokers) -> None:
    victim = cluster.leader(TOPIC, 0)
    cluster[victim].kill()
    shutil.rmtree(cluster[victim].log_dir / f"{TOPIC}-0")


def remove_a_running_leaders_directory(cluster: Brokers) -> None:
    """It still has its files open, and finds out when it makes the next one."""
    victim = cluster.leader(TOPIC, 0)
    shutil.rmtree(cluster[victim].log_dir)
    time.sleep(random.Random(SEED).uniform(0, 2))
    cluster[victim].kill()


@pytest.mark.parametrize("disaster", [empty_a_follower, remove_a_leaders_partition, remove_a_running_leaders_directory])
def test_a_broker_that_lost_its_directory(kind: Kind, tmp_path: Path, disaster: Callable[[Brokers], None]) -> None:
    with Brokers(kind, tmp_path) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS) as load:
            load.wait_served(time.monotonic())
            disaster(cluster)
            load.wait_served(time.monotonic())
            again = time.monotonic()
            cluster.start()
            cluster.wait_whole(TOPIC, OFFSETS)
            whole = time.monotonic() - again
            # Who has come back counts: the others must be able to do without one of those that always had everything.
            other = next(node_id for node_id in cluster.brokers if node_id != cluster.controller())
            cluster[other].kill()
            load.wait_served(time.monotonic())
            cluster.start()
        told = load.verify()
    print(f"{disaster.__name__}: whole {whole:.2f} s after the start; {told}")
