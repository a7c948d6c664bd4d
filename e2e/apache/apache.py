"""Apache Kafka as it is released: its broker and its tools, run from the jars on Maven Central.

The jars are copied once into a cache outside of the tree, named after their version. Tools are run by their Java
class, as Kafka's own shell scripts do:

    with ApacheKafka() as kafka:
        run_tool("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", kafka.bootstrap, "--list")
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.broker_process import CLUSTER_ID, BrokerProcess

HERE = Path(__file__).parent
VERSION = "4.3.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "broadsheet"

# What kafka-run-class.sh passes to every JVM, and what kafka-server-start.sh adds for a broker.
PERFORMANCE_FLAGS = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
BROKER_HEAP = "1G"
TOOL_HEAP = "256M"


def jars(pom: Path = HERE / "pom.xml", name: str = f"apache-kafka-{VERSION}", goals: Sequence[str] = ()) -> Path:
    """The directory with the jars of a pom.xml and what they need; copied there by Maven on first use."""
    digest = hashlib.sha256(pom.read_bytes() + repr(goals).encode()).hexdigest()[:8]
    directory = CACHE / f"{name}-{digest}"
    if not directory.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={unfinished}/jars"]
            maven = ["mvn", "-B", "-q", "-ntp", "-f", str(pom), *goals, *copy]
            done = subprocess.run(maven, capture_output=True, text=True, timeout=600)
            if done.returncode != 0:
                raise RuntimeError(f"Maven could not fetch the jars of {pom.name}:\n{done.stdout}{done.stderr}")
            if not directory.exists():  # another process may have been faster
                shutil.move(f"{unfinished}/jars", directory)
    return directory


def release(version: str = VERSION) -> Path:
    """The directory with the jars of a release of Apache Kafka."""
    if version == VERSION:
        return jars()
    return jars(name=f"apache-kafka-{version}", goals=(f"-Dkafka.version={version}",))


def home(directory: Path, version: str = VERSION) -> Path:
    """A directory laid out as an unpacked release: its jars are in `libs`."""
    directory.mkdir(parents=True, exist_ok=True)
    libs = directory / "libs"
    if not libs.exists():
        libs.symlink_to(release(version), target_is_directory=True)
    return directory


def java(
    main_class: str, *arguments: str, heap: str = TOOL_HEAP, level: str = "WARN", version: str = VERSION
) -> list[str]:
    """The command line that runs a main class of Kafka with the flags of Kafka's own scripts."""
    return [
        "java",
        f"-Xmx{heap}",
        *([f"-Xms{heap}"] if heap == BROKER_HEAP else []),
        *PERFORMANCE_FLAGS,
        f"-De2e.level={level}",
        f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
        "-cp",
        f"{release(version)}/*",
        main_class,
        *arguments,
    ]


def run_tool(
    main_class: str,
    *arguments: str,
    timeout: float = 60.0,
    stdin: str = "",
    check: bool = False,
    version: str = VERSION,
) -> subprocess.CompletedProcess[str]:
    """Run one of Kafka's command line tools to its end; with `check`, a failure raises with what the tool printed."""
    command = java(main_class, *arguments, version=version)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        tool = main_class.rpartition(".")[2]
        raise RuntimeError(f"{tool} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


class ApacheKafka(BrokerProcess):
    """Apache Kafka's broker and controller in one JVM, with the heap and flags of its own start script."""

    name = "apache"
    version = VERSION
    """Of its release; a subclass has another one."""

    def __init__(
        self,
        directory: Path | None = None,
        overrides: Mapping[str, str] | None = None,
        heap: str = BROKER_HEAP,
    ) -> None:
        super().__init__(directory, overrides)
        self.heap = heap

    def properties(self) -> dict[str, str]:
        share_groups = "share.coordinator.state.topic"
        return {f"{share_groups}.replication.factor": "1", f"{share_groups}.min.isr": "1", **super().properties()}

    def command(self) -> list[str]:
        return java("kafka.Kafka", str(self.properties_file), heap=self.heap, level="INFO", version=self.version)

    STARTED = re.compile("Kafka Server started")

    def format(self) -> None:
        if not (self.log_dir / "meta.properties").exists():
            run_tool(
                "kafka.tools.StorageTool",
                *("format", "--cluster-id", CLUSTER_ID, "--config", str(self.properties_file)),
                check=True,
                version=self.version,
            )
