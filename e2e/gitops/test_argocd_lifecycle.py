"""The operator itself by commits: its chart upgraded under running brokers, a second one, and all of it withdrawn."""

from __future__ import annotations

import time

from e2e.gitops.argocd import ArgoCd
from e2e.gitops.figures import Figures
from e2e.gitops.manifests import (
    BOOTSTRAP,
    CHART_FILE,
    CLUSTER,
    CRD_FILE,
    DEFINITIONS,
    ENVIRONMENT,
    LATER_FIELD,
    OPERATOR_FILE,
    application,
    operator,
)
from e2e.gitops.page import Page
from e2e.gitops.repository import Repository
from e2e.operator.images import BROKER as BROKER_IMAGE
from e2e.operator.images import OPERATOR
from e2e.operator.providers import REPOSITORY
from e2e.operator.world import OPERATOR_NAMESPACE, World, is_ready

BROKER = f"{CLUSTER}-brokers-0"


def incarnation(team: World) -> tuple[str, int, str]:
    """A broker's pod and container: another one after any restart."""
    pod = team.get("pod", BROKER, ENVIRONMENT)
    assert pod is not None
    [container] = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"], container["containerID"]


def field_is_known(team: World) -> bool:
    return team.kube.kubectl("explain", f"clusters.spec.{LATER_FIELD}", check=False).returncode == 0


def test_an_upgrade_of_the_chart_restarts_no_broker(
    platform: Repository, broadsheet: Repository, argo: ArgoCd, team: World, figures: Figures
) -> None:
    before, operators = incarnation(team), {pod["metadata"]["uid"] for pod in team.operator_pods()}
    assert not field_is_known(team), "the chart before the upgrade has a field less"
    # A new chart (its definitions, its version in the labels), another default image of brokers, another setting.
    for file in (CRD_FILE, CHART_FILE):
        broadsheet.copy(REPOSITORY / file, file)
    revision = broadsheet.commit("The chart of today")
    broker = {"image": "localhost/broadsheet-broker:next"}
    settings = platform.commit("Upgrade", {OPERATOR_FILE: operator(platform, logLevel="debug", broker=broker)})
    began = time.monotonic()
    argo.push(broadsheet.url, revision)
    argo.push(platform.url, settings, OPERATOR_FILE)
    argo.wait_healthy("kafka", settings)
    argo.wait_healthy("broadsheet", revision, 150)
    figures.add("Argo CD: chart upgraded", time.monotonic() - began, "s")
    now = {pod["metadata"]["uid"] for pod in team.operator_pods()}
    assert now and not now & operators, "the operators are new"
    assert field_is_known(team), "the definitions went with the chart"
    generation = team.wait("cluster", CLUSTER, is_ready, ENVIRONMENT)["metadata"]["generation"]
    window = {"schedule": "0 3 * * *", "duration": "2h"}
    team.patch("cluster", CLUSTER, {LATER_FIELD: [window]}, ENVIRONMENT)
    team.wait("cluster", CLUSTER, lambda b: is_ready(b) and b["metadata"]["generation"] > generation, ENVIRONMENT)
    team.patch("cluster", CLUSTER, {LATER_FIELD: None}, ENVIRONMENT)
    argo.wait_healthy(ENVIRONMENT)
    assert incarnation(team) == before, "no broker was restarted, and none has the new default image"


def test_a_second_installation_says_that_it_is_not_alone(
    platform: Repository, broadsheet: Repository, argo: ArgoCd, team: World
) -> None:
    before = incarnation(team)
    repository, _, tag = OPERATOR.rpartition(":")
    values = {"image": {"repository": repository, "tag": tag}, "broker": {"image": BROKER_IMAGE}, "replicas": 1}
    helm = {"releaseName": "second", "valuesObject": {**values, "crds": {"install": False}}}
    argo.apply(application("second", broadsheet.url, "charts/broadsheet", "second", helm=helm))
    argo.wait_healthy("second", seconds=150)
    told = team.wait_event(CLUSTER, "AnotherOperator", ENVIRONMENT, 60)
    assert OPERATOR_NAMESPACE in told["note"], told["note"]
    team.wait("cluster", CLUSTER, is_ready, ENVIRONMENT)
    argo.delete("second")
    argo.kube.kubectl("delete", "namespace", "second", "--timeout=90s")
    assert incarnation(team) == before


def test_withdrawing_the_app_of_apps_takes_nothing_with_it(
    platform: Repository, argo: ArgoCd, page: Page, team: World, figures: Figures
) -> None:
    """Deleted with the option that deletes most, as `argocd app delete` does by default; and applied again."""
    team.client("produce", "orders", "50", bootstrap=BOOTSTRAP)
    before = incarnation(team)
    began = time.monotonic()
    argo.delete("kafka")
    figures.add("Argo CD: app of apps withdrawn", time.monotonic() - began, "s")
    for name in ("kafka", ENVIRONMENT, "broadsheet"):
        argo.wait_gone(name)
    assert len(team.client("consume", "orders", "auditors", "50", bootstrap=BOOTSTRAP)) == 50
    assert team.operator_pods(), "the operator runs on"
    assert incarnation(team) == before
    page.run("kubectl apply -f docs/examples/gitops/argocd/root.yaml")
    for name in ("kafka", "broadsheet", ENVIRONMENT):
        argo.wait_healthy(name, seconds=120)
    assert incarnation(team) == before, "what was there is taken over as it is"


def test_an_environment_that_goes_hangs_nowhere(
    platform: Repository, argo: ArgoCd, team: World, figures: Figures
) -> None:
    """Its Application goes with its file and leaves everything; its namespace goes when a person deletes it."""
    revision = platform.commit("dev is no longer needed", {"environments/dev/environment.yaml": None})
    argo.push(platform.url, revision, "environments/dev/environment.yaml")
    argo.wait_gone(ENVIRONMENT, 120)
    team.wait("cluster", CLUSTER, is_ready, ENVIRONMENT)
    began = time.monotonic()
    team.kube.kubectl("delete", "namespace", ENVIRONMENT, "--timeout=120s", timeout=130)
    figures.add("namespace of an environment deleted", time.monotonic() - began, "s")

    platform.commit("No operator", {OPERATOR_FILE: None})
    argo.delete("kafka", cascade=False)
    argo.delete("broadsheet")
    assert not team.operator_pods()
    kept = team.kube.kubectl("get", "crd", *DEFINITIONS, "-o", "name").stdout.split()
    assert len(kept) == 3, "the definitions stay, or every other Cluster would go with them"
    argo.kube.kubectl("delete", "crd", *DEFINITIONS, "--timeout=60s")
    argo.kube.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--timeout=90s")
