"""Apache Kafka as an engine, in the layout of its official image (docker/jvm of Apache Kafka).

Nothing of ours is in the image: a ConfigMap has server.properties, a script that formats a new volume with Kafka's own
tool and starts the broker with Kafka's own script, and how Kafka logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broadsheet_operator.api import Cluster, engine_versions
from broadsheet_operator.api.engine import NO_PROPERTIES_OF_OURS, EngineType
from broadsheet_operator.api.engine_versions import Levels
from broadsheet_operator.reconcilers.engines import java
from broadsheet_operator.reconcilers.engines.heap import heap_bytes
from broadsheet_operator.reconcilers.place import Place
from broadsheet_operator.reconcilers.rendering import text_of

TITLE = "Apache Kafka"
REPOSITORY = "apache/kafka"
FILES_PATH = "/etc/kafka/broadsheet"
"""Not /etc/kafka itself, where the image has files of its own."""
AGENT_PATH = "/opt/metrics-agent"
AGENT_PORT = 9404
LOG_DIR = "/tmp/kafka"


@dataclass(frozen=True, slots=True)
class ApacheKafka:
    """A directory is formatted by kafka-storage.sh, so its properties are those of server.properties alone."""

    version: str
    type = EngineType.APACHE_KAFKA
    containers = "containers-apache-kafka.yaml.j2"

    @property
    def title(self) -> str:
        """With the version."""
        return f"{TITLE} {self.version}"

    @property
    def knows(self) -> Mapping[str, Levels]:
        """The levels of its version; none of one that is not in the table."""
        return engine_versions.VERSIONS.get(engine_versions.minor_of(self.version), {})

    @property
    def image(self) -> str:
        """The official one."""
        return f"{REPOSITORY}:{self.version}"

    def properties(self, place: Place) -> Mapping[str, str]:
        """None beside Kafka's own."""
        return {}

    def refuses(self, key: str) -> str:
        """Properties of our own brokers."""
        return NO_PROPERTIES_OF_OURS if key.startswith("broadsheet.") else ""

    def files(self, cluster: Cluster, place: Place, agent_image: str) -> Mapping[str, str]:
        """The script, how it logs, what a new volume is formatted with, and the names of its metrics."""
        rules = {"jmx-exporter.yaml": text_of("jmx-exporter.yaml")} if agent_image else {}
        return {
            "start.sh": text_of("apache-kafka/start.sh"),
            "log4j2.properties": text_of("apache-kafka/log4j2.properties"),
            **rules,
            "format-options": " ".join(format_options(cluster)) + "\n",
            "initial-controllers": place.first_voters + "\n",
        }

    def started_with(self, cluster: Cluster) -> Mapping[str, Any]:
        """Its version and its Java virtual machine."""
        return {"engine": self.title, "heap": heap_options(cluster), "jvm": java_options(cluster)}

    def values(self, cluster: Cluster, agent_image: str) -> Mapping[str, Any]:
        """The environment that Kafka's own scripts read, and ours."""
        environment = {
            "KAFKA_VERSION": self.version,
            "LOG_DIR": LOG_DIR,
            "KAFKA_HEAP_OPTS": heap_options(cluster),
            "KAFKA_JVM_PERFORMANCE_OPTS": java_options(cluster),
            "KAFKA_LOG4J_OPTS": f"-Dlog4j2.configurationFile={FILES_PATH}/log4j2.properties",
            "EXTRA_ARGS": "-name kafkaServer",  # without its default, a log of the garbage collector in files
        }
        if agent_image:
            agent = f"{AGENT_PATH}/jmx_prometheus_javaagent.jar"
            environment["KAFKA_OPTS"] = f"-javaagent:{agent}={AGENT_PORT}:{FILES_PATH}/jmx-exporter.yaml"
        return {
            "agent_image": agent_image,
            "agent_path": AGENT_PATH,
            "files_path": FILES_PATH,
            "environment": environment,
        }


def heap_options(cluster: Cluster) -> str:
    """-Xmx and -Xms of its heap."""
    text = f"{heap_bytes(cluster) // 2**20}m"
    return f"-Xmx{text} -Xms{text}"


def java_options(cluster: Cluster) -> str:
    """Options of the JVM: Kafka's own, and those of the Cluster."""
    jvm = cluster.engine().jvm
    return " ".join(java.java_options((jvm.options if jvm else None) or ()))


def format_options(cluster: Cluster) -> list[str]:
    """Options of kafka-storage.sh for the levels that a new cluster begins with; without one, the version's own."""
    engine = cluster.engine()
    release = ["--release-version", engine.metadata_version] if engine.metadata_version else []
    levels = sorted((engine.features or {}).items())
    return [*release, *(part for name, level in levels for part in ("--feature", f"{name}={level}"))]
