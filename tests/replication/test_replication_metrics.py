"""What a scrape finds of partitions."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import broadsheet_broker.apis.produce  # noqa: F401 - registers the handler
from tests.support.replica_services import Bench, run


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
