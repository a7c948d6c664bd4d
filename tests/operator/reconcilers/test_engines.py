"""Engines: what only one of them has, and that a Cluster without spec.engine stays as it was."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from broadsheet_operator.api.engine_versions import METADATA_VERSION, level_of, name_of, names_up_to
from broadsheet_operator.reconcilers import inputs, provisioning
from broadsheet_operator.reconcilers.engines import engine_of
from broadsheet_operator.reconcilers.provisioning import INPUTS, RENDERED, Existing, Settings
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


# -- Apache Kafka's pod -----------------------------------------------------------------------------------------------


def kafka(**spec: Any) -> dict[str, dict[str, Any]]:
    return rendered({"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}, "engine": KAFKA, **spec})


def container(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (one,) = found["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return dict(one)


def environment(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container(found)["env"] if "value" in item}


def test_the_official_image_runs_with_nothing_of_ours_but_configuration() -> None:
    found = kafka()
    one = container(found)
    assert (one["name"], one["image"]) == ("kafka", "apache/kafka:4.3.0")
    assert one["command"] == ["/bin/bash", "/etc/kafka/broadsheet/start.sh"]
    assert one["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}
    assert mounts == {"/var/lib/kafka/data": "data", "/etc/kafka/broadsheet": "config", "/tmp": "tmp"}
    assert "initContainers" not in found["StatefulSet"]["spec"]["template"]["spec"]
    assert set(found["ConfigMap"]["data"]) == {
        "server.properties", "start.sh", "log4j2.properties", "format-options", "initial-controllers",
    }  # fmt: skip
    assert container(kafka(image="example.org/kafka:1"))["image"] == "example.org/kafka:1"


def test_its_properties_are_kafkas_alone_and_the_same_but_for_that() -> None:
    ours = rendered({"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}})["ConfigMap"]["data"]["server.properties"]
    theirs = kafka()["ConfigMap"]["data"]["server.properties"]
    missing = set(ours.splitlines()) - set(theirs.splitlines())
    assert {line.partition("=")[0] for line in missing} == {
        "broadsheet.http.listener", "broadsheet.initial.controllers", "cluster.id",
    }  # fmt: skip
    assert set(theirs.splitlines()) < set(ours.splitlines())


def test_a_property_of_our_brokers_that_was_stored_before_is_left_out() -> None:
    """The models refuse it; an object may be older than the rule."""
    declared = cluster({"brokers": {}, "engine": KAFKA})
    spec = declared.spec.model_copy(update={"config": {"broadsheet.log.format": "text", "num.partitions": 3}})
    found = provisioning.children(declared.model_copy(update={"spec": spec}), Existing(), Settings(image="broker:1"))
    text = next(c for c in found if c["kind"] == "ConfigMap")["data"]["server.properties"]
    assert "num.partitions=3\n" in text
    assert "broadsheet" not in text


@pytest.mark.parametrize(
    ("brokers", "jvm", "heap"),
    [
        ({}, {}, "-Xmx1024m -Xms1024m"),
        ({"resources": {"requests": {"memory": "8Gi"}}}, {}, "-Xmx1024m -Xms1024m"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, {}, "-Xmx512m -Xms512m"),
        ({"resources": {"limits": {"memory": 1073741824}}}, {}, "-Xmx512m -Xms512m"),
        ({"resources": {"limits": {"memory": "64Gi"}}}, {}, "-Xmx5120m -Xms5120m"),
        ({"resources": {"limits": {"memory": "2Gi"}}}, {"heap": "1.5Gi"}, "-Xmx1536m -Xms1536m"),
    ],
)
def test_the_heap_follows_the_memory_limit(brokers: dict[str, Any], jvm: dict[str, Any], heap: str) -> None:
    found = kafka(brokers=brokers, engine={**KAFKA, "jvm": jvm})
    assert environment(found)["KAFKA_HEAP_OPTS"] == heap


def test_another_garbage_collector_replaces_kafkas_own_choice() -> None:
    """The JVM ends at once when two are chosen."""
    assert "-XX:+UseG1GC" in environment(kafka())["KAFKA_JVM_PERFORMANCE_OPTS"]
    options = environment(kafka(engine={**KAFKA, "jvm": {"options": ["-XX:+UseZGC"]}}))["KAFKA_JVM_PERFORMANCE_OPTS"]
    assert options.endswith("-Djava.awt.headless=true -XX:+UseZGC")
    more = environment(kafka(engine={**KAFKA, "jvm": {"options": ["-Da=b"]}}))["KAFKA_JVM_PERFORMANCE_OPTS"]
    assert "-XX:+UseG1GC" in more
    assert more.endswith("-Da=b")


def test_probes_are_connections_and_only_readiness_waits_for_clients() -> None:
    """The clients' port opens after the log's recovery, which may take longer than a probe may wait."""
    one = container(kafka(listeners=[{"name": "outside", "port": 9292}]))
    assert [one[f"{probe}Probe"]["tcpSocket"]["port"] for probe in ("startup", "liveness", "readiness")] == [
        "tcp-quorum", "tcp-quorum", "outside",
    ]  # fmt: skip
    assert one["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert "tcp-prometheus" not in [port["name"] for port in one["ports"]], "nothing answers there without the agent"


def test_a_new_volume_is_formatted_as_the_cluster_says() -> None:
    assert kafka()["ConfigMap"]["data"]["format-options"] == "\n"
    engine = {**KAFKA, "metadataVersion": "4.2-IV1", "features": {"share.version": 0, "group.version": 1}}
    options = kafka(engine=engine)["ConfigMap"]["data"]["format-options"]
    assert options == "--release-version 4.2-IV1 --feature group.version=1 --feature share.version=0\n"


def test_the_first_voters_are_the_same_for_both_engines_and_are_named_until_the_quorum_was_seen() -> None:
    ours = rendered({"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}})["ConfigMap"]["data"]["server.properties"]
    assert f"broadsheet.initial.controllers={kafka()['ConfigMap']['data']['initial-controllers']}" in ours
    existing = Existing(config_map={"metadata": {"annotations": {provisioning.QUORUM: provisioning.FORMED}}})
    spec = {"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}, "engine": KAFKA}
    assert rendered(spec, existing)["ConfigMap"]["data"]["initial-controllers"] == "\n"


def test_a_restart_says_what_changed_of_the_engine() -> None:
    def template(engine: dict[str, Any]) -> dict[str, Any]:
        return dict(kafka(engine=engine)["StatefulSet"]["spec"]["template"])

    before = template(KAFKA)
    newer = inputs.difference(before, template({**KAFKA, "version": "4.4.0"}))
    assert newer == (
        "engine changed from Apache Kafka 4.3.0 to Apache Kafka 4.4.0; "
        "image changed from apache/kafka:4.3.0 to apache/kafka:4.4.0"
    )
    larger = inputs.difference(before, template({**KAFKA, "jvm": {"heap": "2Gi"}}))
    assert larger == "heap changed from -Xmx1024m -Xms1024m to -Xmx2048m -Xms2048m"
    same = template({**KAFKA, "metadataVersion": "4.3-IV0", "features": {"group.version": 1}, "exchange": "Stop"})
    assert same["metadata"]["annotations"][INPUTS] == before["metadata"]["annotations"][INPUTS], "no restart for these"


def test_our_own_image_does_not_outlive_a_change_of_the_engine() -> None:
    ours = rendered()["StatefulSet"]
    theirs = rendered({"brokers": {}, "engine": KAFKA}, Existing(stateful_set=ours))["StatefulSet"]
    assert theirs["spec"]["template"]["spec"]["containers"][0]["image"] == "apache/kafka:4.3.0"
    back = rendered({"brokers": {}}, Existing(stateful_set=theirs))["StatefulSet"]
    assert back["spec"]["template"]["spec"]["containers"][0]["image"] == "broker:1"


def test_the_agent_of_metrics_comes_by_an_init_container_and_restarts_nobody() -> None:
    """A newer operator has another agent: brokers get it when they restart for something else."""
    declared = cluster({"brokers": {"replicas": 3, "storage": {"size": "1Gi"}}, "engine": KAFKA})

    def with_agent(image: str, existing: Existing | None = None) -> dict[str, dict[str, Any]]:
        settings = Settings(image="broker:1", agent_image=image)
        return {c["kind"]: c for c in provisioning.children(declared, existing or Existing(), settings)}

    found = with_agent("agent:1")
    pod = found["StatefulSet"]["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    assert (init["name"], init["image"]) == ("metrics-agent", "agent:1")
    assert environment(found)["KAFKA_OPTS"] == (
        "-javaagent:/opt/metrics-agent/jmx_prometheus_javaagent.jar=9404:/etc/kafka/broadsheet/jmx-exporter.yaml"
    )
    assert "rules:" in found["ConfigMap"]["data"]["jmx-exporter.yaml"]
    assert {"name": "tcp-prometheus", "containerPort": 9404, "protocol": "TCP"} in container(found)["ports"]
    newer = with_agent("agent:2", Existing(stateful_set=found["StatefulSet"], config_map=found["ConfigMap"]))
    assert newer["StatefulSet"]["spec"]["template"] == found["StatefulSet"]["spec"]["template"]
