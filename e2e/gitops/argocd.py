"""Argo CD 3 beside the control plane: application controller, repo server, API server, ApplicationSets, redis.

They run as processes with the configuration of Argo CD's release (`argocd-cm`), as Argo CD's developers run them
(`Procfile`); to the Kubernetes they are clients like any other. Only the polling interval is shorter than the default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import yaml

from e2e.gitops.daemons import Daemons
from e2e.gitops.programs import programs
from e2e.operator.providers import Kubernetes
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

Body = dict[str, Any]
NAMESPACE = "argocd"
POLL_SECONDS = 20
"""How often Argo CD asks for new commits (`timeout.reconciliation`, two minutes by default)."""
KINDS = ("applications.argoproj.io", "applicationsets.argoproj.io", "appprojects.argoproj.io")


class ArgoCd:
    """Argo CD on a Kubernetes, and what a person does with it."""

    def __init__(self, kube: Kubernetes, daemons: Daemons) -> None:
        self.kube = kube
        self._daemons = daemons
        self._programs = programs()
        names = ("redis", "repo", "repo-metrics", "api", "api-metrics", "controller", "sets", "sets-probe", "sets-hook")
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))

    def start(self) -> Self:
        manifests = self._programs / "argocd-manifests"
        self.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        # Server-side: the ApplicationSet is too large for the annotation of a client-side apply.
        files = [f"--filename={path}" for path in sorted(manifests.glob("*-crd.yaml"))]
        self.kube.kubectl("apply", "--server-side", *files)
        wait_until(lambda: served(self.kube, *KINDS), "Argo CD's definitions to be served", 60, 0.5)
        # Its release applies argocd-cm; what is merged into it belongs to other field managers.
        data = yaml.safe_load((manifests / "argocd-cm.yaml").read_text())["data"]
        self.configure("argocd-release", data)
        self.configure("platform", {"resource.customizations.health.argoproj.io_Application": APPLICATION_HEALTH})
        secret = {"metadata": _named("argocd-secret"), "apiVersion": "v1", "kind": "Secret", "type": "Opaque"}
        project = {"sourceRepos": ["*"], "destinations": [{"namespace": "*", "server": "*"}]}
        project |= {"clusterResourceWhitelist": [{"group": "*", "kind": "*"}]}
        self.apply(secret, {"apiVersion": API, "kind": "AppProject", "metadata": _named("default"), "spec": project})
        redis = ["redis-server", "--port", str(self._ports["redis"]), "--bind", "127.0.0.1", "--save", ""]
        self._daemons.start("redis", [*redis, "--dir", str(self._daemons.folder)])
        self._start_programs("repo-server", "application-controller", "server")
        wait_until(lambda: self._daemons.check() and self._answers("api"), "Argo CD's API server to answer", 90, 0.2)
        # It wants the key that the API server has made.
        self._start_programs("applicationset-controller")
        wait_until(lambda: self._daemons.check() and self._answers("sets-hook"), "its webhook to answer", 60, 0.2)
        return self

    def _start_programs(self, *names: str) -> None:
        folder, ports, start = self._daemons.folder, self._ports, self._daemons.start
        redis, repo = f"127.0.0.1:{ports['redis']}", f"127.0.0.1:{ports['repo']}"
        common = {
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_RECONCILIATION_TIMEOUT": f"{POLL_SECONDS}s",
            "ARGOCD_RECONCILIATION_JITTER": "0s",
            "PATH": f"{self._programs}:/usr/local/bin:/usr/bin:/bin",
            "HOME": folder,
        }
        for part in ("tls", "ssh", "gpg", "repo"):
            (folder / part).mkdir(exist_ok=True)
        common |= {"ARGOCD_TLS_DATA_PATH": folder / "tls", "ARGOCD_SSH_DATA_PATH": folder / "ssh"}
        common |= {
            "ARGOCD_GNUPGHOME": folder / "gpg",
            "ARGOCD_GPG_DATA_PATH": folder / "gpg",
            "TMPDIR": folder / "repo",
        }
        kubeconfig = ["--namespace", NAMESPACE]
        # Program, and its options; `argocd` is one binary that becomes what its name says.
        parts: dict[str, list[str]] = {
            "repo-server": ["--disable-tls", "--redis", redis, "--port", str(ports["repo"]), "--address", "127.0.0.1",
                            "--metrics-address", "127.0.0.1", "--metrics-port", str(ports["repo-metrics"])],
            "application-controller": ["--repo-server-plaintext", "--repo-server", repo, "--redis", redis,
                                       "--metrics-port", str(ports["controller"]), *kubeconfig],
            "server": ["--insecure", "--disable-auth", "--repo-server-plaintext", "--repo-server", repo,
                       "--redis", redis, "--address", "127.0.0.1", "--port", str(ports["api"]),
                       "--metrics-address", "127.0.0.1", "--metrics-port", str(ports["api-metrics"]), *kubeconfig],
            "applicationset-controller": ["--repo-server-plaintext", "--argocd-repo-server", repo,
                                          "--metrics-addr", f"127.0.0.1:{ports['sets']}",
                                          "--probe-addr", f"127.0.0.1:{ports['sets-probe']}",
                                          "--webhook-addr", f"127.0.0.1:{ports['sets-hook']}", *kubeconfig],
        }  # fmt: skip
        for name in names:
            start(name, [self._programs / "argocd", *parts[name]], ARGOCD_BINARY_NAME=f"argocd-{name}", **common)

    def configure(self, manager: str, data: Mapping[str, str]) -> None:
        """Keys of argocd-cm."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named("argocd-cm"), "data": dict(data)}
        self.kube.kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=json.dumps(body))

    def remove(self) -> None:
        """Take its own objects away; what Applications have made stays."""
        for kind in KINDS:
            self.kube.kubectl("patch", kind, "-n", NAMESPACE, "--all", "--type=merge", "-p", NO_FINALIZERS, check=False)
        self.kube.kubectl("delete", "crd", *KINDS, "--ignore-not-found", "--timeout=60s")
        self.kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")

    def command_line(self) -> dict[str, str]:
        """The environment in which `argocd` speaks to this one, as after `argocd login`."""
        server = f"--server 127.0.0.1:{self._ports['api']} --plaintext --auth-token none"
        home = self._daemons.folder
        return {"PATH": f"{self._programs}:{os.environ['PATH']}", "ARGOCD_OPTS": server, "HOME": str(home)}

    # -- what a person sees --------------------------------------------------------------------------------------------

    def _answers(self, part: str) -> bool:
        # Not what it answers: the webhook's server has nothing but webhooks.
        return self.kube.run(["curl", "-sS", self._url(part, "/healthz")]).returncode == 0

    def _url(self, part: str, path: str) -> str:
        return f"http://127.0.0.1:{self._ports[part]}{path}"

    def call(self, path: str, body: Any = None, *, part: str = "api", **headers: str) -> Any:
        """A call of the API that Argo CD's pages and its command line use. `part`: the program that is asked."""
        options = [] if body is None else ["--data-binary", "@-"]
        for name, value in {"Content-Type": "application/json", **headers}.items():
            options += ["-H", f"{name.replace('_', '-')}: {value}"]
        command = ["curl", "-sS", "--fail-with-body", "--max-time", "30", *options, self._url(part, path)]
        done = self.kube.run(command, input=None if body is None else json.dumps(body))
        assert done.returncode == 0, f"{path}: {done.stdout[-1000:]}{done.stderr[-500:]}"
        return json.loads(done.stdout) if done.stdout[:1] in ("{", "[") else done.stdout

    def apply(self, *bodies: Body) -> None:
        self.kube.apply(list(bodies))

    def app(self, name: str) -> Body | None:
        """The Application, or None."""
        done = self.kube.kubectl("get", KINDS[0], name, "-n", NAMESPACE, "-o", "json", "--ignore-not-found")
        body: Body | None = json.loads(done.stdout) if done.stdout else None
        return body

    def nodes(self, name: str) -> dict[str, Body]:
        """What the tree on the Application's page shows, by `Kind/name`: health and its message among it."""
        tree = self.call(f"/api/v1/applications/{name}/resource-tree")
        return {f"{node['kind']}/{node['name']}": node for node in tree.get("nodes", ())}

    def wait_node(self, app: str, node: str, health: str, seconds: float = 60) -> str:
        """Wait until a resource of an Application has this health; its message."""
        found: Body = {}

        def check() -> bool:
            found.update({"health": {}}, **self.nodes(app).get(node, {}))
            return bool(found["health"].get("status") == health)

        try:
            wait_until(check, "", seconds, 0.2)
        except TimeoutError:
            raise AssertionError(f"{node} of {app} is not {health} within {seconds:g} s: {found['health']}") from None
        return str(found["health"].get("message", ""))

    def wait(
        self, name: str, until: Callable[[Body], object], seconds: float = 90, what: str = "", every: float = 0.2
    ) -> Body:
        """The Application, once `until` is true of it; the failure shows its state."""
        body: Body | None = None

        def check() -> bool:
            nonlocal body
            self._daemons.check()
            body = self.app(name)
            return body is not None and bool(until(body))

        try:
            wait_until(check, "", seconds, every)
        except TimeoutError:
            state = self.explain(name, body)
            raise AssertionError(f"application {name}: {what or until} not within {seconds:g} s:\n{state}") from None
        assert body is not None
        return body

    def wait_healthy(self, name: str, revision: str = "", seconds: float = 90) -> Body:
        """Synced to this revision, Healthy, and no operation going on."""

        def check(body: Body) -> bool:
            return healthy(body) and (not revision or body["status"]["sync"]["revision"] == revision)

        return self.wait(name, check, seconds, f"Synced and Healthy at {revision[:7] or 'any revision'}")

    def delete(self, name: str, *, cascade: bool = True) -> None:
        """As `argocd app delete`: with all that the Application has made, or alone (`--cascade=false`)."""
        finalizers = json.dumps({"metadata": {"finalizers": [FINALIZER] if cascade else None}})
        self.kube.kubectl("patch", KINDS[0], name, "-n", NAMESPACE, "--type=merge", "-p", finalizers)
        self.kube.kubectl("delete", KINDS[0], name, "-n", NAMESPACE, "--timeout=150s", timeout=160)

    def wait_gone(self, name: str, seconds: float = 90) -> None:
        wait_until(lambda: self.app(name) is None, f"application {name} to be gone", seconds, 0.2)

    def explain(self, name: str, body: Body | None) -> str:
        if body is None:
            return "there is no such Application"
        status = body.get("status", {})
        shown = {key: status.get(key) for key in ("sync", "health", "conditions")}
        shown["operation"] = {k: status.get("operationState", {}).get(k) for k in ("phase", "message", "retryCount")}
        shown["not synced"] = [r for r in status.get("resources", ()) if r.get("status") != "Synced"]
        try:
            health = {key: node.get("health", {}) for key, node in self.nodes(name).items()}
        except AssertionError as error:
            health = {"the tree": {"message": str(error)}}
        ill = {key: found for key, found in health.items() if found and found.get("status") != "Healthy"}
        return json.dumps(shown, indent=1) + "\nnot healthy: " + json.dumps(ill, indent=1)

    # -- what makes it act ---------------------------------------------------------------------------------------------

    def push(self, url: str, revision: str, *files: str) -> None:
        """Tell it of a push as a Git server does, by GitHub's webhook."""
        page = url.removesuffix(".git")
        host, _, path = page.removeprefix("http://").partition("/")
        payload = {
            "ref": "refs/heads/main",
            "before": "0" * 40,
            "after": revision,
            "repository": {"html_url": f"http://{host.partition(':')[0]}/{path}", "default_branch": "main"},
            "commits": [{"id": revision, "modified": list(files)}] if files else [],
        }
        for part in ("api", "sets-hook"):
            self.call("/api/webhook", payload, part=part, X_GitHub_Event="push")

    def refresh(self, name: str, *, hard: bool = False) -> None:
        """As the button Refresh (`argocd app get --refresh`, `--hard-refresh`): by the annotation."""
        self.annotate(name, f"argocd.argoproj.io/refresh={'hard' if hard else 'normal'}")

    def annotate(self, name: str, value: str) -> None:
        """`KEY=VALUE` of an Application, or `KEY-`."""
        self.kube.kubectl("annotate", KINDS[0], name, "-n", NAMESPACE, "--overwrite", value)

    def act(self, app: str, node: str, action: str) -> None:
        """Run an action of a resource, as from its menu."""
        found = self.nodes(app)[node]
        wanted = {
            "namespace": found["namespace"],
            "resourceName": found["name"],
            "group": found["group"],
            "version": found["version"],
            "kind": found["kind"],
            "action": action,
        }
        self.call(f"/api/v1/applications/{app}/resource/actions/v2", wanted)

    def actions(self, app: str, node: str) -> dict[str, bool]:
        """The actions that a resource's menu has, and whether each can be run now."""
        found = self.nodes(app)[node]
        query = f"namespace={found['namespace']}&resourceName={found['name']}&group={found['group']}"
        query += f"&version={found['version']}&kind={found['kind']}"
        answer = self.call(f"/api/v1/applications/{app}/resource/actions?{query}")
        return {action["name"]: not action.get("disabled", False) for action in answer.get("actions") or ()}

    def metrics(self) -> dict[str, float]:
        """What the application controller tells Prometheus."""
        done = self.kube.run(["curl", "-fsS", self._url("controller", "/metrics")], check=True)
        pairs = (line.rpartition(" ") for line in done.stdout.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, _, value in pairs}


API = "argoproj.io/v1alpha1"
APPLICATION_HEALTH = """\
hs = {status = "Progressing", message = ""}
if obj.status ~= nil and obj.status.health ~= nil then
  hs.status = obj.status.health.status
  hs.message = obj.status.health.message or ""
end
return hs
"""
"""From Argo CD's manual: without it a wave of Applications does not wait for the one before it."""
FINALIZER = "resources-finalizer.argocd.argoproj.io"
NO_FINALIZERS = json.dumps({"metadata": {"finalizers": None}})


def _named(name: str) -> Body:
    """Metadata by which Argo CD finds its configuration."""
    return {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "argocd"}}


def served(kube: Kubernetes, *kinds: str) -> bool:
    """Whether the API server knows these kinds by now."""
    return kube.kubectl("get", ",".join(kinds), "-A", check=False).returncode == 0


def healthy(body: Body) -> bool:
    """Synced, Healthy, and nothing going on."""
    status = body.get("status", {})
    done = status.get("operationState", {}).get("phase") in (None, "Succeeded") and "operation" not in body
    words = [status.get(part, {}).get("status") for part in ("sync", "health")]
    return done and words == ["Synced", "Healthy"]
