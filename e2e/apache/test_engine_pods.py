"""What the operator renders for brokers of Apache Kafka, started by the real thing: 4.3 and 4.4."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broadsheet_operator.api.engine_versions import VERSIONS
from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.reconcilers.features import FeatureChange
from broadsheet_operator.reconcilers.observed import ClusterView, FeaturesView, QuorumView
from broadsheet_operator.reconcilers.quorum import initial_directory
from e2e.apache.pods import Pods
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
OLDER, NEWER = {"type": "apache-kafka", "version": "4.3.0"}, {"type": "apache-kafka", "version": "4.4.0"}


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Pods]:
    pods = Pods(tmp_path, 3)
    yield pods
    pods.stop()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Pods]:
    pods = Pods(tmp_path, 1)
    yield pods
    pods.stop()


def features(gateway: KafkaPythonGateway, brokers: int = 1) -> FeaturesView:
    found = gateway.observe_features(range(brokers))
    assert isinstance(found, FeaturesView), found
    return found


def test_three_brokers_form_their_quorum_with_our_directory_ids(three: Pods) -> None:
    (three.pods[0].data / "lost+found").mkdir(parents=True)
    three.start({**OLDER, "metadataVersion": "4.2-IV1", "features": {"share.version": 0}}, config={"num.partitions": 5})
    gateway = KafkaPythonGateway([three.bootstrap])
    try:
        view = gateway.observe_cluster()
        assert isinstance(view, ClusterView)
        assert [broker.id for broker in view.brokers] == [0, 1, 2]
        quorum = gateway.observe_quorum()
        assert isinstance(quorum, QuorumView)
        assert {voter.id for voter in quorum.voters} == {0, 1, 2}
        for pod in three.pods:
            lines = dict(line.split("=", 1) for line in (pod.data / "meta.properties").read_text().splitlines()[2:])
            assert lines["cluster.id"] == view.cluster_id
            assert lines["directory.id"] == initial_directory(view.cluster_id, pod.node_id)
        found = features(gateway, 3)
        assert found.supported == dict.fromkeys(range(3), VERSIONS["4.3"]), "the table of versions"
        assert found.finalized["metadata.version"] == 29
        assert found.finalized.get("share.version", 0) == 0
        assert found.finalized["group.version"] == 1, "the version's own, where the Cluster says nothing"
        # Raised and lowered as the operator does it; what Kafka cannot lower it refuses in its own words.
        change = FeatureChange(
            {"metadata.version": 30, "share.version": 1, "group.version": 0}, frozenset({"group.version"})
        )
        assert gateway.update_features(change) is None
        wait_until(lambda: features(gateway).finalized.get("metadata.version") == 30, "the new levels")
        assert features(gateway).finalized.get("group.version", 0) == 0
        beyond = gateway.update_features(FeatureChange({"metadata.version": 33}))
        assert beyond is not None
        assert "metadata.version" in beyond.message
    finally:
        gateway.close()


def test_a_broker_says_why_it_does_not_start(one: Pods) -> None:
    (pod,) = one.pods
    one.start(NEWER, config={"num.partitons": 3, "listener.name.plain.max.connections": 9})
    gateway = KafkaPythonGateway([one.bootstrap])
    try:
        found = features(gateway)
        assert found.supported[0] == VERSIONS["4.4"], "the table of versions"
        highest = {name: high for name, (_, high) in VERSIONS["4.4"].items()}
        assert found.finalized == highest, "a new cluster has the highest level of each"
        known = gateway.observe_known_properties(0)
        assert isinstance(known, frozenset)
        assert known > {"min.insync.replicas", "share.coordinator.state.topic.min.isr"}
        assert "num.partitons" not in known, "it ignores it, and the Cluster's status names it"
    finally:
        gateway.close()
    assert pod.stop() == 143, "the script hands SIGTERM on, and the broker stops in order"
    assert pod.last_words.read_text() == "", "which is no error"

    def words(engine: dict[str, Any], **spec: Any) -> str:
        one.start_one(pod, engine, **spec)
        assert pod.end() == 1
        return pod.last_words.read_text()

    assert "Error loading metadata log record" in words(OLDER), "Kafka's own words; the operator refuses it before"
    assert "Invalid value 0 for configuration num.partitions" in words(NEWER, config={"num.partitions": 0})
    meta = pod.data / "meta.properties"
    text = meta.read_text()
    meta.write_text(text.replace("cluster.id=", "cluster.id=A"))
    assert "mount the right volume" in words(NEWER)
    meta.write_text(text)
    (pod.data / "lost+found").mkdir()
    (pod.data / "lost+found" / "found").touch()
    assert "lost+found of the volume cannot be removed" in words(NEWER)
