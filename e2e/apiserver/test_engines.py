"""A Cluster of Apache Kafka on the real API server: what is rendered is taken, and every refusal is a condition."""

from __future__ import annotations

from typing import Any

from broadsheet_operator.api.engine_versions import VERSIONS
from e2e.apiserver.operators import Kubelet, OperatorThread
from e2e.apiserver.server import Api
from tests.support.waiting import wait_until

OLDER: dict[str, Any] = {"type": "apache-kafka", "version": "4.3.0"}
NEWER: dict[str, Any] = {"type": "apache-kafka", "version": "4.4.0"}
BROKERS: dict[str, Any] = {
    "replicas": 1,
    "storage": {"size": "1Gi"},
    "resources": {"limits": {"memory": "1Gi"}},
    "rack": {"topologyKey": "topology.kubernetes.io/zone"},
}


def spec(engine: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"brokers": BROKERS, "engine": engine, **more}


def template(api: Api) -> dict[str, Any]:
    return dict(api.one("StatefulSet", "news-brokers")["spec"]["template"])


def image(api: Api) -> str:
    return str(template(api)["spec"]["containers"][0]["image"])


def test_the_pods_of_apache_kafka_are_taken_as_rendered_and_restart_nobody_at_rest(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    engine = {**OLDER, "jvm": {"options": ["-XX:+UseZGC"]}, "features": {"share.version": 1}}
    operator.kafka.features = {"metadata.version": 30, "share.version": 1}
    api.resource("Cluster", "news", spec(engine, config={"num.partitions": 3, "log.retention.ms": 5}))
    kubelet.run("news")
    api.ready("Cluster", "news")
    (container,) = template(api)["spec"]["containers"]
    environment = {item["name"]: item.get("value", "") for item in container["env"]}
    assert container["image"] == "apache/kafka:4.3.0"
    assert container["readinessProbe"]["tcpSocket"] == {"port": "plain"}
    assert environment["KAFKA_HEAP_OPTS"] == "-Xmx512m -Xms512m", "half of the memory limit"
    assert "num.partitions=3\n" in api.one("ConfigMap", "news-config")["data"]["server.properties"]
    before = api.one("StatefulSet", "news-brokers")["metadata"]
    status = api.one("Cluster", "news")["status"]
    assert (status["metadataVersion"], status["features"]) == ("4.3-IV0", {"share.version": 1})
    # What is finalized is no input of a pod.
    api.resource("Cluster", "news", spec({**engine, "metadataVersion": "4.3"}, config={"num.partitions": 3}))
    api.ready("Cluster", "news")
    after = api.one("StatefulSet", "news-brokers")["metadata"]
    assert after["generation"] == before["generation"]


def test_a_version_is_rolled_and_taken_back_only_while_it_can_read_what_is_finalized(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    api.resource("Cluster", "news", spec(OLDER))
    kubelet.run("news")
    api.ready("Cluster", "news")
    api.resource("Cluster", "news", spec(NEWER))
    wait_until(lambda: image(api) == "apache/kafka:4.4.0", "the newer image")
    kubelet.finish("news-brokers-0")
    operator.kafka.supported = dict(VERSIONS["4.4"])
    kubelet.run("news")
    api.ready("Cluster", "news")
    told = [note for reason, note in api.notes("news") if reason == "PodHasOldRevision"]
    assert any("engine changed from Apache Kafka 4.3.0 to Apache Kafka 4.4.0" in note for note in told), told
    api.resource("Cluster", "news", spec({**NEWER, "metadataVersion": "4.4-IV2"}))
    wait_until(lambda: operator.kafka.features["metadata.version"] == 33, "the levels to be finalized")
    api.ready("Cluster", "news")
    uid = api.one("Pod", "news-brokers-0")["metadata"]["uid"]
    api.resource("Cluster", "news", spec(OLDER))
    words = api.says("Cluster", "news", "Stalled", "cannot read what the cluster has finalized")
    assert "(metadata.version 4.4-IV2, it knows 4.3-IV0 and less); set engine.version to 4.4.0" in words
    assert api.conditions("Cluster", "news")["Ready"]["reason"] == "NotSupported"
    assert image(api) == "apache/kafka:4.4.0"
    pod = api.one("Pod", "news-brokers-0")["metadata"]
    assert (pod["uid"], "deletionTimestamp" in pod) == (uid, False), "no pod has stopped"
    api.resource("Cluster", "news", spec(NEWER))
    api.ready("Cluster", "news")


def test_what_a_new_cluster_asks_for_in_vain_is_said_and_makes_no_pod(api: Api, operator: OperatorThread) -> None:
    api.resource("Cluster", "news", spec(OLDER, image="registry.example/apache/kafka:4.4.0"))
    api.says("Cluster", "news", "Stalled", "has Apache Kafka 4.4.0, and engine.version is 4.3.0: set engine.version")
    assert api.get("StatefulSet", "news-brokers") is None
    api.resource("Cluster", "other", {"brokers": BROKERS, "image": "apache/kafka:4.3.0"})
    api.says("Cluster", "other", "Stalled", "is one of Apache Kafka, and the engine is Broadsheet")


def test_a_broker_of_apache_kafka_that_dies_at_start_says_why(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    api.resource("Cluster", "news", spec(OLDER))
    kubelet.run("news")
    api.ready("Cluster", "news")
    words = (
        "Encountered fatal fault: Error starting LogManager: org.apache.kafka.common.KafkaException: Found directory "
        "/var/lib/kafka/data/strange, 'strange' is not in the form of topic-partition"
    )
    kubelet.ends("news-brokers-0", {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}, f"{words} \n")
    told = api.says("Cluster", "news", "Ready", "broker 0: CrashLoopBackOff: Encountered fatal fault")
    assert words in told
    jvm = (
        "Unrecognized VM option 'Foo'\nError: Could not create the Java Virtual Machine.\n"
        "Error: A fatal exception has occurred. Program will exit.\n"
    )
    kubelet.ends("news-brokers-0", {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}, jvm)
    api.says("Cluster", "news", "Ready", "broker 0: CrashLoopBackOff: Unrecognized VM option 'Foo'")
