"""What a scrape finds of partitions."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import broadsheet_broker.apis.produce  # noqa: F401 - registers the handler
from broadsheet_broker.network.prometheus import LINES_AT_ONCE, render, render_in_steps
from broadsheet_broker.replication.metrics import LEADER_FAMILIES, LOG_FAMILIES, PARTITIONS_AT_ONCE
from broadsheet_broker.seams.counters import TOPIC_COUNTERS
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from tests.support.replica_services import Bench, run

SERIES_OF_LED_PARTITION = len(LEADER_FAMILIES) + len(LOG_FAMILIES)
SERIES_OF_FOLLOWED_PARTITION = len(LOG_FAMILIES)
SERIES_OF_TOPIC = len(TOPIC_COUNTERS) + 1


def test_partitions_are_reported_by_the_names_dashboards_know(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=2)
        bench.create("remote", leader=2)
        families = {family.name: dict(family.samples) for family in bench.environment.metrics.families()}
        assert families["kafka_server_replicamanager_partitioncount"] == {(): 3}
        assert families["kafka_server_replicamanager_leadercount"] == {(): 2}
        assert families["kafka_server_replicamanager_underreplicatedpartitions"] == {(): 0}
        assert families["kafka_topic_partitions"] == {(("topic", "orders"),): 2}
        first = (("topic", "orders"), ("partition", "0"))
        assert families["kafka_topic_partition_leader"][first] == 1
        assert families["kafka_topic_partition_leader_is_preferred"][first] == 1
        assert families["kafka_cluster_partition_atminisr"][first] == 1
        assert len(families["kafka_log_log_size"]) == 3
        on_disk = ("directory", str(tmp_path))
        capacity = families["broadsheet_log_directory_capacity_bytes"][(on_disk,)]
        assert 0 < families["broadsheet_log_directory_available_bytes"][(on_disk,)] <= capacity
        evictions = "kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total"
        assert families[evictions] == {(): 0}
        bench.replicas.sessions.evictions += 1
        families = {family.name: dict(family.samples) for family in bench.environment.metrics.families()}
        assert families[evictions] == {(): 1}

    run(tmp_path, scenario)


def test_a_disk_that_does_not_answer_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a size of nothing, nor a scrape that fails."""

    async def scenario(bench: Bench) -> None:
        def broken(path: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

        monkeypatch.setattr(bench.environment.files, "free_bytes", broken)
        families = {family.name: family.samples for family in bench.environment.metrics.families()}
        assert families["broadsheet_log_directory_available_bytes"] == []
        assert families["kafka_server_replicamanager_partitioncount"]

    run(tmp_path, scenario)


def test_the_number_of_series_grows_with_partitions_and_topics_alone(tmp_path: Path) -> None:
    """docs/reference/metrics.md states these figures."""

    async def scenario(bench: Bench) -> None:
        before = series(bench)
        for number in range(10):
            bench.create(f"orders-{number}", partitions=100)
            bench.environment.metrics.topic(f"orders-{number}").bytes_in += 1
        assert series(bench) - before == 1000 * SERIES_OF_LED_PARTITION + 10 * SERIES_OF_TOPIC
        before = series(bench)
        bench.create("followed", partitions=100, leader=2)
        counters = len(TOPIC_COUNTERS)  # its number of partitions is exported where the first one is led
        assert series(bench) - before == 100 * SERIES_OF_FOLLOWED_PARTITION + counters

    run(tmp_path, scenario)


def series(bench: Bench) -> int:
    text = render(bench.environment.metrics.families()).decode()
    return sum(not line.startswith("#") for line in text.splitlines())


def test_a_scrape_lets_others_run_after_some_partitions_and_some_lines(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(partitions=1000)
        steps = list(render_in_steps(bench.environment.metrics.families_in_steps()))
        assert steps.count(None) == 1000 // PARTITIONS_AT_ONCE
        texts = [step for step in steps if step is not None]
        assert max(text.count(b"\n") for text in texts) <= 2 * LINES_AT_ONCE
        assert b"".join(texts).count(b"\n") == render(bench.environment.metrics.families()).count(b"\n")

    run(tmp_path, scenario)


def test_a_partition_that_goes_during_a_scrape_is_left_out(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(partitions=1000)
        steps = bench.environment.metrics.families_in_steps()
        families, gone = {}, False
        for family in steps:
            if family is None:
                if not gone:
                    bench.delete(topic_id)
                gone = True
            else:
                families[family.name] = family
        assert len(families["kafka_log_log_size"].samples) == PARTITIONS_AT_ONCE

    run(tmp_path, scenario)


def test_a_replica_that_is_being_added_is_not_missed(tmp_path: Path) -> None:
    """Otherwise each reassignment would raise the alert for replicas that are out of sync, as it does not in Kafka."""

    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(replicas=[1, 2], isr=[1, 2])
        change = PartitionChangeRecord(
            partition_id=0, topic_id=topic_id, replicas=[1, 2, 3], adding_replicas=[3], leader=1
        )
        bench.metadata.replay(change)
        place = (("topic", "orders"), ("partition", "0"))
        families = {family.name: dict(family.samples) for family in bench.environment.metrics.families()}
        assert families["kafka_server_replicamanager_underreplicatedpartitions"] == {(): 0}
        assert families["kafka_cluster_partition_underreplicated"][place] == 0
        assert families["kafka_topic_partition_under_replicated_partition"][place] == 0
        assert families["kafka_cluster_partition_replicascount"][place] == 2
        bench.metadata.replay(PartitionChangeRecord(partition_id=0, topic_id=topic_id, isr=[1]))
        families = {family.name: dict(family.samples) for family in bench.environment.metrics.families()}
        assert families["kafka_server_replicamanager_underreplicatedpartitions"] == {(): 1}

    run(tmp_path, scenario)
