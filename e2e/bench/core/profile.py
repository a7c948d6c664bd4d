"""`python -m e2e.bench.core.profile ROW`: where a broker's CPU goes under one row's load, in µs per request.

Three measurements of the same load: the CPU per request without a profiler; perf's samples of the CPU's clock, which
tell system calls, the interpreter and compiled libraries apart; and py-spy's samples of the event loop's thread
(`.venv/bin/pip install py-spy`), which share out what perf found in the interpreter among functions and packages.
py-spy samples by the wall clock, so functions that make system calls of some length are left out of that share.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from e2e.bench.core.measurement import Prepared, Times
from e2e.bench.core.rows import ONE
from e2e.bench.core.sides import BUILD, CODES, TMPFS, sides

ROOT = "Runner.run"
"""The function below which everything runs on the event loop's thread; uvloop's own work counts for it."""
LINE = re.compile(r":\d+\)$")
FRAME = re.compile(r"^(?P<name>.*) \((?P<path>[^)]*)\)$")
WAITS = (ROOT, "KafkaConnection.flush", "KafkaConnection._send_pieces", "LocalFile._write", "LocalFile.read")
"""Functions whose time is the system call that they make."""
ROOMS = (
    (".decode", "decode the request"),
    (".encode", "encode the answer"),
    ("decode (<", "decode the request"),
    ("encode (<", "encode the answer"),
    ("broadsheet_broker/network/", "network: framing, order of answers, limits"),
    ("broadsheet_broker/apis/", "apis: the handler"),
    ("broadsheet_broker/replication/", "replication: partition, high watermark, sessions"),
    ("broadsheet_broker/log/", "log: validation, appending, looking up"),
    ("broadsheet_broker/wire/", "wire: batches, checksums, primitives"),
    ("broadsheet_broker/seams/", "seams: metrics, buffers, time"),
)
SYSCALL = "do_syscall_64"
CALLS = {"do_writev": "writev", "do_preadv": "preadv", "do_pwritev": "pwritev", "ksys_read": "read"}
LIBRARIES = (
    ("libpython", "interpreter"),
    ("/python", "interpreter"),
    ("mypyc", "Broadsheet, compiled"),
    ("uvloop", "uvloop"),
    ("crc32c", "CRC32C"),
    ("lib-dynload", "interpreter"),
    ("libc", "libc: memmove, malloc"),
    ("cramjam", "compression"),
)


def stage(frame: str) -> str:
    """The package that a function of the interpreter belongs to."""
    return next((title for part, title in ROOMS if part in frame), "elsewhere: asyncio, the standard library")


def kind(stack: str) -> str:
    """What one of perf's samples was doing: a system call, an interrupt, or a library's code."""
    frames = [line.split(None, 1)[1] for line in stack.splitlines() if len(line.split(None, 1)) == 2]
    names = [frame.split(" ", 1)[0].partition("+")[0] for frame in frames]
    if SYSCALL in names:
        call = names[names.index(SYSCALL) - 1] if names.index(SYSCALL) else SYSCALL
        call = CALLS.get(call, re.sub(r"^(__x64_sys_|__do_sys_|ksys_)", "", call))
        return "kernel: scheduling" if call in (SYSCALL, "exit_to_user_mode_loop") else f"system call: {call}"
    if not frames or "[kernel" in frames[0]:
        return "kernel: interrupts"
    return next((title for part, title in LIBRARIES if part in frames[0].rpartition("(")[2]), "other libraries")


def cpu_samples(data: Path) -> Counter[str]:
    """perf's samples by kind."""
    told = subprocess.run(
        ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"], capture_output=True, text=True, timeout=300, check=True
    )
    return Counter(kind(stack) for stack in told.stdout.split("\n\n") if stack.strip())


