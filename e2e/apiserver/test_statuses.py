"""Statuses against the real API server: what was there goes again, and what is refused wedges nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from broadsheet_operator.api.cluster import ClusterStatus
from broadsheet_operator.api.consumer_group import ConsumerGroupStatus
from broadsheet_operator.api.meta import Status
from broadsheet_operator.api.topic import TopicStatus
from broadsheet_operator.handlers.store import KubernetesStore
from broadsheet_operator.handlers.writing import Writer
from broadsheet_operator.kubernetes import ApiGateway, Kind
from broadsheet_operator.reconcilers.conditions import NO_FIGURES, conditions, ready
from broadsheet_operator.reconcilers.observed import Failure
from e2e.apiserver.operators import Kubelet, OperatorThread
from e2e.apiserver.server import Api
from tests.support.waiting import wait_until

SPECS: dict[type[Status], tuple[Kind, dict[str, Any]]] = {
    ClusterStatus: (Kind.CLUSTER, {"external": {"bootstrapServers": ["a:1"]}}),
    TopicStatus: (Kind.TOPIC, {"cluster": "a"}),
    ConsumerGroupStatus: (Kind.CONSUMER_GROUP, {"cluster": "a"}),
}
NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)
TIME = "2026-01-31T08:00:00Z"
WRITTEN = {"time": TIME, "last_transition_time": TIME, "state": "Running", "verdict": "OK", "status": "True"}


def filled(model: type[BaseModel], *, with_entries: bool) -> dict[str, Any]:
    """Values for every field of a model; lists and maps have one entry, or none."""
    values: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        values[name] = WRITTEN.get(name) or _value(info.annotation, with_entries=with_entries)
    return values


def _value(annotation: Any, *, with_entries: bool) -> Any:
    origin, parts = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return filled(annotation, with_entries=with_entries)
    if origin is list:
        return [_value(parts[0], with_entries=with_entries)] if with_entries else []
    if origin is dict:
        return {"retention.ms": _value(parts[1], with_entries=with_entries)} if with_entries else {}
    if annotation in (int, bool, str):
        return {int: 7, bool: True, str: "orders"}[annotation]
    return _value(next(p for p in parts if p is not type(None)), with_entries=with_entries)


def places(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every list and map in a status, by its path."""
    for name, info in model.model_fields.items():
        for part in _parts(info.annotation):
            if get_origin(part) in (list, dict):
                yield before + name
            elif isinstance(part, type) and issubclass(part, BaseModel):
                yield from places(part, f"{before}{name}.")


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def cases() -> list[tuple[type[Status], str]]:
    return [(model, place) for model in SPECS for place in sorted(set(places(model))) if place != "conditions"]


def emptied(values: dict[str, Any], place: str) -> dict[str, Any]:
    name, _, rest = place.partition(".")
    inner = values[name]
    if not rest:
        return {**values, name: type(inner)()}
    if isinstance(inner, list):
        return {**values, name: [emptied(entry, rest) for entry in inner]}
    return {**values, name: emptied(inner, rest)}


async def write(api: Api, model: type[Status], *statuses: dict[str, Any]) -> list[Status]:
    """Write statuses one after the other through the operator's own writer; what is read back after each."""
    from kubernetes.aio import client, config

    configuration: Any = client.Configuration()
    await config.load_kube_config(str(api.server.kubeconfig), client_configuration=configuration)
    kind, read = SPECS[model][0], []
    async with client.ApiClient(configuration) as api_client:
        writer = Writer(ApiGateway(api_client, "test"), KubernetesStore())
        before: Status | None = None
        for values in statuses:
            body = api.one(kind.kind, "one")
            told = conditions(before, ready(), body["metadata"]["generation"], NOW)
            after = model.model_validate({**values, "conditions": told})
            assert await writer.status(kind, body, before, after, NO_FIGURES, NOW, announce=False)
            before = model.model_validate(api.one(kind.kind, "one")["status"])
            read.append(before)
            assert before.condition("Stalled") is None, before.condition("Stalled")
            assert before.written() == after.written()
        await writer.close()
    return read


