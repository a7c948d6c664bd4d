"""Apache Kafka on this machine: what is missing is said with what to do, and how it is started."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from broadsheet_operator.local.apache_kafka import Installation, NotUsable, Program, find, last_words
from broadsheet_operator.reconcilers.engines.java import G1
from tests.support.waiting import wait_until

JARS = ("kafka_2.13-4.3.0", "kafka-clients-4.3.0", "log4j-core-2.25.3", "log4j-slf4j-impl-2.25.3")


def home(directory: Path, *jars: str) -> str:
    (directory / "libs").mkdir(parents=True, exist_ok=True)
    for jar in jars:
        (directory / "libs" / f"{jar}.jar").touch()
    return str(directory)


def java(directory: Path, prints: str, code: int = 0) -> dict[str, str]:
    """An environment whose java prints this."""
    program = directory / "java" / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{prints}' >&2\nexit {code}\n")
    program.chmod(0o755)
    return {"JAVA_HOME": str(directory / "java"), "PATH": ""}


def test_it_is_found(tmp_path: Path) -> None:
    environment = java(tmp_path, 'openjdk version "21.0.1" 2023-10-17')
    found = find(home(tmp_path / "kafka", *JARS), "4.3.0", environment)
    assert found == Installation(java=f"{tmp_path}/java/bin/java", libs=tmp_path / "kafka" / "libs", version="4.3.0")


@pytest.mark.parametrize(
    ("jars", "words"),
    [
        ((), r"has no kafka_2\.13-\*\.jar, kafka-clients-\*\.jar, log4j-core-\*\.jar, log4j-slf4j-impl-\*\.jar"),
        (JARS[:2], r"has no log4j-core-\*\.jar, log4j-slf4j-impl-\*\.jar, which Apache Kafka needs"),
        (
            ("kafka_2.13-4.4.0", "kafka-clients-4.4.0", *JARS[2:]),
            r"has Apache Kafka 4\.4\.0, and engine\.version is 4\.3\.0\. Set engine",
        ),
        (
            ("kafka_2.13-4.4.0", *JARS),
            r"more than one Kafka \(4\.3\.0, 4\.4\.0\): empty it, and put the jars of 4\.3\.0",
        ),
        ((*JARS, "kafka-clients-4.4.0"), r"more than one Kafka \(4\.3\.0, 4\.4\.0\)"),
        ((*JARS, "kafka-server-common-4.4.0"), r"more than one Kafka \(4\.3\.0, 4\.4\.0\)"),
    ],
)
def test_a_home_that_does_not_fit(tmp_path: Path, jars: tuple[str, ...], words: str) -> None:
    with pytest.raises(NotUsable, match=words):
        find(home(tmp_path, *jars), "4.3.0", {})


def test_no_home(tmp_path: Path) -> None:
    with pytest.raises(NotUsable, match=r"needs engine\.home with `broadsheet up`"):
        find(None, "4.3.0", {})
    with pytest.raises(NotUsable, match=f"{tmp_path}/none/libs cannot be read: there is no such directory"):
        find(f"{tmp_path}/none", "4.3.0", {})


@pytest.mark.parametrize(
    ("prints", "code", "words"),
    [
        ('openjdk version "11.0.2" 2019-01-15', 0, "is Java 11, and Apache Kafka needs 17 or later: install Java 17"),
        ('java version "1.8.0_392"', 0, "is Java 8, and"),
        ("no JVM here", 1, "java -version failed: no JVM here; install"),
    ],
)
def test_a_java_that_does_not_fit(tmp_path: Path, prints: str, code: int, words: str) -> None:
    with pytest.raises(NotUsable, match=words):
        find(home(tmp_path / "kafka", *JARS), "4.3.0", java(tmp_path, prints, code))


def test_no_java(tmp_path: Path) -> None:
    kafka = home(tmp_path / "kafka", *JARS)
    with pytest.raises(NotUsable, match="there is no java on the PATH: install Java 17 or later"):
        find(kafka, "4.3.0", {"PATH": str(tmp_path)})
    with pytest.raises(NotUsable, match=r"/nowhere/bin/java \(JAVA_HOME\) cannot be run"):
        find(kafka, "4.3.0", {"JAVA_HOME": "/nowhere"})


def command(tmp_path: Path, *options: str) -> list[str]:
    installation = Installation(java="java", libs=tmp_path / "my libs", version="4.3.0")
    made = Program(
        installation=installation,
        cluster_id="folded",
        heap=2**29,
        options=options,
        release="4.3-IV0",
        features={"group.version": 1},
    )
    return made.command(tmp_path / "broker-0.properties")


def test_a_new_directory_is_formatted_first(tmp_path: Path) -> None:
    shell, option, script = command(tmp_path)
    assert (shell, option) == ("/bin/sh", "-c")
    first, *_, second = script.splitlines()
    assert "StorageTool format --cluster-id folded" in first
    assert first.endswith("--ignore-formatted --release-version 4.3-IV0 --feature group.version=1 & tool=$!")
    assert second.startswith("exec java ") and " -Xmx536870912 " in second
    assert f"-cp '{tmp_path}/my libs/*' kafka.Kafka {tmp_path}/broker-0.properties" in second
    (tmp_path / "broker-0").mkdir()
    (tmp_path / "broker-0" / "meta.properties").touch()
    assert command(tmp_path) == shlex.split(second)[1:], "and only then"


def test_formatting_ends_with_the_shell_that_runs_it(tmp_path: Path) -> None:
    """Left behind, it would write a directory that the next start formats, too."""
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 60\n")
    tool.chmod(0o755)
    installation = Installation(java=str(tool), libs=tmp_path, version="4.3.0")
    program = Program(installation=installation, cluster_id="folded", heap=2**29)
    shell = subprocess.Popen(program.command(tmp_path / "broker-0.properties"))
    wait_until((tmp_path / "pid").exists, "the tool", 20)
    shell.terminate()
    assert shell.wait(20) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_failed_formatting_is_not_followed_by_a_start(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/runs\nexit 3\n")
    tool.chmod(0o755)
    installation = Installation(java=str(tool), libs=tmp_path, version="4.3.0")
    program = Program(installation=installation, cluster_id="folded", heap=2**29)
    assert subprocess.run(program.command(tmp_path / "broker-0.properties"), check=False).returncode == 1
    assert len((tmp_path / "runs").read_text().split()) == 1


def test_a_garbage_collector_of_the_clusters_own_replaces_kafkas(tmp_path: Path) -> None:
    assert " ".join(G1) in " ".join(command(tmp_path, "-Dsome=thing"))
    chosen = " ".join(command(tmp_path, "-XX:+UseZGC"))
    assert "-XX:+UseZGC" in chosen and "G1" not in chosen


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "[2026-01-01 00:00:00,000] ERROR Exiting Kafka due to fatal exception (kafka.Kafka$)\n"
            "java.lang.RuntimeException: Unable to start\n\tat kafka.Kafka.main(Kafka.java:1)\n"
            "Caused by: java.net.BindException: Address already in use\n\tat sun.nio.ch.Net.bind0(Native Method)\n",
            "java.net.BindException: Address already in use",
        ),
        ("[2026-01-01 00:00:00,000] ERROR disk is gone (kafka.log)\n[..] INFO bye (x)\n", "ERROR disk is gone"),
        (
            'Exception in thread "main" org.apache.kafka.common.ConfigException: Invalid value x\n\tat a.b(c:1)\n',
            "Invalid value x",
        ),
        (
            "[..] INFO formatting\nBootstrap metadata: [...]\nFormatting metadata directory /data\n"
            'Exception in thread "main" java.lang.NoSuchMethodError: wrapForOutput\n\tat a.b(c:1)\n',
            "java.lang.NoSuchMethodError: wrapForOutput",
        ),
        (
            f"Bootstrap metadata: {'x' * 500}\nFormatting metadata directory /data with metadata.version 4.3-IV0.\n"
            "Error while writing meta.properties file /data: bootstrap.checkpoint.tmp: Read-only file system\n",
            "Error while writing meta.properties file /data: bootstrap.checkpoint.tmp: Read-only file system",
        ),
        (
            "[..] ERROR of the time before\n[..] INFO stopped\nError: Unable to initialize main class kafka.Kafka\n"
            "Caused by: java.lang.NoClassDefFoundError: scala/Function0\n",
            "NoClassDefFoundError: scala/Function0",
        ),
        ("Error occurred during initialization of VM\nToo small maximum heap\n", "Too small maximum heap"),
        (
            "[..] INFO hello\nUnrecognized VM option 'UseX'\nError: Could not create the JVM.\n",
            "Unrecognized VM option",
        ),
        ("[..] INFO stopped", "INFO stopped"),
        ("", ""),
    ],
)
def test_its_last_words_are_the_cause_and_not_the_end_of_a_stack_trace(log: str, words: str) -> None:
    assert words in last_words(log.splitlines())[: len(words) + 120]
