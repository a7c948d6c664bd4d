"""A canary's Deployment against the real API server: made, left alone, changed, put back, and removed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.apiserver.operators import OperatorThread
from e2e.apiserver.server import Api, Refused
from tests.support.waiting import wait_until

BROKERS = {"brokers": {"replicas": 1, "storage": {"size": "1Gi"}}}
NAME = "news-canary"


@pytest.fixture
def operator(api: Api) -> Iterator[OperatorThread]:
    with OperatorThread(api.namespace, canary_image="operator:1") as operator:
        yield operator


def argument(api: Api, name: str) -> str:
    if api.get("Deployment", NAME) is None:
        return ""
    (container,) = api.one("Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    return next(a for a in container["args"] if a.startswith(f"--{name}=")).partition("=")[2]


def declare(api: Api, **spec: Any) -> None:
    api.resource("Cluster", "news", {**BROKERS, **spec})


def test_a_canary_is_made_left_alone_put_back_and_removed(api: Api, operator: OperatorThread) -> None:
    declare(api, canary={"interval": "500ms"})
    wait_until(lambda: api.get("Deployment", NAME), "the Deployment")
    assert argument(api, "interval") == "500ms"
    assert api.get("NetworkPolicy", NAME)
    versions = {kind: api.one(kind, NAME)["metadata"]["resourceVersion"] for kind in ("Deployment", "NetworkPolicy")}
    until = time.monotonic() + 3.0  # several rounds
    wait_until(lambda: time.monotonic() > until, "some rounds")
    assert versions == {kind: api.one(kind, NAME)["metadata"]["resourceVersion"] for kind in versions}, "it is at rest"

    declare(api, canary={"maxLatency": "2s"})
    wait_until(lambda: argument(api, "max-latency") == "2000ms" and argument(api, "interval") == "1s", "the change")
    api.delete("Deployment", NAME)
    wait_until(lambda: api.get("Deployment", NAME), "another Deployment")

    declare(api)
    wait_until(lambda: api.get("Deployment", NAME) is None and api.get("NetworkPolicy", NAME) is None, "their end")
    assert api.get("NetworkPolicy", "news-brokers")


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        ({"interval": "soon"}, "spec.canary.interval"),
        ({"topicName": "orders"}, "spec.canary.topicName"),
        ({"metricsPort": 70000}, "spec.canary.metricsPort"),
    ],
)
def test_what_the_api_server_refuses(api: Api, canary: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as refused:
        declare(api, canary=canary)
    assert words in str(refused.value)
