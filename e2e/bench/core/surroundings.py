"""What else a measurement depends on: the interpreter, the machine's other load, time that a hypervisor took."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.bench.gauges import TICKS_PER_S, cpu_seconds

DESCRIBE = "from broadsheet_broker.compiled import build; print(build())"


def describe(python: Path, environment: Mapping[str, str]) -> str:
    """The interpreter and the build of Broadsheet in it, in the words of the line with `started`."""
    done = subprocess.run(
        [str(python), "-c", DESCRIBE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise RuntimeError(f"{python} cannot import broadsheet_broker:\n{done.stderr}")
    return done.stdout.strip()


@dataclass(frozen=True)
class Load:
    """Shares of all cores in a window, in percent."""

    other: float
    """Used by neither the brokers nor the generator."""
    steal: float


class Surroundings:
    """Watches a window: CPU of the measured brokers, of everything else, and stolen time."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def open(self) -> None:
        self._busy, self._steal = _machine()
        self._brokers = cpu_seconds(*self._pids)
        self._own, self._began = time.process_time(), time.perf_counter()

    def close(self) -> None:
        """Take the figures: `brokers_cpu_s` and `load`."""
        busy, steal = _machine()
        self.brokers_cpu_s = cpu_seconds(*self._pids) - self._brokers
        whole = max(1e-9, (time.perf_counter() - self._began) * (os.cpu_count() or 1))
        others = (busy - self._busy) - self.brokers_cpu_s - (time.process_time() - self._own)
        self.load = Load(max(0.0, others) / whole * 100, (steal - self._steal) / whole * 100)


def _machine() -> tuple[float, float]:
    """Seconds that all cores were busy, and that were stolen."""
    fields = [int(field) / TICKS_PER_S for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _wait, irq, soft_irq, steal = fields
    return user + nice + system + irq + soft_irq, steal


def forget(paths: Sequence[Path]) -> None:
    """Write files out and drop them from the page cache: the next read comes from the disk."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(paths: Sequence[Path]) -> float:
    """The share of the files' bytes that is still in the page cache, by util-linux's fincore; -1 without it."""
    with contextlib.suppress(FileNotFoundError):
        told = subprocess.run(
            ["fincore", "--bytes", "--noheadings", "--output", "RES,SIZE", *map(str, paths)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        rows = [line.split() for line in told.stdout.splitlines()]
        return sum(int(row[0]) for row in rows) / max(1, sum(int(row[1]) for row in rows))
    return -1.0
