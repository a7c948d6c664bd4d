"""Apache Kafka's program on this machine: its Java, its jars, and how it is formatted and started."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from broadsheet_operator.reconcilers.engines.java import java_options

LEAST_JAVA = 17
"""Apache Kafka 4's brokers need Java 17 (KIP-1013)."""
JAVA_SECONDS = 20.0
"""How long `java -version` may take."""
META_PROPERTIES = "meta.properties"
HOW_TO = "docs/how-to/apache-kafka-engine.md shows how to get it"

_NEEDED = ("kafka-clients", "log4j-core", "log4j-slf4j-impl")
"""Jars beside kafka_2.13 whose absence would be noticed late, or only by an empty log."""
_KAFKA_JAR = re.compile(r"kafka_[0-9.]+-([0-9]+(?:\.[0-9]+)+)\.jar")
_OWN_JAR = re.compile(
    r"(?:kafka_[0-9.]+|kafka|kafka-[a-z-]+|connect-(?:api|json|runtime|transforms))-([0-9]+(?:\.[0-9]+)+)\.jar"
)
"""A jar of Apache Kafka itself, in the version that it is part of."""
TOOL_HEAP = "256m"
_FORMAT_FIRST = """\
{} & tool=$!
trap 'kill $tool' TERM
wait $tool || {{ wait $tool; exit 1; }}
trap - TERM
exec {}"""
"""A shell that is asked to stop does not leave the tool behind: it would go on to write a directory that is used."""

LOGGING = """\
# Written by broadsheet: what Apache Kafka logs goes to the broker's log file.
status = WARN
appender.log.type = Console
appender.log.name = log
appender.log.layout.type = PatternLayout
appender.log.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = INFO
rootLogger.appenderRef.log.ref = log
"""


class NotUsable(Exception):
    """Apache Kafka cannot be started here; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A Java runtime and the jars of one version of Apache Kafka."""

    java: str
    libs: Path
    version: str


def find(home: str | None, version: str, environment: Mapping[str, str] = os.environ) -> Installation:
    """The installation that a Cluster's engine names. NotUsable when there is none, or one of another version."""
    if home is None:
        raise NotUsable(
            "engine.type apache-kafka needs engine.home with `broadsheet up`: the directory of an unpacked Apache "
            f"Kafka {version}, which has libs/*.jar; {HOW_TO}"
        )
    libs = Path(home).expanduser().absolute() / "libs"
    found = _version_in(libs, home, version)
    if found != version:
        raise NotUsable(
            f"engine.home {home} has Apache Kafka {found}, and engine.version is {version}. Set engine.version to "
            f"{found}, or engine.home to a directory with {version}"
        )
    return Installation(java=_java(environment), libs=libs, version=version)


def _version_in(libs: Path, home: str, version: str) -> str:
    try:
        names = sorted(os.listdir(libs))
    except OSError as error:
        why = "there is no such directory" if isinstance(error, FileNotFoundError) else error.strerror
        raise NotUsable(
            f"engine.home {home}: {libs} cannot be read: {why}. Name the directory of an unpacked Apache Kafka "
            f"{version}; {HOW_TO}"
        ) from None
    versions = [match[1] for name in names if (match := _KAFKA_JAR.fullmatch(name))]
    missing = [jar for jar in _NEEDED if not any(re.match(rf"{jar}-[0-9].*\.jar$", name) for name in names)]
    if not versions:
        missing.insert(0, "kafka_2.13")
    if missing:
        which = ", ".join(f"{jar}-*.jar" for jar in missing)
        raise NotUsable(f"engine.home {home}: {libs} has no {which}, which Apache Kafka needs; {HOW_TO}")
    all_versions = sorted({match[1] for name in names if (match := _OWN_JAR.fullmatch(name))})
    if len(all_versions) > 1:
        raise NotUsable(
            f"engine.home {home}: {libs} has jars of more than one Kafka ({', '.join(all_versions)}): empty it, and "
            f"put the jars of {version} there; {HOW_TO}"
        )
    return versions[0]


