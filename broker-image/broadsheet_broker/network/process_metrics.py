"""The process metrics of Prometheus's client libraries, read from Linux's /proc; none where /proc is missing."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from typing import TYPE_CHECKING

from broadsheet_broker import __version__
from broadsheet_broker.seams.memory import resident_bytes
from broadsheet_broker.seams.metrics import Family

if TYPE_CHECKING:
    from broadsheet_broker.seams import Environment


def register(environment: Environment) -> None:
    """Export resident memory, CPU time and the idle share of the event loop."""
    started = environment.clock.time_ms() / 1000
    last = [environment.monotonic(), _cpu_seconds()]

    build = (("version", __version__),)

    def families() -> Iterable[Family]:
        yield Family("broadsheet_build_info", "gauge", "1, with the version of the program.", [(build, 1)])
        cpu = _cpu_seconds()
        yield Family("process_start_time_seconds", "gauge", "Start, seconds since the epoch.", [((), started)])
        yield Family("process_cpu_seconds_total", "counter", "CPU time, user and system.", [((), cpu)])
        resident = resident_bytes(environment.files)
        if resident:
            yield Family("process_resident_memory_bytes", "gauge", "Resident memory.", [((), resident)])
        now = environment.monotonic()
        elapsed, busy = now - last[0], cpu - last[1]
        last[:] = [now, cpu]
        idle = min(max(1 - busy / elapsed, 0.0), 1.0) if elapsed > 0 else 1.0
        yield Family(
            "kafka_network_socketserver_networkprocessoravgidle_percent",
            "gauge",
            "Share of a core, 0 to 1, that the process left unused since the last scrape.",
            [((), idle)],
        )

    environment.metrics.collector(families)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
