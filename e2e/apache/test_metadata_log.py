"""The metadata log is Kafka's own: its tool decodes every record, and Apache Kafka takes a directory over and back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from e2e.apache.apache import ApacheKafka, run_tool
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

SETTINGS = {"metadata.log.max.record.bytes.between.snapshots": "20000"}


def create(broker: BrokerProcess, *names: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    topics = [NewTopic(name, 3, 1, config={"retention.ms": "1234000"}) for name in names]
    for done in admin.create_topics(topics).values():
        done.result(30)


def topics_of(broker: BrokerProcess) -> dict[str, list[int]]:
    """The leader of each partition by topic, without Kafka's own topics."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    found = admin.list_topics(timeout=30).topics
    return {
        name: [topic.partitions[index].leader for index in sorted(topic.partitions)]
        for name, topic in found.items()
        if not name.startswith("__")
    }


def dump(file: Path) -> str:
    done = run_tool("org.apache.kafka.tools.DumpLogSegments", "--cluster-metadata-decoder", "--files", str(file))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kafka_decodes_every_record_and_snapshot(tmp_path: Path) -> None:
    with Broadsheet(tmp_path / "node", overrides=SETTINGS) as broker:
        create(broker, *(f"topic-{number}" for number in range(100)))
    directory = broker.log_dir / "__cluster_metadata-0"
    (segment,) = directory.glob("*.log")
    shown = dump(segment)
    assert "isvalid: false" not in shown
    batches = [int(count) for count in re.findall(r"^baseOffset: \d+ lastOffset: \d+ count: (\d+)", shown, re.M)]
    records = re.findall(r'"type":"([A-Z_]+)"', shown)
    leaders = shown.count("LeaderChange: ")
    assert len(records) + leaders == sum(batches), "each record was decoded"
    assert records.count("TOPIC_RECORD") == 100 and records.count("PARTITION_RECORD") == 300
    snapshots = sorted(directory.glob("*.checkpoint"))
    assert snapshots
    for snapshot in (*snapshots, broker.log_dir / "bootstrap.checkpoint"):
        shown = dump(snapshot)
        assert "SnapshotHeader" in shown and "SnapshotFooter" in shown and "isvalid: false" not in shown


@pytest.mark.parametrize("first", ["broadsheet", "apache"])
def test_a_directory_goes_from_one_to_the_other_and_back(tmp_path: Path, first: str) -> None:
    kinds: list[type[BrokerProcess]] = [Broadsheet, ApacheKafka]
    if first == "apache":
        kinds.reverse()
    expected: dict[str, list[int]] = {}
    for turn, kind in enumerate((*kinds, kinds[0])):
        with kind(tmp_path / "node", overrides=SETTINGS) as broker:
            wait_until(lambda: topics_of(broker) == expected, f"{kind.name} leads what it finds in turn {turn}")
            names = [f"turn-{turn}-topic-{number}" for number in range(40)]
            create(broker, *names)
            expected.update({name: [1, 1, 1] for name in names})
            wait_until(lambda: topics_of(broker) == expected, f"{kind.name} tells of its topics")
