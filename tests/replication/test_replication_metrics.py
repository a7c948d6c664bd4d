"""What a scrape finds of partitions."""

from __future__ import annotations

from pathlib import Path

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
        evictions = "kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total"
        assert families[evictions] == {(): 0}
        bench.replicas.sessions.evictions += 1
        families = {family.name: dict(family.samples) for family in bench.environment.metrics.families()}
        assert families[evictions] == {(): 1}

    run(tmp_path, scenario)
