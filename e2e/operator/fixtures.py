"""One Kubernetes for the session, our operator installed on it by helm, and a Cluster that most tests share.

`e2e/conftest.py` imports these fixtures, and nothing else may: imported twice, there would be two Kubernetes.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from e2e.operator import apache_image, images
from e2e.operator.engines import ENGINES, Engine
from e2e.operator.providers import REPOSITORY, Kubernetes, NamespacesKubernetes, running
from e2e.operator.world import API, HOME, OPERATOR_NAMESPACE, World, chart, client_pod

LOGS = pathlib.Path(os.environ.get("BROADSHEET_E2E_LOGS") or REPOSITORY / "build/e2e-kubernetes")


@pytest.fixture(scope="session")
def kube(request: pytest.FixtureRequest) -> Iterator[Kubernetes]:
    """A running Kubernetes that knows our images; after a failure its logs are kept in build/e2e-kubernetes.

    With BROADSHEET_E2E_ATTACH=FOLDER it is the one that `make kubernetes` has started, with the images it has.
    """
    attached = os.environ.get("BROADSHEET_E2E_ATTACH")
    if attached:
        yield NamespacesKubernetes.attach(pathlib.Path(attached))
        return
    with running(os.environ.get("BROADSHEET_E2E_PROVIDER")) as cluster:
        yield cluster
        if request.session.testsfailed:
            cluster.collect_logs(LOGS)
            print(f"\nlogs of the cluster: {LOGS}")


@pytest.fixture(scope="session")
def apache_kafka(kube: Kubernetes) -> Engine:
    """Apache Kafka as an engine, its image known to every node."""
    if kube.name != "existing":  # that one pulls it
        kube.load_image(apache_image.build())
    return ENGINES["apache-kafka"]


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine of the Clusters under test, by `--engine`."""
    name = request.config.getoption("--engine")
    if name == "apache-kafka":
        request.getfixturevalue("apache_kafka")
    return ENGINES[name]


@pytest.fixture(scope="session")
def world(kube: Kubernetes, engine: Engine) -> World:
    """The operator installed by helm, and a pod to run clients in."""
    done = kube.run(["helm", *chart("replicas=2")])
    assert done.returncode == 0, done.stderr
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    kube.apply(client_pod(images.OPERATOR))
    kube.kubectl("wait", "--for=condition=Ready", "pod/client", "-n", HOME, "--timeout=60s")
    kube.kubectl("get", f"--raw=/apis/{API}")
    assert kube.kubectl("get", "deployment", "-n", OPERATOR_NAMESPACE).stdout
    return World(kube, engine)


@pytest.fixture(scope="session")
def news(world: World) -> World:
    """A Cluster of one broker, Ready."""
    spec = {
        "brokers": {
            "replicas": 1,
            "storage": {"size": "1Gi"},
            "rack": {"topologyKey": "topology.kubernetes.io/zone"},
        },
        "config": {"group.initial.rebalance.delay.ms": "0"},
        "allowedNamespaces": [{"namespace": "team-a", "prefix": "a."}],
    }
    world.apply(world.cluster("news", spec))
    world.wait("cluster", "news", seconds=90)
    return world
