"""Topics: edits, drift, adoption, rivals, deletion, namespaces."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from e2e.operator.world import HOME, World, condition, is_ready, resource, unique
from tests.support.waiting import wait_until


@pytest.fixture
def name(news: World) -> Iterator[str]:
    """A topic's name, and its resource gone afterwards."""
    name = unique("orders")
    yield name
    news.delete("topic", name, "--wait=false")


def value(world: World, topic: str, key: str) -> str:
    """A topic's property, as in force."""
    return str(world.client("describe", topic)["configs"]["topic"][topic][key]["value"])


def exists(world: World, topic: str) -> bool:
    return topic in world.client("topics")


def test_more_partitions_and_another_retention(news: World, name: str) -> None:
    news.apply(resource("Topic", name, {"cluster": "news", "partitions": 2, "retention": {"time": "1d"}}))
    news.wait("topic", name)
    news.patch("topic", name, {"partitions": 5, "retention": {"time": "2h"}})
    body = news.wait("topic", name)
    assert body["status"]["partitions"] == 5
    assert body["status"]["configs"]["retention.ms"] == "7200000"
    seen = news.client("describe", name)
    assert seen["partitions"] == 5
    assert "7200000" in str(seen["configs"])


def test_fewer_partitions_are_refused_in_words_that_help(news: World, name: str) -> None:
    news.apply(resource("Topic", name, {"cluster": "news", "partitions": 3}))
    news.wait("topic", name)
    options = ["-n", HOME, "--type=merge", "-p", '{"spec":{"partitions":1}}']
    refused = news.kube.kubectl("patch", "topic", name, *options, check=False)
    assert refused.returncode != 0
    assert "partitions can grow but never shrink" in refused.stderr
    moved = news.kube.kubectl("patch", "topic", name, *options[:3], "-p", '{"spec":{"cluster":"other"}}', check=False)
    assert moved.returncode != 0
    assert "cluster" in moved.stderr


def test_more_replicas_than_brokers_is_said_and_healed_by_an_edit(news: World, name: str) -> None:
    news.apply(resource("Topic", name, {"cluster": "news", "partitions": 1, "replicationFactor": 3}))
    body = news.wait("topic", name, lambda t: condition(t)["reason"] not in ("", "Pending", "ClusterNotReady"))
    assert condition(body)["status"] == "False"
    assert "broker" in condition(body)["message"]
    news.patch("topic", name, {"replicationFactor": 1})
    news.wait("topic", name)


def test_drift_is_reverted_and_what_somebody_else_sets_is_left_alone(news: World, name: str) -> None:
    """Two ways to say so: `unmanagedConfig`, and null, which only a server-side apply keeps."""
    config = {"segment.bytes": 1048576, "flush.messages": None}
    spec = {"cluster": "news", "partitions": 1, "config": config, "unmanagedConfig": ["max.message.bytes"]}
    body = json.dumps(resource("Topic", name, spec))
    news.kube.kubectl("apply", "--server-side", "-f", "-", stdin=body)
    news.wait("topic", name)
    news.client("alter", name, "segment.bytes=2097152", "max.message.bytes=4321", "flush.messages=1234")
    # A resync finds it; the annotation only makes it be looked at now.
    news.kube.kubectl("annotate", "topic", name, "-n", HOME, "look=now")

    def reverted() -> bool:
        return value(news, name, "segment.bytes") == "1048576"

    wait_until(reverted, "segment.bytes to be as declared again", 90)
    assert value(news, name, "max.message.bytes") == "4321"
    assert value(news, name, "flush.messages") == "1234"


def test_the_older_of_two_resources_wins(news: World, name: str) -> None:
    news.apply(resource("Topic", name, {"cluster": "news", "partitions": 1}))
    news.wait("topic", name)
    rival = f"{name}-rival"
    news.apply(resource("Topic", rival, {"cluster": "news", "topicName": name, "partitions": 4}))
    told = news.wait("topic", rival, lambda t: condition(t)["reason"] == "ResourceConflict")
    assert name in condition(told)["message"]
    assert news.client("describe", name)["partitions"] == 1
    news.delete("topic", name)
    news.wait("topic", rival, lambda t: condition(t)["reason"] == "TopicExists")  # it is not identical
    news.patch("topic", rival, {"adoption": "Always"})
    news.wait("topic", rival)
    assert news.client("describe", name)["partitions"] == 4
    news.delete("topic", rival)