def shares(raw: Iterable[str]) -> tuple[Counter[str], int]:
    """Samples of each function's own time on the event loop's thread, of py-spy's raw format; and of all of them."""
    own: Counter[str] = Counter()
    for line in raw:
        stack, _, count = line.rpartition(" ")
        frames = [LINE.sub(")", frame) for frame in stack.split(";")]
        if any(frame.startswith(ROOT + " ") for frame in frames):
            own[frames[-1]] += int(count)
    return own, own.total()


def table(head: str, counts: Mapping[str, int], cpu_us: float, most: int) -> str:
    """Rows with µs per request and their share of them."""
    total = max(1, sum(counts.values()))
    text = f"| {head} | µs | share |\n| --- | ---: | ---: |\n"
    for name, count in Counter(counts).most_common(most):
        text += f"| {name} | {cpu_us * count / total:.2f} | {count / total:.1%} |\n"
    return text


def report(cpu: Counter[str], own: Counter[str], cpu_us: float, functions: int) -> str:
    """Kinds of CPU time; then packages and functions of the interpreter's part of it."""
    text = table("CPU", cpu, cpu_us, 14) if cpu else ""
    python_us = cpu_us * cpu["interpreter"] / cpu.total() if cpu else cpu_us
    computing = Counter({frame: count for frame, count in own.items() if not frame.startswith(WAITS)})
    stages: Counter[str] = Counter()
    for frame, count in computing.items():
        stages[stage(frame)] += count
    text += "\n" + table("interpreter, by package", stages, python_us, 20)
    return text + "\n" + table("interpreter, by function", computing, python_us, functions)


def sampled(command: Sequence[str], prepared: Prepared, seconds: float) -> None:
    """Put load on while a profiler runs."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as profiler:
        prepared.saturation(seconds + 1.0)
        profiler.wait(120)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.core.profile", description=__doc__)
    parser.add_argument("row", choices=[row.key for row in ONE])
    parser.add_argument("--seconds", type=int, default=6, help="of each of the three measurements")
    parser.add_argument("--functions", type=int, default=25, help="how many functions are listed")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="an interpreter with Broadsheet in it"
    )
    parser.add_argument("--code", choices=CODES, default="pure", help="py-spy sees no functions of compiled modules")
    options = parser.parse_args()
    beside = Path(sys.executable).with_name("py-spy")
    spy = str(beside) if beside.exists() else shutil.which("py-spy")
    if spy is None:
        parser.error("py-spy was not found; .venv/bin/pip install py-spy installs it")
    row, seconds = next(row for row in ONE if row.key == options.row), options.seconds
    side = sides([options.python], [options.code], [])[0]
    with tempfile.TemporaryDirectory() as directory:
        stacks, data = Path(directory) / "stacks", Path(directory) / "perf.data"
        side.start(1, TMPFS if row.tmpfs else BUILD)
        try:
            prepared = Prepared(row, side, Times(seconds=seconds))
            prepared.saturation(1.0)
            alone = prepared.saturation(seconds)
            pid = str(side.pids[0])
            record = ["record", "--rate", "500", "--duration", str(seconds), "--format", "raw", "--output", str(stacks)]
            sampled([spy, *record, "--pid", pid], prepared, seconds)
            cpu: Counter[str] = Counter()
            if perf := shutil.which("perf"):
                clock = ["record", "-q", "-F", "1999", "-e", "cpu-clock", "-g", "-p", pid, "-o", str(data)]
                sampled([perf, *clock, "sleep", str(seconds)], prepared, seconds)
                cpu = cpu_samples(data)
            prepared.close()
        finally:
            side.close()
        own, total = shares(stacks.read_text().splitlines())
    print(f"{row.title}; {side.label}")
    print(f"{alone['rate']:,.0f} requests/s, {alone['cpu_request']:.1f} µs of CPU per request")
    print(f"other load {alone['other']:.0f} %, steal {alone['steal']:.1f} %; {total} and {cpu.total()} samples\n")
    print(report(cpu, own, alone["cpu_request"], options.functions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
