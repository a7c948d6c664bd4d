"""What the kernel knows of a process: CPU time and resident memory."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(*pids: int) -> float:
    """User and system time of all threads of these processes, ended threads included."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(after_name[11]), int(after_name[12])
    return (user + system) / TICKS_PER_S


def clients_cpu_seconds() -> float:
    """User and system time of all processes that were started here and have ended: the tools that put load on."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def idle_cpu(pids: Sequence[int], seconds: float) -> float:
    """Percent of one core that these processes use together while nobody asks them anything."""
    before, began = cpu_seconds(*pids), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(*pids) - before) / (time.monotonic() - began) * 100


def resident_mb(*pids: int) -> float:
    """VmRSS of these processes together, in MB (10^6 bytes)."""
    return sum(map(_resident_mb, pids))


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(pid)


class PeakMemory:
    """The highest resident memory seen while the block runs, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.mb = resident_mb(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.mb = max(self.mb, resident_mb(self.pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
