"""Flux's source- and kustomize-controller beside a control plane, and what a person does with them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from e2e.apiserver.server import ApiServer
from e2e.apiserver.server import programs as kubernetes_programs
from e2e.gitops.argocd import served
from e2e.gitops.daemons import Daemons
from e2e.gitops.programs import programs
from e2e.gitops.repository import BRANCH
from e2e.operator.providers import ExistingKubernetes, Kubernetes
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

Body = dict[str, Any]
NAMESPACE = "flux-system"
INTERVAL_SECONDS = 20
KUSTOMIZATION = "kustomizations.kustomize.toolkit.fluxcd.io"
SOURCE = "gitrepositories.source.toolkit.fluxcd.io"


class ApiServerKubernetes(ExistingKubernetes):
    """The API server of e2e/apiserver, with kubectl."""

    name = "apiserver"

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(server.kubeconfig),
            "PATH": f"{kubernetes_programs()}:{os.environ['PATH']}",
        }

    def run(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.CompletedProcess[str]:
        # `env` looks the program up in the PATH that it is given.
        return super().run(["env", *command], env=self._environment, **options)

    def popen(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.Popen[str]:
        return super().popen(["env", *command], env=self._environment, **options)


class Flux:
    """The two controllers, one GitRepository, and Kustomizations of it."""

    def __init__(self, kube: Kubernetes, daemons: Daemons) -> None:
        self.kube = kube
        self._daemons = daemons

    def start(self) -> Self:
        found = programs()
        folder = self._daemons.folder
        self.kube.kubectl("apply", "--server-side", f"--filename={found / 'flux-manifests'}")
        wait_until(lambda: served(self.kube, KUSTOMIZATION, SOURCE), "Flux's definitions to be served", 60, 0.5)
        self.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        storage, *ports = free_ports(5)
        artifacts = tempfile.mkdtemp(prefix="artifacts-", dir=folder)  # each start has its own: the folder outlives it
        common = ["--events-addr=", "--enable-leader-election=false"]
        for name in ("source-controller", "kustomize-controller"):
            options = [f"--metrics-addr=127.0.0.1:{ports.pop()}", f"--health-addr=127.0.0.1:{ports.pop()}"]
            if name == "source-controller":
                address = f"127.0.0.1:{storage}"
                options += [f"--storage-path={artifacts}"]
                options += [f"--storage-addr={address}", f"--storage-adv-addr={address}"]
            self._daemons.start(name, [found / name, *common, *options], RUNTIME_NAMESPACE=NAMESPACE, HOME=folder)
        return self

    def remove(self) -> None:
        """Take its own objects away; what Kustomizations have applied stays."""
        for kind in (KUSTOMIZATION, SOURCE):
            merge = ["--type=merge", "-p", '{"metadata":{"finalizers":null}}']
            self.kube.kubectl("patch", kind, "-n", NAMESPACE, "--all", *merge, check=False)
        manifests = programs() / "flux-manifests"
        self.kube.kubectl("delete", "--ignore-not-found", f"--filename={manifests}", "--timeout=60s")
        self.kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")

    def source(self, url: str) -> None:
        spec = {"interval": f"{INTERVAL_SECONDS}s", "url": url, "ref": {"branch": BRANCH}}
        metadata = {"name": "platform", "namespace": NAMESPACE}
        self.kube.apply(
            {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": metadata, "spec": spec}
        )

    def kustomization(self, name: str, path: str, timeout_seconds: int = 120) -> None:
        """A folder of the repository, applied, pruned and waited for."""
        spec = {
            "interval": f"{INTERVAL_SECONDS}s",
            "retryInterval": "5s",
            "sourceRef": {"kind": "GitRepository", "name": "platform"},
            "path": f"./{path}",
            "prune": True,
            "wait": True,
            "timeout": f"{timeout_seconds}s",
        }
        metadata = {"name": name, "namespace": NAMESPACE}
        api = "kustomize.toolkit.fluxcd.io/v1"
        self.kube.apply({"apiVersion": api, "kind": "Kustomization", "metadata": metadata, "spec": spec})

    def pushed(self, source: str = "platform") -> None:
        """As `flux reconcile source git`, or a Receiver of webhooks: Kustomizations follow by themselves."""
        stamp = f"reconcile.fluxcd.io/requestedAt={time.time_ns()}"
        self.kube.kubectl("annotate", SOURCE, source, "-n", NAMESPACE, "--overwrite", stamp)

    def wait(self, name: str, until: Callable[[Body], object], what: str, seconds: float = 90) -> Body:
        """The Kustomization, once `until` is true of it; the failure shows its status."""
        body: Body = {}

        def check() -> bool:
            self._daemons.check()
            body.update(self.kube.get(KUSTOMIZATION, name, "-n", NAMESPACE))
            return bool(until(body))

        try:
            wait_until(check, "", seconds, 0.2)
        except TimeoutError:
            state = body.get("status", {}).get("conditions")
            raise AssertionError(f"Kustomization {name}: {what} not within {seconds:g} s: {state}") from None
        return body

    def wait_ready(self, name: str, revision: str, seconds: float = 90) -> Body:
        def check(body: Body) -> bool:
            applied = str(body.get("status", {}).get("lastAppliedRevision", ""))
            return applied.endswith(revision) and ready(body)["status"] == "True"

        return self.wait(name, check, f"Ready at {revision[:7]}", seconds)


def ready(body: Body) -> Body:
    conditions = body.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == "Ready"), {"status": "", "reason": "", "message": ""})
