"""What a test does on the cluster: apply, wait for what a person would see, run clients inside."""

from __future__ import annotations

import json
import pathlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from e2e.operator.engines import BROADSHEET, Engine
from e2e.operator.providers import REPOSITORY, Kubernetes, KubernetesError, NamespacesKubernetes
from tests.support.waiting import wait_until

Body = dict[str, Any]
API = "broadsheet.io/v1alpha1"
OPERATOR_NAMESPACE = "broadsheet"
HOME = "paper"
"""Namespace of the Cluster that most tests share."""
CLIENT = pathlib.Path(__file__).with_name("client.py")


def resource(kind: str, name: str, spec: Mapping[str, Any], namespace: str = HOME) -> Body:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": dict(spec)}


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:6]}"


def condition(body: Body, kind: str = "Ready") -> Body:
    """A condition, or an empty one."""
    found = (c for c in body.get("status", {}).get("conditions", ()) if c["type"] == kind)
    return next(found, {"status": "", "reason": "", "message": ""})


def is_ready(body: Body) -> bool:
    """Ready, for the generation that is there now."""
    current = body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
    return current and condition(body)["status"] == "True"


def is_at_rest(body: Body) -> bool:
    """A Cluster that is Ready, and of which nothing is going on or lacking."""
    status = body.get("status", {})
    busy = status.get("rollout") or status.get("scaling") or status.get("underReplicatedPartitions")
    return is_ready(body) and not busy


@dataclass
class World:
    """A Kubernetes with our operator installed."""

    kube: Kubernetes
    engine: Engine = BROADSHEET
    """Of the Clusters that `cluster` makes."""

    def cluster(self, name: str, spec: Mapping[str, Any], namespace: str = HOME) -> Body:
        """A Cluster with the engine under test."""
        return resource("Cluster", name, self.engine.apply_to(dict(spec)), namespace)

    def apply(self, *bodies: Body) -> None:
        self.kube.apply(list(bodies))

    def get(self, kind: str, name: str, namespace: str = HOME) -> Body | None:
        done = self.kube.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        body: Body | None = json.loads(done.stdout) if done.stdout else None
        return body

    def wait(
        self,
        kind: str,
        name: str,
        until: Callable[[Body], object] = is_ready,
        namespace: str = HOME,
        seconds: float = 60,
        what: str = "",
    ) -> Body:
        """The object, once `until` is true of it; the failure shows its status.

        `seconds` are those of our broker; with another engine they are as many times longer as it needs.
        """
        seconds *= self.engine.patience
        deadline = time.monotonic() + seconds
        body: Body | None = None
        while time.monotonic() < deadline:
            body = self.get(kind, name, namespace)
            if body is not None and until(body):
                return body
            time.sleep(0.1)
        state = json.dumps(body.get("status", {}), indent=1) if body else "there is no such object"
        raise AssertionError(
            f"{kind} {namespace}/{name}: {what or until.__name__} not within {seconds:.0f} s:\n{state}"
        )

    def wait_until(self, until: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Anything else, with the patience that the engine needs."""
        wait_until(until, what, seconds * self.engine.patience)

    def wait_gone(self, kind: str, name: str, namespace: str = HOME, seconds: float = 60) -> None:
        gone = f"{kind} {namespace}/{name} to be gone"
        self.wait_until(lambda: self.get(kind, name, namespace) is None, gone, seconds)

    def patch(self, kind: str, name: str, spec: Mapping[str, Any], namespace: str = HOME) -> None:
        patch = json.dumps({"spec": spec})
        self.kube.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", patch)

    def delete(self, kind: str, name: str, *options: str, namespace: str = HOME) -> None:
        self.kube.kubectl("delete", kind, name, "-n", namespace, "--ignore-not-found", *options)

    def events(self, name: str, namespace: str = HOME) -> list[Body]:
        listed = self.kube.get("events.v1.events.k8s.io", "-n", namespace)["items"]
        return [event for event in listed if event.get("regarding", {}).get("name") == name]

    def wait_event(self, name: str, reason: str, namespace: str = HOME, seconds: float = 30) -> Body:
        def find() -> Body | None:
            return next((e for e in self.events(name, namespace) if e["reason"] == reason), None)

        self.wait_until(find, f"an event {reason} about {name}", seconds)
        event = find()
        assert event is not None
        return event

    # -- the operator --------------------------------------------------------------------------------------------------

    def operator_pods(self) -> list[Body]:
        selector = "app.kubernetes.io/name=broadsheet-operator"
        items: list[Body] = self.kube.get("pods", "-n", OPERATOR_NAMESPACE, "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        lease = self.get("lease", "broadsheet", OPERATOR_NAMESPACE)
        return str(lease["spec"].get("holderIdentity") or "") if lease else ""

    def kill_operator(self) -> str:
        """Take the leader away without a word to it; the name of its pod."""
        wait_until(self.leader, "an operator to lead", 40)
        name = self.leader()
        self.kube.kubectl("delete", "pod", name, "-n", OPERATOR_NAMESPACE, "--grace-period=0", "--force")
        return name

    def metrics(self, pod: str = "") -> dict[str, float]:
        """What the leader tells Prometheus."""
        path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod or self.leader()}:8080/proxy/metrics"
        lines = self.kube.kubectl("get", "--raw", path).stdout.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    # -- clients inside ------------------------------------------------------------------------------------------------

    def client(self, *arguments: str, bootstrap: str = f"news-bootstrap.{HOME}.svc:9092", timeout: float = 90) -> Any:
        """Run a Kafka client in a pod (`client.py` says what it can do); what it printed, as JSON."""
        command = ["exec", "-i", "-n", HOME, "client", "--", "python", "-", bootstrap, *arguments]
        done = self.kube.kubectl(*command, stdin=CLIENT.read_text(), timeout=timeout, check=False)
        if done.returncode:
            raise KubernetesError(f"client {' '.join(arguments)}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return json.loads(done.stdout.splitlines()[-1])


def machines(kube: Kubernetes) -> NamespacesKubernetes:
    """The cluster as one whose machines are ours: for tests that are marked so, and left out elsewhere."""
    assert isinstance(kube, NamespacesKubernetes)
    return kube


def client_pod(image: str) -> Body:
    """A pod to run clients in: the operator's image has Python and kafka-python."""
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", "import signal; signal.pause()"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client", "namespace": HOME},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def chart(*values: str) -> list[str]:
    """The arguments of `helm upgrade --install` for our chart with the images under test."""
    from e2e.operator.images import AGENT, BROKER, OPERATOR

    repository, _, tag = OPERATOR.rpartition(":")
    images = [f"image.repository={repository}", f"image.tag={tag}", f"broker.image={BROKER}"]
    settings = [*images, f"apacheKafka.agentImage={AGENT}", *values]
    arguments = ["upgrade", "--install", "broadsheet", str(REPOSITORY / "charts/broadsheet")]
    arguments += ["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"]
    return arguments + [part for setting in settings for part in ("--set", setting)]
