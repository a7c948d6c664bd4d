"""Brokers' pods of the engine `apache-kafka` as processes: the rendered files and environment, without a Kubernetes.

What the operator renders for a pod is written into a directory, its addresses are those of this machine, and the start
script runs with a directory that is laid out as the official image.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

from broadsheet_operator.api import Cluster
from broadsheet_operator.reconcilers import provisioning
from broadsheet_operator.reconcilers.engines.apache_kafka import FILES_PATH, LOG_DIR
from broadsheet_operator.reconcilers.provisioning import DATA_PATH, Existing, Settings
from e2e.apache.apache import HERE, home
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

STARTED = "Kafka Server started"


def layout(directory: Path, version: str) -> Path:
    """/opt/kafka of the image of the tests."""
    place = home(directory / f"kafka-{version}", version)
    scripts = place / "bin"
    if not scripts.exists():
        scripts.mkdir()
        for script in (HERE / "image/bin").iterdir():
            (scripts / script.name).symlink_to(script)
        (scripts / "kafka-storage.sh").symlink_to(HERE / "image/bin/tool")
    return place


class Pod:
    """One broker: a start script, and the volume that outlives it."""

    def __init__(self, node_id: int, directory: Path, ports: dict[str, int]) -> None:
        self.node_id = node_id
        self.directory = directory
        self.ports = ports
        self.last_words = directory / "termination-log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self, environment: dict[str, str], files: dict[str, str]) -> None:
        place = self.directory / "files"
        for directory in (place, self.data, self.directory / "tmp"):
            directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text)
        self.last_words.write_text("")
        environment = {**environment, "BROKER_ID": str(self.node_id), "TERMINATION_LOG": str(self.last_words)}
        with open(self.directory / "log", "wb") as log:
            self._process = subprocess.Popen(
                ["bash", str(place / "start.sh")],
                env={"PATH": os.environ["PATH"], **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def has_started(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"broker {self.node_id} ended: {self.last_words.read_text()}\n{self.log[-3000:]}")
        return STARTED in self.log

    def end(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(60)

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> int:
        if self._process is None:
            return 0
        self.terminate()
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()


class Pods:
    """The brokers of a Cluster."""

    def __init__(self, directory: Path, replicas: int) -> None:
        self.directory = directory
        ports = free_ports(2 * replicas)
        self.pods = [
            Pod(id, directory / f"broker-{id}", {"9092": ports[2 * id], "9093": ports[2 * id + 1]})
            for id in range(replicas)
        ]

    @property
    def bootstrap(self) -> str:
        return f"localhost:{self.pods[0].ports['9092']}"

    def start(self, engine: dict[str, Any], **spec: Any) -> None:
        """Start all of them as a Cluster of this name would have them."""
        for pod in self.pods:
            self.start_one(pod, engine, **spec)
        wait_until(lambda: all(pod.has_started() for pod in self.pods), "all brokers", 120, 0.2)

    def start_one(self, pod: Pod, engine: dict[str, Any], **spec: Any) -> None:
        metadata = {"name": "news", "namespace": "paper", "uid": "00000000-0000-4000-8000-000000000001"}
        brokers = {"replicas": len(self.pods), "storage": {"size": "1Gi"}}
        jvm = {"heap": "256Mi", "options": ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]}
        declared = {"brokers": brokers, "engine": {"jvm": jvm, **engine}, **spec}
        cluster = Cluster.model_validate({"metadata": metadata, "spec": declared})
        found = {c["kind"]: c for c in provisioning.children(cluster, Existing(), Settings(image="none"))}
        (container,) = found["StatefulSet"]["spec"]["template"]["spec"]["containers"]
        environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        files = {name: self._here(pod, text) for name, text in found["ConfigMap"]["data"].items()}
        environment = {name: self._here(pod, value) for name, value in environment.items()}
        environment["KAFKA_HOME"] = str(layout(self.directory, engine["version"]))
        pod.start(environment, files)

    def _here(self, pod: Pod, text: str) -> str:
        """The text with addresses and paths of this machine."""
        text = text.replace("$(POD_NAME)", f"news-brokers-{pod.node_id}")

        def address(match: re.Match[str]) -> str:
            return f"localhost:{self.pods[int(match[1])].ports[match[2]]}"

        text = re.sub(r"news-brokers-([0-9]+)[.]news-brokers[.]paper[.]svc:([0-9]+)", address, text)
        text = re.sub(r"0[.]0[.]0[.]0:([0-9]+)", lambda match: f"localhost:{pod.ports[match[1]]}", text)
        text = text.replace(DATA_PATH, str(pod.data)).replace(FILES_PATH, str(pod.directory / "files"))
        return text.replace(LOG_DIR, str(pod.directory / "tmp"))

    def stop(self) -> None:
        """All at once: one whose quorum is gone waits for it."""
        for pod in self.pods:
            pod.terminate()
        for pod in self.pods:
            pod.stop()
