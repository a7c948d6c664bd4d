"""The real operator against a real API server: in a thread with a Kafka in memory, or as a process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from broadsheet_operator.handlers.main import Process, parser
from broadsheet_operator.settings import OperatorSettings
from e2e.apiserver.server import Api, ApiServer
from tests.support.fake_kafka import FakeKafka
from tests.support.ports import free_port
from tests.support.waiting import wait_until

QUICK = OperatorSettings(
    cluster_ready_seconds=0.2,
    cluster_unready_seconds=0.1,
    last_backoff_seconds=1.0,
    lease_retry_seconds=0.2,
    renew_deadline_seconds=5.0,
    lease_seconds=10.0,
)
"""Everything is looked at often, so that a test waits for nothing but the API server."""


class OperatorThread:
    """The operator's process in a thread: kopf, the lease and the gateway to the API server are real, Kafka is not."""

    def __init__(
        self,
        namespace: str,
        settings: OperatorSettings = QUICK,
        *,
        lease_name: str = "broadsheet",
        lease_namespace: str = "",
        all_namespaces: bool = False,
        image: str = "broker:1",
        canary_image: str = "",
    ) -> None:
        options = ["--broker-image", image, "--canary-image", canary_image, "--lease-name", lease_name]
        options += ["--lease-namespace", lease_namespace or namespace]
        if not all_namespaces:
            options += ["--namespace", namespace]
        self._options = parser().parse_args(options)
        self._settings = replace(settings, http_port=free_port())
        self.kafka = FakeKafka()
        self.kafka.pods = lambda: [0]
        self.process: Process | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="operator")

    @property
    def http_port(self) -> int:
        """Of /healthz, /readyz and /metrics."""
        return self._settings.http_port

    def connect(self, servers: Sequence[str]) -> FakeKafka:
        return self.kafka

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.process = Process(self._options, self._settings, self.connect)
        await self.process.run(())

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.process is not None and self.process.operator is not None, "the operator to lead")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As SIGTERM would; nothing happens if it has ended already."""
        assert self._loop is not None and self.process is not None
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.process.stop)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the operator did not end"


class OperatorProcess:
    """`broadsheet operator` as a process, and its liveness probe as the kubelet would ask."""

    def __init__(self, server: ApiServer, folder: Path, name: str, *options: str) -> None:
        self.port = free_port()
        self.output = folder / f"{name}.log"
        self._command = [
            sys.executable, "-m", "broadsheet_operator.cli", "operator", "--broker-image=broker:1",
            f"--http-port={self.port}", *options,
        ]  # fmt: skip
        self._environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "POD_NAME": name}
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    def start(self) -> Self:
        with self.output.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        return self

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the operator has not been started"
        return self._process.pid

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of the operator's HTTP server; (0, why) when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def leads(self) -> bool:
        return self.probe("/readyz")[1].startswith("leading")

    def last_words(self, lines: int = 30) -> str:
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL: nothing is given back."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


class Kubelet:
    """Plays the StatefulSet controller and the kubelet: pods and claims for a StatefulSet, Ready at once."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def run(self, cluster: str) -> Mapping[str, Any]:
        """Make the pods and claims that are missing; the StatefulSet."""
        wait_until(lambda: self._api.get("StatefulSet", f"{cluster}-brokers"), f"the StatefulSet of {cluster}")
        owner = self._api.one("StatefulSet", f"{cluster}-brokers")
        template = owner["spec"]["template"]
        for index in range(owner["spec"]["replicas"]):
            name = f"{cluster}-brokers-{index}"
            for claim in owner["spec"].get("volumeClaimTemplates", ()):
                self._claim(f"{claim['metadata']['name']}-{name}", claim)
            if self._api.get("Pod", name) is None:
                self.pod(name, template)
        self.observe(cluster)
        return owner

    def observe(self, cluster: str) -> None:
        """The controller says that it has seen the StatefulSet, and how many pods there are."""
        name = f"{cluster}-brokers"
        owner = self._api.one("StatefulSet", name)
        pods = [pod for pod in self._api.list("Pod") if pod["metadata"]["name"].startswith(f"{name}-")]
        seen = {"observedGeneration": owner["metadata"]["generation"], "replicas": len(pods)}
        self._api.patch("StatefulSet", name, {"status": seen}, "status")

    def stop(self, cluster: str) -> None:
        """End the pods that are beyond the replicas of the StatefulSet."""
        replicas = self._api.one("StatefulSet", f"{cluster}-brokers")["spec"]["replicas"]
        for pod in self._api.list("Pod"):
            name = pod["metadata"]["name"]
            if name.startswith(f"{cluster}-brokers-") and int(name.rpartition("-")[2]) >= replicas:
                self._api.call("DELETE", self._api.path("Pod", name), {"gracePeriodSeconds": 0})
        self.observe(cluster)

    def _claim(self, name: str, template: Mapping[str, Any]) -> None:
        if self._api.get("PersistentVolumeClaim", name) is not None:
            return
        metadata = {**template["metadata"], "name": name}
        self._api.create(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}
        )
        capacity = template["spec"]["resources"]["requests"]
        status = {"phase": "Bound", "capacity": capacity, "accessModes": template["spec"]["accessModes"]}
        self._api.patch("PersistentVolumeClaim", name, {"status": status}, "status")

    def pod(self, name: str, template: Mapping[str, Any]) -> None:
        metadata = {**template["metadata"], "name": name}
        labels = {**metadata.get("labels", {}), "apps.kubernetes.io/pod-index": name.rpartition("-")[2]}
        volumes = [v for v in template["spec"].get("volumes", ()) if v["name"] != "data"]
        spec = {**template["spec"], "volumes": [*volumes, {"name": "data", "emptyDir": {}}], "nodeName": "node-1"}
        self._api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "labels": labels}, "spec": spec})
        self.becomes(name, ready=True)

    def becomes(self, pod: str, *, ready: bool) -> None:
        value = "True" if ready else "False"
        conditions = [{"type": kind, "status": value} for kind in ("Ready", "ContainersReady")]
        self._api.patch("Pod", pod, {"status": {"phase": "Running", "conditions": conditions}}, "status")

    def ends(self, pod: str, waiting: Mapping[str, str], last_words: str) -> None:
        """What is said of a container that has ended and is started again later."""
        self.becomes(pod, ready=False)
        container = {"name": "kafka", "ready": False, "restartCount": 3, "image": "broker:1", "imageID": ""}
        ended = {"exitCode": 1, "reason": "Error", "message": last_words}
        state = {"state": {"waiting": dict(waiting)}, "lastState": {"terminated": ended}}
        self._api.patch("Pod", pod, {"status": {"containerStatuses": [{**container, **state}]}}, "status")

    def finish(self, pod: str, seconds: float = 10) -> None:
        """Wait until the operator has deleted a pod, and end it as a kubelet does."""
        wait_until(
            lambda: (found := self._api.get("Pod", pod)) is None or "deletionTimestamp" in found["metadata"],
            f"the pod {pod} to be deleted",
            seconds,
        )
        if self._api.get("Pod", pod) is not None:
            self._api.call("DELETE", self._api.path("Pod", pod), {"gracePeriodSeconds": 0})
