"""The producers and consumers of the introduction, prepared and run as processes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from e2e.apache.apache import CACHE, jars
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

HERE = Path(__file__).parent
NAMES = ("java-3.8.0", "java-4.3.0", "python", "node", "go")
LINE = re.compile(r"^(\S+)-(\d+)@(\d+) (\S+) (\{.*\})$", re.MULTILINE)


class Order(NamedTuple):
    """One record, as the programs print it."""

    topic: str
    partition: int
    offset: int
    key: str
    number: int
    sender: str


@dataclass(frozen=True)
class Programs:
    """The command lines of one language's producer and consumer."""

    name: str
    producer: Sequence[str]
    consumer: Sequence[str]


def parse(output: str) -> list[Order]:
    orders = []
    for topic, partition, offset, key, value in LINE.findall(output):
        order = json.loads(value)
        orders.append(Order(topic, int(partition), int(offset), key, order["order"], order["from"]))
    return orders


@functools.cache
def programs(name: str) -> Programs:
    """The programs of one language, built if they have to be."""
    language, _, version = name.partition("-")
    if language == "java":
        classpath = java_classpath(version)
        flags = ("java", "-Xmx128M", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classpath)
        return Programs(name, (*flags, "Producer"), (*flags, "Consumer"))
    if language == "python":
        return Programs(
            name,
            (sys.executable, str(HERE / "python/producer.py")),
            (sys.executable, str(HERE / "python/consumer.py")),
        )
    if language == "node":
        npm_ci(HERE / "node")
        return Programs(name, ("node", str(HERE / "node/producer.js")), ("node", str(HERE / "node/consumer.js")))
    binaries = go_build(HERE / "go")
    return Programs(name, (str(binaries / "producer"),), (str(binaries / "consumer"),))


def java_classpath(version: str) -> str:
    """Compiled classes and jars for one version of kafka-clients."""
    libraries = jars(HERE / "java/pom.xml", f"java-clients-{version}", (f"-Dkafka.version={version}",))
    sources = sorted((HERE / "java").glob("*.java"))
    classes = CACHE / f"java-classes-{version}-{digest_of(sources)}"
    if not classes.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            output = Path(unfinished) / "classes"
            run(["javac", "-Xlint:all", "-Werror", "-cp", f"{libraries}/*", "-d", str(output), *map(str, sources)])
            shutil.move(output, classes)
    return f"{classes}:{libraries}/*"


def npm_ci(directory: Path) -> None:
    """`npm ci` when node_modules is not what the lock file says."""
    installed = directory / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (directory / "package-lock.json").stat().st_mtime:
        run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], directory)
        installed.touch()


def go_build(directory: Path) -> Path:
    """The directory with the Go programs; Go's own build cache makes this fast."""
    output = CACHE / f"go-clients-{digest_of([directory / 'go.sum'])}"
    output.mkdir(parents=True, exist_ok=True)
    run(["go", "build", "-o", str(output), "./..."], directory)
    return output


def digest_of(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def run(command: Sequence[str], directory: Path | None = None) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def settings(broker: BrokerProcess, topic: str, group: str = "") -> dict[str, str]:
    return {**os.environ, "BOOTSTRAP_SERVERS": broker.bootstrap, "TOPIC": topic, "GROUP_ID": group}


def produce(name: str, broker: BrokerProcess, topic: str, count: int) -> list[Order]:
    """Run a producer to its end; the orders it says were delivered."""
    done = subprocess.run(
        [*programs(name).producer, str(count)],
        env=settings(broker, topic),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"the {name} producer ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return parse(done.stdout)


class RunningConsumer:
    """A consumer of one of the languages, as a process that prints until it is stopped."""

    def __init__(self, name: str, broker: BrokerProcess, topic: str, group: str) -> None:
        self.name = name
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            programs(name).consumer,
            env=settings(broker, topic, group),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
        )

    def orders(self) -> list[Order]:
        """What it has printed until now."""
        return parse(os.pread(self._output.fileno(), 1 << 24, 0).decode())

    def wait_for(self, count: int, deadline_s: float = 45.0) -> list[Order]:
        """Its orders, once there are `count` of them."""
        try:
            wait_until(lambda: len(self.orders()) >= count or self.process.poll() is not None, "orders", deadline_s)
        except TimeoutError:
            errors = os.pread(self._errors.fileno(), 4000, 0).decode()
            raise AssertionError(
                f"{self.name} printed {len(self.orders())} orders of {count} within {deadline_s} s\n{errors}"
            ) from None
        return self.orders()

    def interrupt(self) -> int:
        """Ctrl-C: it commits, leaves the group and ends."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)

    def kill(self) -> None:
        """kill -9: the group has to find out by itself."""
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._output.close()
        self._errors.close()
