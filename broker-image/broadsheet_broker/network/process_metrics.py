"""The process metrics of Prometheus's client libraries, read from Linux's /proc; none where /proc is missing."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from broadsheet_broker import __version__, compiled
from broadsheet_broker.seams.memory import resident_bytes
from broadsheet_broker.seams.metrics import Family

if TYPE_CHECKING:
    from broadsheet_broker.seams import Environment, Files


def register(environment: Environment) -> None:
    """Export resident memory, CPU time and the idle share of the event loop."""
    started = environment.clock.time_ms() / 1000
    last = [environment.monotonic(), _cpu_seconds()]

    made = compiled.build()
    build = (
        ("version", __version__),
        ("code", made.code),
        ("python", made.python),
        ("optimized", str(made.optimized).lower()),
    )

    def families() -> Iterable[Family]:
        yield Family("broadsheet_build_info", "gauge", _BUILD, [(build, 1)])
        cpu = _cpu_seconds()
        yield Family("process_start_time_seconds", "gauge", "Start, seconds since the epoch.", [((), started)])
        yield Family("process_cpu_seconds_total", "counter", "CPU time, user and system.", [((), cpu)])
        resident = resident_bytes(environment.files)
        if resident:
            yield Family("process_resident_memory_bytes", "gauge", "Resident memory.", [((), resident)])
        yield from _files(environment.files)
        now = environment.monotonic()
        elapsed, busy = now - last[0], cpu - last[1]
        last[:] = [now, cpu]
        idle = min(max(1 - busy / elapsed, 0.0), 1.0) if elapsed > 0 else 1.0
        # Kafka has threads for each; here both are one event loop.
        help = "Share of a core, 0 to 1, that the process left unused since the last scrape."
        for name in _IDLE:
            yield Family(name, "gauge", help, [((), idle)])

    environment.metrics.collector(families)


_BUILD = "1, with the version of the program, whether its code is compiled or pure, and the interpreter."

_IDLE = (
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
)


def _files(files: Files) -> Iterator[Family]:
    """Open files, and bytes that went to and from the disk, as Kafka's LinuxIoMetricsCollector reads them."""
    try:
        count = len(files.list("/proc/self/fd"))
        io = dict(line.split(b": ") for line in files.read_bytes("/proc/self/io").splitlines())
    except (OSError, ValueError):
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield Family("process_open_fds", "gauge", "Open files and connections.", [((), count)])
    yield Family("process_max_fds", "gauge", "The most files and connections that may be open.", [((), most)])
    for what, key in (("read", b"read_bytes"), ("write", b"write_bytes")):
        name, help = f"kafka_server_kafkaserver_linux_disk_{what}_bytes", f"Bytes of disk {what}s since the start."
        yield Family(name, "gauge", help, [((), int(io.get(key, b"0")))])


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
