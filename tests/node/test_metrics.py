"""What a scrape finds of the cluster and of the metadata quorum, by the names that dashboards know."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.controller import metrics as controller_metrics
from broadsheet_broker.controller.metrics import Elections
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import EMPTY_IMAGE
from broadsheet_broker.network.prometheus import render
from broadsheet_broker.raft import metrics as raft_metrics
from broadsheet_broker.seams.metrics import Metrics
from broadsheet_broker.seams.rates import Window
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.register_broker_record import RegisterBrokerRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from tests.support.controllers import Node, running

TOPIC = uuid.UUID(int=7)


def scrape(metrics: Metrics) -> dict[str, Any]:
    return {family.name: dict(family.samples) for family in metrics.families()}


def test_a_controller_reports_the_cluster(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            await node.create("orders", 3)
            found = scrape(node.environment.metrics)
            controller = {
                name.removeprefix("kafka_controller_kafkacontroller_"): samples[()]
                for name, samples in found.items()
                if name.startswith("kafka_controller_kafkacontroller_")
            }
            assert controller.pop("lastappliedrecordoffset") == node.metadata.image.offset
            assert controller == {
                "activecontrollercount": 1,
                "activebrokercount": 1,
                "fencedbrokercount": 0,
                "globaltopiccount": 1,
                "globalpartitioncount": 3,
                "offlinepartitionscount": 0,
                "preferredreplicaimbalancecount": 0,
            }
            for name in ("uncleanleaderelections", "electionfromeligibleleaderreplicas"):
                assert found[f"kafka_controller_controllerstats_{name}_total"] == {(): 0}

    asyncio.run(run())


def test_partitions_without_a_leader_and_those_led_by_another_are_counted() -> None:
    image = cluster(leaders=[-1, 2, 1])
    values = {name: measure(image) for name, _, measure in controller_metrics.GAUGES}
    assert values["kafka_controller_kafkacontroller_offlinepartitionscount"] == 1
    assert values["kafka_controller_kafkacontroller_preferredreplicaimbalancecount"] == 2
    assert values["kafka_controller_kafkacontroller_activebrokercount"] == 2
    assert values["kafka_controller_kafkacontroller_fencedbrokercount"] == 1


def cluster(leaders: list[int]) -> Any:
    """Brokers 1 and 2, and 3 that is fenced; a partition for each leader with replicas 1, 2, 3 and the ISR 1."""
    brokers = [RegisterBrokerRecord(broker_id=id, broker_epoch=id, fenced=id == 3) for id in (1, 2, 3)]
    partitions = [
        PartitionRecord(
            partition_id=index,
            topic_id=TOPIC,
            replicas=[1, 2, 3],
            isr=[1],
            eligible_leader_replicas=[2],
            leader=leader,
        )
        for index, leader in enumerate(leaders)
    ]
    records: list[Any] = [*brokers, TopicRecord(name="orders", topic_id=TOPIC), *partitions]
    return MetadataDelta(EMPTY_IMAGE).replay_all(records).apply(len(records), 1, 0)


@pytest.mark.parametrize(("leader", "unclean", "eligible"), [(-1, 0, 0), (1, 0, 0), (2, 0, 1), (3, 1, 0)])
def test_elections_that_may_lose_records_are_counted(leader: int, unclean: int, eligible: int) -> None:
    metrics = Metrics()
    delta = MetadataDelta(cluster(leaders=[-1]))
    delta.replay(PartitionChangeRecord(partition_id=0, topic_id=TOPIC, leader=leader, isr=[max(leader, 1)]))
    Elections(metrics).count(delta)
    found = scrape(metrics)
    assert found["kafka_controller_controllerstats_uncleanleaderelections_total"] == {(): unclean}
    assert found["kafka_controller_controllerstats_electionfromeligibleleaderreplicas_total"] == {(): eligible}


def test_a_new_topic_is_no_election() -> None:
    metrics = Metrics()
    delta = MetadataDelta(cluster(leaders=[]))
    delta.replay(PartitionRecord(partition_id=0, topic_id=TOPIC, replicas=[1], isr=[1], leader=1))
    Elections(metrics).count(delta)
    assert scrape(metrics)["kafka_controller_controllerstats_uncleanleaderelections_total"] == {(): 0}


def test_a_replica_of_the_metadata_log_reports_itself(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            found = raft(node)
            assert found["current_leader"] == 1 and found["number_of_voters"] == 1
            assert found["high_watermark"] == found["log_end_offset"] > 0
            assert found["current_epoch"] == found["log_end_epoch"] == node.controller.raft.epoch
            assert scrape(node.environment.metrics)["kafka_server_raftmetrics_current_state"] == {
                (("current_state", "leader"),): 1
            }
            await node.create("orders", 3)
            later = raft(node)
            assert later["high_watermark"] > found["high_watermark"]
            assert later["append_records_rate"] > 0 and later["fetch_records_rate"] == 0
            assert later["commit_latency_avg"] > 0
            assert scrape(node.environment.metrics)["broadsheet_metadata_last_fsync_seconds"][()] > 0
            assert scrape(node.environment.metrics)["broadsheet_metadata_is_behind"] == {(): 0}

    asyncio.run(run())


def raft(node: Node) -> dict[str, float]:
    prefix = "kafka_server_raftmetrics_"
    return {
        name.removeprefix(prefix): samples[()]
        for name, samples in scrape(node.environment.metrics).items()
        if name.startswith(prefix) and () in samples
    }


def test_every_metric_of_the_tables_is_exported_once_and_explained(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            text = render(node.environment.metrics.families()).decode()
            rows = [
                *((name, help) for name, help, _ in (*raft_metrics.GAUGES, *controller_metrics.GAUGES)),
                *raft_metrics.RATES,
                raft_metrics.STATE,
                controller_metrics.ACTIVE,
                controller_metrics.UNCLEAN,
                controller_metrics.ELIGIBLE,
            ]
            for name, help in rows:
                assert text.count(f"# HELP {name} {help}\n") == 1
                assert f"\n{name} " in text or f"\n{name}{{" in text
            assert "True" not in text and "False" not in text

    asyncio.run(run())


def test_a_window_looks_back_a_minute_and_no_longer() -> None:
    now, total = [0.0], [0.0]
    window = Window(lambda: now[0], lambda: (total[0],))
    now[0], total[0] = 10.0, 50.0
    assert window.growth() == (10.0, (50.0,))
    now[0], total[0] = 1000.0, 150.0
    assert window.growth() == (990.0, (100.0,)), "nobody has asked for long"
    for second in range(1001, 1200):
        now[0], total[0] = float(second), total[0] + 3
        seconds, (growth,) = window.growth()
        assert growth == pytest.approx(3 * seconds) or second < 1062
    assert seconds <= 61


def test_a_window_keeps_few_samples_however_often_it_is_asked() -> None:
    now = [0.0]
    window = Window(lambda: now[0], lambda: (now[0],))
    for _ in range(10_000):
        now[0] += 0.001
        window.growth()
    assert len(window._samples) <= 101
