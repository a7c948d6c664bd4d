"""Argo CD on the Kubernetes of the session, and a repository that it reads: the operator itself is installed by it."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

import pytest

from e2e.gitops.argocd import ArgoCd
from e2e.gitops.daemons import Daemons
from e2e.gitops.figures import Figures
from e2e.gitops.manifests import ENVIRONMENT, older_chart, use_examples
from e2e.gitops.page import Page
from e2e.gitops.repository import Repository
from e2e.operator import images
from e2e.operator.providers import REPOSITORY, Kubernetes
from e2e.operator.world import HOME, World, client_pod

LOGS = REPOSITORY / "build/e2e-gitops"

FIGURES = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    return Figures(request.config.stash.setdefault(FIGURES, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(FIGURES, [])
    if rows:
        width = max(len(what) for what, _ in rows)
        terminalreporter.write_line("GitOps:")
        for what, value in rows:
            terminalreporter.write_line(f"  {what:{width}}  {value}")


def folder_of_daemons(request: pytest.FixtureRequest) -> Iterator[pathlib.Path]:
    """For programs and repositories; after a failure their logs are kept in build/e2e-gitops."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="e2e-gitops-"))
    yield folder
    if request.session.testsfailed:
        LOGS.mkdir(parents=True, exist_ok=True)
        for log in folder.glob("*.log"):
            shutil.copy(log, LOGS)
        print(f"\nlogs of Argo CD or Flux: {LOGS}")
    shutil.rmtree(folder, ignore_errors=True)


folder = pytest.fixture(scope="session")(folder_of_daemons)


@pytest.fixture(scope="session")
def daemons(kube: Kubernetes, folder: pathlib.Path) -> Iterator[Daemons]:
    with Daemons(folder, kube.popen) as daemons:
        yield daemons


@pytest.fixture(scope="session")
def argo(kube: Kubernetes, daemons: Daemons, figures: Figures) -> Iterator[ArgoCd]:
    """Argo CD with our scripts for health and actions, on a Kubernetes without our operator."""
    there = kube.kubectl("get", "crd", "clusters.broadsheet.io", "--ignore-not-found", "-o", "name").stdout
    assert not there, "Broadsheet is installed: run e2e/gitops alone, or after e2e/operator, which takes it away again"
    argo = ArgoCd(kube, daemons)
    began = time.monotonic()
    argo.start()
    figures.add("Argo CD starts", time.monotonic() - began, "s")
    yield argo
    argo.remove()


@pytest.fixture(scope="session")
def team(kube: Kubernetes) -> World:
    """What a person of the team does with kubectl and Kafka clients. The operator comes by Argo CD."""
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    kube.apply(client_pod(images.OPERATOR))
    kube.kubectl("wait", "--for=condition=Ready", "pod/client", "-n", HOME, "--timeout=60s")
    return World(kube)


@pytest.fixture(scope="session")
def broadsheet(folder: pathlib.Path, daemons: Daemons) -> Repository:
    """The repository with the chart; an older one, at first."""
    repository = Repository(folder, daemons, "broadsheet")
    repository.copy(REPOSITORY / "charts/broadsheet", "charts/broadsheet")
    repository.commit("The chart before", older_chart(repository))
    return repository


@pytest.fixture(scope="session")
def kafka(folder: pathlib.Path, daemons: Daemons, broadsheet: Repository) -> Repository:
    """The repository of the page: the examples."""
    repository = Repository(folder, daemons, "kafka")
    use_examples(repository, broadsheet)
    repository.commit("The operator, and the environment dev")
    return repository


@pytest.fixture(scope="session")
def page(argo: ArgoCd, kube: Kubernetes, folder: pathlib.Path, kafka: Repository) -> Page:
    return Page(kube, folder / "checkout", kafka, argo.command_line())


@pytest.fixture(scope="session")
def platform(argo: ArgoCd, page: Page, kafka: Repository, team: World, figures: Figures) -> Repository:
    """The page's repository, Synced and Healthy: one Application by hand, which brings the others."""
    page.run("kubectl apply --server-side --field-manager broadsheet")
    began = time.monotonic()
    page.run("kubectl apply -f docs/examples/gitops/argocd/root.yaml")
    argo.wait_healthy("broadsheet", seconds=150)
    argo.wait_healthy(ENVIRONMENT, kafka.head, 240)
    argo.wait_healthy("kafka", kafka.head, 60)
    figures.add("Argo CD: from nothing to Healthy (operator, Cluster, topics, group)", time.monotonic() - began, "s")
    return kafka
