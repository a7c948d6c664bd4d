"""Engines: what only one of them has, and that a Cluster without spec.engine stays as it was."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from broadsheet_operator.api.engine_versions import METADATA_VERSION, level_of, name_of, names_up_to
from broadsheet_operator.reconcilers.engines import engine_of
from broadsheet_operator.reconcilers.provisioning import INPUTS, RENDERED
from tests.operator.reconcilers.test_provisioning import cluster, rendered

KAFKA = {"type": "apache-kafka", "version": "4.3.0"}
MUCH: dict[str, Any] = {
    "brokers": {
        "replicas": 3,
        "storage": {"size": "10Gi", "storageClass": "fast"},
        "resources": {"limits": {"memory": "1Gi", "cpu": 1}},
        "rack": {"topologyKey": "topology.kubernetes.io/zone"},
        "template": {"labels": {"team": "news"}, "nodeSelector": {"disk": "ssd"}, "priorityClassName": "high"},
    },
    "image": "registry/broker:2",
    "listeners": [{"name": "plain", "port": 9092}, {"name": "inside", "port": 9094}],
    "config": {"num.partitions": 3, "log.retention.ms": 5, "broadsheet.log.format": "text"},
}
AS_BEFORE_ENGINES = [
    ({"brokers": {}}, "039d8042b7551d0c", "d6f43ee26530aa38", "3e65766246f650e1"),
    (
        {"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}},
        "552322614ebda27c",
        "bb59a3891d5ea716",
        "8cd4e7485e2b6867",
    ),
    (MUCH, "867a1292c5c449f5", "ec48ef52a84642ae", "52594872865f6724"),
]


@pytest.mark.parametrize("engine", [None, {}, {"type": "broadsheet"}])
@pytest.mark.parametrize(("spec", "inputs", "template", "properties"), AS_BEFORE_ENGINES)
def test_an_upgrade_of_the_operator_restarts_no_broker_of_ours(
    spec: dict[str, Any], inputs: str, template: str, properties: str, engine: dict[str, Any] | None
) -> None:
    """The hashes are those of the release before there were engines: another one would restart every broker."""
    found = rendered(spec if engine is None else {**spec, "engine": engine})
    annotations = found["StatefulSet"]["metadata"]["annotations"]
    assert (annotations[INPUTS], annotations[RENDERED]) == (inputs, template)
    text = found["ConfigMap"]["data"]["server.properties"]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == properties


def test_the_engine_of_a_cluster() -> None:
    assert engine_of(cluster()).title == "Broadsheet"
    kafka = engine_of(cluster({"brokers": {}, "engine": KAFKA}))
    assert (kafka.title, kafka.knows[METADATA_VERSION]) == ("Apache Kafka 4.3.0", (7, 30))
    newer = engine_of(cluster({"brokers": {}, "engine": {**KAFKA, "version": "4.4.1"}}))
    assert (newer.knows[METADATA_VERSION][1], newer.knows["share.version"]) == (33, (0, 2))


def test_metadata_versions_have_the_names_of_kafkas_tools() -> None:
    assert (level_of("4.3-IV0"), level_of("4.3"), level_of("4.4"), level_of("4.4-IV0")) == (30, 30, 33, 31)
    assert (level_of("5.0"), level_of("4.3-IV9"), name_of(33), name_of(99)) == (None, None, "4.4-IV2", "level 99")
    assert "4.4-IV0" in names_up_to(32)
    assert "4.4" not in names_up_to(32), "the short name is the last one of a release"
