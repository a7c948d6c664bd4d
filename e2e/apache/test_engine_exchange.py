"""One Cluster of `broadsheet up` whose engine is exchanged by stopping, there and back, while clients write and read.

What was acknowledged is checked over the whole way: nothing is lost, nothing of an idempotent producer is there twice,
and groups go on where they were.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from e2e.apache.apache import VERSION, home
from e2e.apache.up import Up
from e2e.faults.load import Load
from tests.support.waiting import wait_until

PARTITIONS = 6
NEWER = "4.4.0"
BROKERS = [int(number) for number in os.environ.get("EXCHANGE_BROKERS", "1").split(",")]
"""`make e2e-all` walks with three brokers, too."""
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


@pytest.mark.parametrize("brokers", BROKERS)
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


def test_what_the_other_engine_does_not_know_keeps_the_engine_that_runs(tmp_path: Path) -> None:
    """A group of KIP-848, a transaction and 4.4's features; and a word that is missing."""
    with Up(tmp_path / "up", 1, PARTITIONS) as up:
        up.declare(apache(tmp_path, metadataVersion="4.3-IV0"))
        up.start().wait_ready(f"apache-kafka {VERSION}")
        producer = Producer({"bootstrap.servers": up.bootstrap, "transactional.id": "ledger", "log_level": 0})
        producer.init_transactions(60)
        producer.begin_transaction()
        producer.produce("orders", b"in a transaction")
        producer.flush(30)
        settings = {"bootstrap.servers": up.bootstrap, "group.id": "new", "group.protocol": "consumer", "log_level": 0}
        reader = Consumer({**settings, "auto.offset.reset": "earliest", "isolation.level": "read_uncommitted"})
        reader.subscribe(["orders"])
        wait_until(lambda: reader.poll(0.5), "a record for the new group", 60, 0)
        up.declare(OURS)
        words = up.wait_refused()
        assert "Broadsheet cannot take over from Apache Kafka" in words
        assert (
            "groups of type consumer, and there are new: restart their consumers with group.protocol=classic" in words
        )
        assert "transactions of ledger (Ongoing) are open" in words
        assert up.engine() == f"apache-kafka {VERSION}"
        producer.commit_transaction(60)  # it still runs
        reader.close()
        up.declare(apache(tmp_path, metadataVersion="4.3-IV0", features={"streams.version": 0}))
        wait_until(lambda: "finalize streams.version 0" in up.said(), "a level that a field names", 60, 0.1)
        assert "the broker restarts" not in up.said()
        # The same versions of what is finalized: another version of Apache Kafka has no trouble with the records.
        up.declare(apache(tmp_path, NEWER, metadataVersion="4.3-IV0"))
        up.wait_ready(f"apache-kafka {NEWER}")


def test_a_refused_exchange_is_carried_out_when_what_was_in_the_way_is_gone(tmp_path: Path) -> None:
    """As on Kubernetes, without another change of the manifest: a classic member takes the group over."""
    with Up(tmp_path / "up", 1, PARTITIONS) as up:
        up.declare(apache(tmp_path, metadataVersion="4.3-IV0"))
        up.start().wait_ready(f"apache-kafka {VERSION}")
        settings = {"bootstrap.servers": up.bootstrap, "group.id": "club", "log_level": 0}
        reader = Consumer({**settings, "group.protocol": "consumer"})
        reader.subscribe(["orders"])
        wait_until(lambda: (reader.poll(0.2), reader.assignment())[1], "an assignment", 60, 0)
        reader.commit(offsets=[TopicPartition("orders", 0, 7)], asynchronous=False)
        reader.close()
        up.declare(OURS)
        assert "there are club: restart their consumers with group.protocol=classic" in up.wait_refused()
        reader = Consumer(settings)
        reader.subscribe(["orders"])
        wait_until(lambda: (reader.poll(0.2), reader.assignment())[1], "an assignment", 60, 0)
        reader.close()
        up.wait_ready("broadsheet")
        reader = Consumer(settings)
        assert [at.offset for at in reader.committed([TopicPartition("orders", 0)], 60)] == [7]
        reader.close()


def test_a_cluster_of_a_newer_kafka_is_refused_at_the_next_start(tmp_path: Path) -> None:
    with Up(tmp_path / "up", 1, PARTITIONS) as up:
        up.declare(apache(tmp_path, NEWER))
        up.start().wait_ready(f"apache-kafka {NEWER}")
        assert up.stop() == 0, up.said()
        for engine, title in ((OURS, "Broadsheet"), (apache(tmp_path), f"Apache Kafka {VERSION}")):
            up.declare(engine)
            assert up.start().wait_end() == 1
            said = up.said().splitlines()[-1]
            assert f"{title} cannot take over from Apache Kafka {NEWER}: metadata.version is finalized at" in said
        up.declare({"type": "broadsheet"})
        assert up.start().wait_end() == 1
        assert "changes only with engine.exchange: Stop" in up.said()
        # Without the control plane's check, our broker says so itself.
        properties = up.state / "clusters" / "paper" / "broker-0.properties"
        command = [sys.executable, "-m", "broadsheet_broker", "broker", "--config", str(properties)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert "level 33 of feature metadata.version" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr
