"""Changes of a Cluster against the real API server: what restarts, what is said of it, and what comes back."""

from __future__ import annotations

from typing import Any

from e2e.apiserver.operators import Kubelet, OperatorThread
from e2e.apiserver.server import Api
from tests.support.waiting import wait_until

SPEC: dict[str, Any] = {"brokers": {"storage": {"size": "1Gi"}, "resources": {"requests": {"cpu": "0.5"}}}}


def image(api: Api) -> str:
    template = api.one("StatefulSet", "news-brokers")["spec"]["template"]
    name: str = template["spec"]["containers"][0]["image"]
    return name


def restart(api: Api, kubelet: Kubelet, pod: str = "news-brokers-0") -> None:
    """Let the operator restart a broker."""
    before = api.one("Pod", pod)["metadata"]["uid"]
    kubelet.finish(pod)
    kubelet.run("news")
    assert api.one("Pod", pod)["metadata"]["uid"] != before


def rollout(api: Api) -> str:
    return str(api.one("Cluster", "news").get("status", {}).get("rollout", ""))


def test_a_bad_image_that_is_taken_back_is_gone(api: Api, operator: OperatorThread, kubelet: Kubelet) -> None:
    """`git revert` removed the field, and the StatefulSet kept the broken image for ever."""
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    api.resource("Cluster", "news", {**SPEC, "image": "localhost/nothing:none"})
    wait_until(lambda: image(api) == "localhost/nothing:none", "the image of the Cluster")
    restart(api, kubelet)
    note = "restarting broker 0: image changed from broker:1 to localhost/nothing:none; 1 broker to restart"
    wait_until(lambda: ("PodHasOldRevision", note) in api.notes("news"), "the restart to say what it is for")
    kubelet.becomes("news-brokers-0", ready=False)
    api.resource("Cluster", "news", SPEC)
    wait_until(lambda: image(api) == "broker:1", "the image that a new Cluster has")
    restart(api, kubelet)
    api.ready("Cluster", "news")


def test_a_newer_operator_restarts_nothing(api: Api, kubelet: Kubelet) -> None:
    with OperatorThread(api.namespace, image="broker:1"):
        api.resource("Cluster", "news", SPEC)
        kubelet.run("news")
        api.ready("Cluster", "news")
    before = api.one("StatefulSet", "news-brokers")
    with OperatorThread(api.namespace, image="broker:2"):
        api.resource("Cluster", "news", {**SPEC, "maintenanceWindows": []})
        api.ready("Cluster", "news")
        assert api.one("StatefulSet", "news-brokers")["spec"] == before["spec"]
        assert image(api) == "broker:1"


def test_nothing_is_written_when_the_api_server_writes_quantities_its_own_way(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    """0.5 CPU comes back as 500m: that is no reason to apply the StatefulSet in each round."""
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    let_rounds_pass(operator)  # the last marks are put on the StatefulSet after Ready has been said
    written = len(applies(api))
    let_rounds_pass(operator)
    assert len(applies(api)) == written


def let_rounds_pass(operator: OperatorThread) -> None:
    rounds = operator.kafka.calls.count("cluster")
    wait_until(lambda: operator.kafka.calls.count("cluster") > rounds + 5, "some rounds")


def applies(api: Api) -> list[dict[str, Any]]:
    found = [entry.get("objectRef", {}) for entry in api.server.writes()]
    return [x for x in found if x.get("namespace") == api.namespace and x.get("resource") == "statefulsets"]


def test_an_edit_of_the_stateful_set_is_put_back(api: Api, operator: OperatorThread, kubelet: Kubelet) -> None:
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    containers = api.one("StatefulSet", "news-brokers")["spec"]["template"]["spec"]["containers"]
    edited = [{**containers[0], "image": "somebody/else:1"}]
    api.patch("StatefulSet", "news-brokers", {"spec": {"template": {"spec": {"containers": edited}}}})
    wait_until(lambda: image(api) == "broker:1", "the image to be put back")


def test_an_edit_of_a_service_is_put_back(api: Api, operator: OperatorThread, kubelet: Kubelet) -> None:
    """A Service has no generation by which a change could be told from what was applied."""
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    selector = api.one("Service", "news-bootstrap")["spec"]["selector"]
    elsewhere = {"spec": {"selector": {"app.kubernetes.io/name": "elsewhere"}}}
    api.patch("Service", "news-bootstrap", elsewhere)
    wait_until(lambda: api.one("Service", "news-bootstrap")["spec"]["selector"] == selector, "it to be put back")


def test_the_host_is_a_rack(api: Api, operator: OperatorThread, kubelet: Kubelet) -> None:
    """Two constraints with one key: the API server answered 500, and the Cluster was Pending for ever."""
    api.resource("Cluster", "news", {"brokers": {**SPEC["brokers"], "rack": {"topologyKey": "kubernetes.io/hostname"}}})
    kubelet.run("news")
    api.ready("Cluster", "news")


def test_a_rollout_is_said_until_the_last_broker_is_back(api: Api, operator: OperatorThread, kubelet: Kubelet) -> None:
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    api.resource("Cluster", "news", {**SPEC, "config": {"log.roll.hours": "5"}})
    kubelet.finish("news-brokers-0")
    template = kubelet.run("news")["spec"]["template"]
    kubelet.becomes("news-brokers-0", ready=False)
    assert template["metadata"]["annotations"]["broadsheet.io/started-with"]
    wait_until(lambda: "waiting until broker 0 is ready" in rollout(api), "the rollout to go on")
    assert any("log.roll.hours set to 5" in note for _, note in api.notes("news"))
    kubelet.becomes("news-brokers-0", ready=True)
    wait_until(lambda: rollout(api) == "", "the rollout to be over")


def test_a_property_that_needs_no_restart_is_said_by_an_event(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    api.resource("Cluster", "news", {**SPEC, "config": {"num.network.threads": "4"}})
    note = "altered without a restart: num.network.threads=4"
    wait_until(lambda: any(note in text for _, text in api.notes("news")), "an event of the change")


def test_a_topic_that_was_deleted_in_kafka_is_made_again_with_a_warning(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    api.resource("Cluster", "news", SPEC)
    kubelet.run("news")
    api.ready("Cluster", "news")
    api.resource("Topic", "orders", {"cluster": "news", "partitions": 2})
    api.ready("Topic", "orders")
    del operator.kafka.topics["orders"]
    api.resource("Topic", "orders", {"cluster": "news", "partitions": 2, "config": {"retention.ms": 5}})
    note = "the topic orders was deleted in Kafka, and its records are gone: create with 2 partitions"
    wait_until(lambda: ("RecordsLost", note) in api.notes("orders"), "a warning")
    assert operator.kafka.topics["orders"][0] == 2
