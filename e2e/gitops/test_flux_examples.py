"""The files of docs/examples/gitops/flux on a Kubernetes with nodes: the operator by its chart, then an environment."""

from __future__ import annotations

import pathlib
import time

from e2e.gitops.daemons import Daemons
from e2e.gitops.figures import Figures
from e2e.gitops.flux import KUSTOMIZATION, NAMESPACE, Flux
from e2e.gitops.manifests import BOOTSTRAP, CLUSTER, DEFINITIONS, ENVIRONMENT, overlay, use_examples
from e2e.gitops.repository import Repository
from e2e.operator.images import BROKER, OPERATOR
from e2e.operator.providers import REPOSITORY, Kubernetes
from e2e.operator.world import OPERATOR_NAMESPACE, World, is_ready


def rendered_chart(kube: Kubernetes) -> str:
    """As the file flux/operator.yaml says it, with the images under test."""
    repository, _, tag = OPERATOR.rpartition(":")
    images = [f"image.repository={repository}", f"image.tag={tag}", f"broker.image={BROKER}"]
    options = [part for image in images for part in ("--set", image)]
    chart = str(REPOSITORY / "charts/broadsheet")
    done = kube.run(["helm", "template", "broadsheet", chart, "--namespace", OPERATOR_NAMESPACE, *options])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_operator_and_an_environment(kube: Kubernetes, team: World, folder: pathlib.Path, figures: Figures) -> None:
    with Daemons(folder, kube.popen) as daemons:
        repository = Repository(folder, daemons, "kafka-of-flux")
        use_examples(repository)
        revision = repository.commit("All of it", {"operator/operator.yaml": rendered_chart(kube)})
        flux = Flux(kube, daemons).start()
        began = time.monotonic()
        kube.kubectl(
            "apply", *(f"--filename={repository.clone / 'flux' / name}.yaml" for name in ("operator", "environment"))
        )
        flux.wait_ready("broadsheet", revision, 150)
        flux.wait_ready(ENVIRONMENT, revision, 240)
        figures.add("Flux: from nothing to Ready (operator, Cluster, topics, group)", time.monotonic() - began, "s")
        revision = repository.commit("orders has 4 partitions", overlay(repository, orders={"partitions": 4}))
        began = time.monotonic()
        flux.pushed(ENVIRONMENT)
        flux.wait_ready(ENVIRONMENT, revision)
        figures.add("Flux: commit to Ready on three nodes, partitions added", time.monotonic() - began, "s")
        assert team.client("describe", "orders", bootstrap=BOOTSTRAP)["partitions"] == 4
        team.client("produce", "orders", "20", bootstrap=BOOTSTRAP)

        # The environment goes and comes back: its volume has stayed.
        kube.kubectl("delete", KUSTOMIZATION, ENVIRONMENT, "-n", NAMESPACE, "--timeout=120s", timeout=130)
        team.wait_gone("pod", f"{CLUSTER}-brokers-0", ENVIRONMENT, 90)
        kube.kubectl("apply", f"--filename={repository.clone / 'flux/environment.yaml'}")
        flux.wait_ready(ENVIRONMENT, revision, 240)
        team.wait("cluster", CLUSTER, is_ready, ENVIRONMENT)
        assert len(team.client("consume", "orders", "auditors", "20", bootstrap=BOOTSTRAP)) == 20

        for name in (ENVIRONMENT, "broadsheet"):
            kube.kubectl("delete", KUSTOMIZATION, name, "-n", NAMESPACE, "--timeout=120s", timeout=130)
        kept = kube.kubectl("get", "crd", *DEFINITIONS, "-o", "name").stdout.split()
        assert len(kept) == 3, "the definitions stay, or every other Cluster would go with them"
        kube.kubectl("delete", "crd", *DEFINITIONS, "--timeout=60s")
        kube.kubectl("delete", "namespace", ENVIRONMENT, "--ignore-not-found", "--timeout=90s")
        flux.remove()