def test_an_existing_topic_is_adopted_when_it_is_identical_or_when_told(news: World, name: str) -> None:
    news.client("create", name, "2")
    news.apply(resource("Topic", name, {"cluster": "news", "partitions": 3}))
    body = news.wait("topic", name, lambda t: condition(t)["status"] == "False" and condition(t)["reason"] != "")
    body = news.wait("topic", name, lambda t: condition(t)["reason"] == "TopicExists")
    assert "adoption" in condition(body)["message"]
    assert news.client("describe", name)["partitions"] == 2
    news.patch("topic", name, {"adoption": "Always"})
    news.wait("topic", name)
    assert news.client("describe", name)["partitions"] == 3


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_deletion_follows_the_policy(news: World, name: str, policy: str) -> None:
    news.apply(resource("Topic", name, {"cluster": "news", "partitions": 1, "deletionPolicy": policy}))
    body = news.wait("topic", name)
    assert bool(body["metadata"].get("finalizers")) == (policy == "Delete"), "only a deletion needs a finalizer"
    news.delete("topic", name, "--timeout=30s")
    assert exists(news, name) == (policy == "Retain")


def test_a_namespace_goes_although_its_topics_would_delete_in_kafka(news: World) -> None:
    namespace = "team-a"
    news.kube.kubectl("create", "namespace", namespace)
    topic = f"a.{unique('orders')}"
    spec = {"cluster": f"{HOME}/news", "partitions": 1, "deletionPolicy": "Delete"}
    news.apply(resource("Topic", topic, spec, namespace))
    news.wait("topic", topic, is_ready, namespace)
    news.kube.kubectl("delete", "namespace", namespace, "--timeout=60s")
    assert exists(news, topic), "what the namespace held stays in Kafka"
    news.client("delete", topic)


def test_other_namespaces_need_leave_and_keep_to_their_prefix(news: World) -> None:
    wait_until(lambda: news.kube.kubectl("get", "ns", "team-a", check=False).returncode != 0, "team-a to be gone")
    for namespace in ("team-a", "team-b"):
        news.kube.kubectl("create", "namespace", namespace)
    here = {"cluster": f"{HOME}/news", "partitions": 1}
    news.apply(resource("Topic", "a.good", here, "team-a"), resource("Topic", "bad", here, "team-a"))
    news.apply(resource("Topic", "a.other", here, "team-b"))
    news.apply(resource("ConsumerGroup", "bad", {"cluster": f"{HOME}/news"}, "team-a"))
    news.wait("topic", "a.good", is_ready, "team-a")
    for kind, name, namespace, word in (
        ("topic", "bad", "team-a", "must start with 'a.'"),
        ("consumergroup", "bad", "team-a", "must start with 'a.'"),
        ("topic", "a.other", "team-b", "allowedNamespaces"),
    ):
        told = news.wait(kind, name, lambda b: condition(b)["reason"] == "NamespaceNotAllowed", namespace)
        assert word in condition(told)["message"]
    assert not exists(news, "bad")
    assert not exists(news, "a.other")
    news.kube.kubectl("delete", "namespace", "team-a", "team-b", "--timeout=60s")
    news.client("delete", "a.good")


def test_a_topic_of_no_cluster_waits_for_it_and_can_be_deleted(news: World, name: str) -> None:
    news.apply(resource("Topic", name, {"cluster": "nowhere", "deletionPolicy": "Delete"}))
    told = news.wait("topic", name, lambda t: condition(t)["reason"] == "ClusterNotFound")
    assert "nowhere" in condition(told)["message"]
    news.delete("topic", name, "--timeout=30s")