@pytest.mark.parametrize(("model", "place"), cases(), ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_what_a_status_had_can_become_empty_again(api: Api, model: type[Status], place: str) -> None:
    """A Topic whose only override went was refused for ever: `status.configs: Invalid value: "null"`."""
    kind, spec = SPECS[model]
    api.resource(kind.kind, "one", spec)
    full = filled(model, with_entries=True)
    if model is ClusterStatus:
        full["observed_generation"] = 1
    asyncio.run(write(api, model, full, emptied(full, place), full))


def test_a_status_that_was_full_can_become_empty_altogether(api: Api) -> None:
    for model, (kind, spec) in SPECS.items():
        api.resource(kind.kind, "one", spec)
        asyncio.run(write(api, model, filled(model, with_entries=True), filled(model, with_entries=False)))


def test_text_and_lists_that_are_longer_than_the_schema_allows_are_cut(api: Api) -> None:
    api.resource("Cluster", "one", SPECS[ClusterStatus][1])
    api.resource("Topic", "one", SPECS[TopicStatus][1])
    long = {
        "rollout": "x" * 5000,
        "brokers": [{"id": n, "state": "s" * 100, "message": "m" * 2000} for n in range(150)],
    }
    status = asyncio.run(write(api, ClusterStatus, long))[0]
    assert isinstance(status, ClusterStatus)
    assert status.rollout == "x" * 1021 + "..." and len(status.brokers) == 100
    many = {"configs": {f"key.{n}": "v" * (5000 if n < 3 else 1) for n in range(300)}}
    topic = asyncio.run(write(api, TopicStatus, many))[0]
    assert isinstance(topic, TopicStatus) and topic.configs is not None and len(topic.configs) == 256


def test_a_topic_whose_only_override_goes_is_ready_again(api: Api, operator: OperatorThread, kubelet: Kubelet) -> None:
    ready_cluster(api, operator, kubelet)
    api.resource("Topic", "orders", {"cluster": "news", "partitions": 1, "config": {"retention.ms": 5}})
    assert api.ready("Topic", "orders")["status"]["configs"] == {"retention.ms": "5"}
    api.resource("Topic", "orders", {"cluster": "news", "partitions": 1})
    topic = api.ready("Topic", "orders")
    assert "configs" not in topic["status"] and topic["status"]["observedGeneration"] == 2
    assert operator.kafka.topics["orders"] == (1, {})


def test_a_topic_that_was_made_again_by_hand_while_the_cluster_was_paused_is_said(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    """Its status stood still at "the Cluster is paused", and nothing said that the declared setting was gone."""
    ready_cluster(api, operator, kubelet)
    spec = {"cluster": "news", "partitions": 1, "minInSyncReplicas": 2}
    api.resource("Topic", "orders", spec)
    api.ready("Topic", "orders")
    brokers = {"brokers": {"storage": {"size": "1Gi"}}}
    api.resource("Cluster", "news", {**brokers, "paused": True})
    api.says("Cluster", "news", "Paused", "Nothing is changed")
    api.resource("Topic", "orders", {**spec, "config": {}})
    operator.kafka.topics["orders"] = (1, {})
    operator.kafka.made["orders"] += 1
    api.resource("Topic", "orders", spec)
    api.says("Topic", "orders", "Ready", "is paused")
    api.resource("Cluster", "news", brokers)
    api.says("Topic", "orders", "Stalled", "to do: set min.insync.replicas=2")


def test_a_status_that_is_refused_is_written_without_the_part_and_says_so(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    """Whatever the schema of an older release does not know to be valid: the rest is written, and the deed is done."""
    ready_cluster(api, operator, kubelet)
    crd = api.one("CustomResourceDefinition", "topics.broadsheet.io")
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    allowed = status["inSync"]["maxLength"]
    set_length(api, crd, 1)
    try:
        api.resource("Topic", "orders", {"cluster": "news", "partitions": 1})
        message = api.says("Topic", "orders", "Stalled", "status.inSync")
        assert "the API server refuses this status" in message
        assert operator.kafka.topics["orders"] == (1, {})
        topic = api.one("Topic", "orders")
        assert topic["status"]["partitions"] == 1 and "inSync" not in topic["status"]
        wait_until(lambda: "StatusRefused" in dict(api.notes("orders")) or len(api.notes("orders")) > 1, "an event")
    finally:
        set_length(api, api.one("CustomResourceDefinition", "topics.broadsheet.io"), allowed)
    api.resource("Topic", "orders", {"cluster": "news", "partitions": 2})
    api.ready("Topic", "orders")
    wait_until(lambda: "Stalled" not in api.conditions("Topic", "orders"), "Stalled to go")
    assert api.one("Topic", "orders")["status"]["inSync"] == "2/2"


def set_length(api: Api, crd: dict[str, Any], most: int) -> None:
    place = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["inSync"]
    place["maxLength"] = most
    api.call("PUT", api.path("CustomResourceDefinition", crd["metadata"]["name"]), crd)


def test_a_topic_whose_status_cannot_be_written_stops_no_other(
    api: Api, operator: OperatorThread, kubelet: Kubelet
) -> None:
    ready_cluster(api, operator, kubelet)
    operator.kafka.refuses["bad"] = Failure("PolicyViolation", "create bad: refused", retriable=False)
    for name in ("bad", "good", "better"):
        api.resource("Topic", name, {"cluster": "news", "partitions": 1})
    for name in ("good", "better"):
        api.ready("Topic", name)
    api.says("Topic", "bad", "Stalled", "create bad: refused")


def ready_cluster(api: Api, operator: OperatorThread, kubelet: Kubelet) -> None:
    api.resource("Cluster", "news", {"brokers": {"storage": {"size": "1Gi"}}})
    kubelet.run("news")
    api.ready("Cluster", "news")
