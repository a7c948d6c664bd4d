"""One API server for the session; each test has a namespace of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from e2e.apiserver.operators import Kubelet, OperatorThread
from e2e.apiserver.server import Api, ApiServer, namespace


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    with ApiServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(server.kubeconfig))  # the client library reads it when it is imported
        yield server


@pytest.fixture
def api(server: ApiServer, request: pytest.FixtureRequest) -> Iterator[Api]:
    """A client of a namespace that is named after the test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    with namespace(server, f"{name[:40].strip('-')}-{abs(hash(request.node.nodeid)) % 10**6}") as api:
        yield api


@pytest.fixture
def operator(api: Api) -> Iterator[OperatorThread]:
    """An operator of this test's namespace, with a Kafka in memory."""
    with OperatorThread(api.namespace) as operator:
        yield operator


@pytest.fixture
def kubelet(api: Api) -> Kubelet:
    return Kubelet(api)
