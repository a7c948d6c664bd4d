"""etcd and kube-apiserver alone: a real Kubernetes API without nodes, ready in seconds.

Nothing runs pods or fills in what controllers would: a test plays those parts through `Api`. What is real is what the
operator cannot fake: schemas, CEL rules, admission, server-side apply, watches and their time-outs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.ports import free_port
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "test-admin"
Body = dict[str, Any]


def programs() -> Path:
    """The folder with etcd and kube-apiserver: $BROADSHEET_KUBERNETES, or built from pinned modules."""
    given = os.environ.get("BROADSHEET_KUBERNETES")
    if given:
        return Path(given)
    from e2e.operator.providers import build_binaries

    return build_binaries()


class ApiServer:
    """The two processes, on loopback, with the project's definitions applied."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="e2e-apiserver-"))
        self.kubeconfig = self.folder / "kubeconfig"
        self.port = free_port()
        self.audit = self.folder / "audit.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> Self:
        binaries = programs()
        store, peer = free_port(), free_port()
        key = self.folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, stderr=subprocess.DEVNULL)
        (self.folder / "tokens").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
        rules = [{"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]}]
        (self.folder / "policy").write_text(json.dumps({**policy, "rules": [*rules, {"level": "None"}]}))
        self.kubeconfig.write_text(json.dumps(self._kubeconfig()))
        self._run("etcd", [
            binaries / "etcd", "--data-dir", self.folder / "etcd", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls=http://127.0.0.1:{store}", f"--advertise-client-urls=http://127.0.0.1:{store}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        ])  # fmt: skip
        self._run("kube-apiserver", [
            binaries / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{store}", f"--secure-port={self.port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--cert-dir={self.folder}/pki",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={self.folder}/tokens",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
            f"--audit-policy-file={self.folder}/policy", f"--audit-log-path={self.audit}",
        ])  # fmt: skip
        api = Api(self)
        wait_until(lambda: self._alive() and api.answers("/readyz"), "the API server to be ready", 60)
        for path in sorted((REPOSITORY / "crds").glob("*.yaml")):
            api.apply(yaml.safe_load(path.read_text()))
        for plural in ("clusters", "topics", "consumergroups"):
            path = f"/apis/broadsheet.io/v1alpha1/{plural}"
            wait_until(lambda path=path: api.answers(path), f"{plural} to be served")
        return self

    def _kubeconfig(self) -> Body:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }

    def _run(self, name: str, command: list[str | Path]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            arguments = [str(part) for part in command]
            self._processes.append(subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _alive(self) -> bool:
        for process, name in zip(self._processes, ("etcd", "kube-apiserver"), strict=True):
            if process.poll() is not None:
                words = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{words}")
        return True

    def writes(self) -> list[Body]:
        """Every write so far, as the audit log has it."""
        if not self.audit.exists():
            return []
        return [json.loads(line) for line in self.audit.read_text().splitlines() if line.endswith("}")]

    def stop(self) -> None:
        # An API server that has lost its etcd would wait for it, and nothing here is worth keeping.
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


class Refused(Exception):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


ROOTS = {
    "Cluster": ("/apis/broadsheet.io/v1alpha1", "clusters"),
    "Topic": ("/apis/broadsheet.io/v1alpha1", "topics"),
    "ConsumerGroup": ("/apis/broadsheet.io/v1alpha1", "consumergroups"),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "Namespace": ("/api/v1", "namespaces"),
    "Pod": ("/api/v1", "pods"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Service": ("/api/v1", "services"),
    "ResourceQuota": ("/api/v1", "resourcequotas"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "CoreEvent": ("/api/v1", "events"),
    "StatefulSet": ("/apis/apps/v1", "statefulsets"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "StorageClass": ("/apis/storage.k8s.io/v1", "storageclasses"),
    "Event": ("/apis/events.k8s.io/v1", "events"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
}
CLUSTER_WIDE = {"CustomResourceDefinition", "Namespace", "StorageClass"}


class Api:
    """A blocking client of one namespace, with plain dicts."""

    def __init__(self, server: ApiServer, namespace: str = "default") -> None:
        self.server = server
        self.namespace = namespace
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def answers(self, path: str) -> bool:
        try:
            self.call("GET", path)
        except (OSError, Refused, ValueError):
            return False
        return True

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        request = urllib.request.Request(
            self.server.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type, "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20, context=self._tls) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            with contextlib.suppress(ValueError):
                raise Refused(error.code, str(json.loads(text)["message"])) from None
            raise Refused(error.code, text.decode(errors="replace")) from None
        return json.loads(text) if text[:1] in (b"{", b"[") else text.decode()

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        root, plural = ROOTS[kind]
        place = "" if kind in CLUSTER_WIDE else f"/namespaces/{self.namespace}"
        return "/".join(filter(None, [f"{root}{place}/{plural}", name, subresource]))

    def get(self, kind: str, name: str) -> Body | None:
        try:
            found: Body = self.call("GET", self.path(kind, name))
        except Refused as error:
            if error.status == 404:
                return None
            raise
        return found

    def one(self, kind: str, name: str) -> Body:
        found = self.get(kind, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def list(self, kind: str) -> list[Body]:
        items: list[Body] = self.call("GET", self.path(kind))["items"]
        return items

    def create(self, body: Mapping[str, Any]) -> Body:
        created: Body = self.call("POST", self.path(body["kind"]), body)
        return created

    def apply(self, body: Mapping[str, Any], manager: str = "kubectl") -> Body:
        """As `kubectl apply --server-side`: what was applied before and is left out now goes."""
        query = urllib.parse.urlencode({"fieldManager": manager, "force": "true"})
        path = self.path(body["kind"], body["metadata"]["name"])
        applied: Body = self.call("PATCH", f"{path}?{query}", body, "application/apply-patch+yaml")
        return applied

    def patch(self, kind: str, name: str, patch: Mapping[str, Any], subresource: str = "") -> Body:
        patched: Body = self.call("PATCH", self.path(kind, name, subresource), patch, "application/merge-patch+json")
        return patched

    def delete(self, kind: str, name: str) -> None:
        self.call("DELETE", self.path(kind, name))

    def kubectl(self, *arguments: str, stdin: str = "", ok: tuple[int, ...] = (0,)) -> str:
        """Run the real kubectl in the test's namespace; what it prints."""
        command = [str(programs() / "kubectl"), "--kubeconfig", str(self.server.kubeconfig), "-n", self.namespace]
        done = subprocess.run([*command, *arguments], input=stdin, text=True, capture_output=True, timeout=120)
        assert done.returncode in ok, f"kubectl {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    # -- our resources -------------------------------------------------------------------------------------------------

    def resource(self, kind: str, name: str, spec: Mapping[str, Any]) -> Body:
        """Apply one of the project's resources with this whole spec."""
        metadata = {"name": name, "namespace": self.namespace}
        api = "broadsheet.io/v1alpha1"
        return self.apply({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": dict(spec)})

    def conditions(self, kind: str, name: str) -> dict[str, Body]:
        """By type, those that are about the generation that is there."""
        body = self.get(kind, name) or {"metadata": {}}
        generation = body["metadata"].get("generation")
        told = body.get("status", {}).get("conditions", ())
        return {c["type"]: c for c in told if c.get("observedGeneration") == generation}

    def says(self, kind: str, name: str, condition: str, words: str, seconds: float = 30) -> str:
        """Wait until a condition is True, or for Ready until its message fits; return the message."""
        message = ""

        def check() -> bool:
            nonlocal message
            found = self.conditions(kind, name).get(condition, {})
            message = str(found.get("message", ""))
            return words in message and (condition == "Ready" or found.get("status") == "True")

        try:
            wait_until(check, f"{condition} of {kind} {name} to say {words!r}", seconds, 0.05)
        except TimeoutError as error:
            raise AssertionError(f"{error}; it says: {self.conditions(kind, name)}") from None
        return message

    def ready(self, kind: str, name: str, seconds: float = 30) -> Body:
        wait_until(
            lambda: self.conditions(kind, name).get("Ready", {}).get("status") == "True",
            f"{kind} {name} to be Ready",
            seconds,
            0.05,
        )
        return self.one(kind, name)

    def notes(self, name: str) -> list[tuple[str, str]]:
        """Reason and note of the events about an object."""
        return [(e["reason"], e["note"]) for e in self.list("Event") if e["regarding"]["name"] == name]


@contextlib.contextmanager
def namespace(server: ApiServer, name: str) -> Iterator[Api]:
    """A client of a namespace of its own."""
    api = Api(server, name)
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield api