def _java(environment: Mapping[str, str]) -> str:
    java_home = environment.get("JAVA_HOME", "")
    java = f"{java_home}/bin/java" if java_home else shutil.which("java", path=environment.get("PATH"))
    what_to_do = (
        f"install Java {LEAST_JAVA} or later (Debian: apt install openjdk-17-jre-headless), or set JAVA_HOME to where "
        "it is"
    )
    if java is None:
        raise NotUsable(
            f"engine.type apache-kafka needs a Java runtime, and there is no java on the PATH: {what_to_do}"
        )
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=JAVA_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        where = f"{java} (JAVA_HOME)" if java_home else java
        why = getattr(error, "strerror", None) or "it does not answer"
        raise NotUsable(
            f"engine.type apache-kafka needs a Java runtime, and {where} cannot be run: {why}; {what_to_do}"
        ) from None
    version = re.search(r'version "(?:1\.)?([0-9]+)', done.stderr + done.stdout)
    if done.returncode != 0 or version is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotUsable(f"{java} -version failed: {said[0] if said else f'exit code {done.returncode}'}; {what_to_do}")
    if int(version[1]) < LEAST_JAVA:
        raise NotUsable(f"{java} is Java {version[1]}, and Apache Kafka needs {LEAST_JAVA} or later: {what_to_do}")
    return java


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a Cluster's brokers are started with an installation."""

    installation: Installation
    cluster_id: str
    heap: int
    """Bytes."""
    options: Sequence[str] = ()
    """Of the JVM, after Kafka's own."""
    release: str | None = None
    """The metadata.version that new directories are formatted with; None for the engine's own choice."""
    features: Mapping[str, int] | None = None
    """Other features that new directories are formatted with."""

    def command(self, properties: Path) -> list[str]:
        """Become the broker, one process which SIGTERM stops; with a new directory, format that first."""
        log_config = properties.parent / "log4j2.properties"
        data = properties.with_suffix("")  # broker-0.properties beside broker-0, its directory
        heap = (f"-Xmx{self.heap}", f"-Xms{self.heap}")
        start = [*self._java(*heap, *java_options(self.options), log_config=log_config), "kafka.Kafka", str(properties)]
        if (data / META_PROPERTIES).exists():
            return start
        return [
            "/bin/sh",
            "-c",
            _FORMAT_FIRST.format(shlex.join(self._format(properties, log_config)), shlex.join(start)),
        ]

    def _java(self, *flags: str, log_config: Path) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={log_config}"
        return [self.installation.java, logging, *flags, "-cp", f"{self.installation.libs}/*"]

    def _format(self, properties: Path, log_config: Path) -> list[str]:
        tool = [*self._java(f"-Xmx{TOOL_HEAP}", log_config=log_config), "kafka.tools.StorageTool", "format"]
        release = ["--release-version", self.release] if self.release is not None else []
        for name, level in sorted((self.features or {}).items()):
            release += ["--feature", f"{name}={level}"]
        return [*tool, "--cluster-id", self.cluster_id, "--config", str(properties), "--ignore-formatted", *release]


def write_logging(directory: Path) -> None:
    """The configuration of its log, where `Program.command` expects it."""
    (directory / "log4j2.properties").write_text(LOGGING, encoding="utf-8")


_ERROR = re.compile(r"\b(ERROR|FATAL)\b")
_UNCAUGHT = ("Exception in thread ", "Error: Unable to initialize", "Error: Could not find or load")
"""How the JVM begins to say why the main class has ended or cannot run."""
_FORMATTING = ("Bootstrap metadata: ", "Formatting ")
"""How the storage tool begins lines that are no complaint."""
_MOST_LINES = 3


def last_words(lines: Sequence[str]) -> str:
    """Of the last lines of its log, what says why it ended: the innermost cause of the last error.

    A stack trace follows an error in Java's logs, so the last line says least. What the JVM itself complains about, and
    what formatting does, has no level: then it is what stands at the end and is no line of the log.
    """
    said = [line.strip() for line in lines if line.strip() and not line.startswith(("\t", " "))]
    errors = [index for index, line in enumerate(said) if line.startswith("[") and _ERROR.search(line)]
    uncaught = max((index for index, line in enumerate(said) if line.startswith(_UNCAUGHT)), default=-1)
    if uncaught > max(errors, default=-1):
        trace = list(takewhile(lambda line: not line.startswith("["), said[uncaught:]))[:_MOST_LINES]
        return "; ".join(trace)
    if errors:
        trace = list(takewhile(lambda line: not line.startswith("["), said[errors[-1] + 1 :]))
        causes = [line.removeprefix("Caused by: ") for line in trace if line.startswith("Caused by: ")]
        return (causes or trace[:1] or said[errors[-1] : errors[-1] + 1])[-1]
    outside = list(takewhile(lambda line: not line.startswith(("[", *_FORMATTING)), reversed(said)))
    return "; ".join(reversed(outside[:_MOST_LINES])) or (said[-1] if said else "")
