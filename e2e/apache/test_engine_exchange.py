"""One Cluster of `broadsheet up` whose engine is exchanged by stopping, there and back, while clients write and read.

What was acknowledged is checked over the whole way: nothing is lost, nothing of an idempotent producer is there twice,
and groups go on where they were.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from e2e.apache.apache import VERSION, home
from e2e.apache.up import Up
from e2e.faults.load import Load

PARTITIONS = 6
OURS = {"type": "broadsheet", "exchange": "Stop"}


def apache(directory: Path, version: str = VERSION, **more: object) -> dict[str, object]:
    """`spec.engine` of Apache Kafka."""
    jvm = {"heap": "256Mi"}
    kafka = home(directory / f"kafka-{version}", version)
    return {"type": "apache-kafka", "version": version, "home": str(kafka), "exchange": "Stop", "jvm": jvm, **more}


def doubled(load: Load) -> int:
    """Records of idempotent producers that are in the log more than once."""
    values = [value for final in load.history.finals for _, value in final.records if value.startswith("idempotent")]
    return len(values) - len(set(values))


@pytest.mark.parametrize("brokers", [1, 3])
def test_there_and_back_under_load(brokers: int, tmp_path: Path) -> None:
    """One broker: `up` is stopped and started again. Three: the manifest is edited while it runs."""
    times: list[str] = []
    with Up(tmp_path / "up", brokers, PARTITIONS) as up:
        up.declare(OURS)
        up.start().wait_ready("broadsheet")
        with Load(up.bootstrap, "orders", PARTITIONS, patience_s=600, in_flight=1) as load:
            load.wait_served(time.monotonic(), 180)
            for engine, name in ((apache(tmp_path), f"apache-kafka {VERSION}"), (OURS, "broadsheet")):
                began = time.monotonic()
                if brokers == 1:
                    assert up.stop() == 0, up.said()
                up.declare(engine)
                if brokers == 1:
                    up.start()
                up.wait_ready(name)
                load.wait_served(time.monotonic(), 180)
                times.append(f"to {name} {load.longest_gap(began, time.monotonic()):.1f} s")
        told = load.verify(180)
        assert doubled(load) == 0
        assert up.stop() == 0, up.said()
    assert "takes over from Broadsheet" in up.said() and "Broadsheet takes over from" in up.said()
    print(f"{brokers} brokers, longest time without an acknowledgement: {', '.join(times)}; {told}")
