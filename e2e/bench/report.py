"""The figures of all rounds as one table: docs/benchmarks.md for people, docs/benchmarks.json for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.bench.measures import MEASURES, Measure

DOCS = Path(__file__).parents[2] / "docs"
Rounds = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Line:
    """One measure with the medians of both brokers."""

    measure: Measure
    ours: Sequence[float]
    apache: Sequence[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.apache)

    @property
    def verdict(self) -> str:
        if self.measure.aim is None or self.measure.floor is None:
            return ""
        if self._reaches(self.measure.aim):
            return "meets aim"
        return "meets floor" if self._reaches(self.measure.floor) else "**short**"

    def _reaches(self, bound: float) -> bool:
        return self.ratio >= bound if self.measure.more_is_better else self.ratio <= bound


def lines(ours: Rounds, apache: Rounds) -> list[Line]:
    """One line for each measure that both have."""
    found = []
    for measure in MEASURES:
        pair = [[figures[measure.key] for figures in rounds if measure.key in figures] for rounds in (ours, apache)]
        if all(pair):
            found.append(Line(measure, *pair))
    return found


def figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """The median, and in brackets the lowest and the highest."""
    return f"{figure(statistics.median(values))} ({figure(min(values))}–{figure(max(values))})"  # noqa: RUF001


def bound(measure: Measure, ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{'≥' if measure.more_is_better else '≤'} {ratio:.2f}"


def machine() -> dict[str, str | int]:
    """What the figures were taken on, without its name."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    return {
        "cores": os.cpu_count() or 0,
        "processor": model,
        "memory_gb": round(int(memory) * 1024 / 1e9),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


INTRODUCTION = """\
# Benchmarks

Written by `make bench`. Our broker and Apache Kafka {version} take turns on the same machine, the same disk and under
the same clients, {rounds} round(s) each, each round on a fresh directory. Apache Kafka runs with the heap and the flags
of its own start script, and both brokers are warmed up before anything is counted. Records are 1 KiB, topics have three
partitions and one replica, and no broker waits for the disk (Kafka's default). Figures are medians, with the lowest and
the highest round in brackets; the ratio is ours to Apache Kafka's. The clients share the machine's cores with the
broker, so a ratio understates what a broker does alone.

Machine: {machine}.

"""

NOTES = """
Produce and single-record rates are ProducerPerformance's after its own warm-up; consume is ConsumerPerformance's from
the first fetch on, out of the page cache. A request of one record is made by `batch.size=1` on one partition. Latency
at a steady rate is measured by an open loop with librdkafka at both ends, acks=all, from the time a record is due to
its receipt; EndToEndLatency sends the next record when the last has arrived. CPU is the broker process's user and
system time, memory its VmRSS. The start is one on an existing directory, from the call to the first record that is
acknowledged.
"""


def markdown(table: Sequence[Line], version: str, rounds: int, remark: str) -> str:
    about = machine()
    text = INTRODUCTION.format(
        version=version,
        rounds=rounds,
        machine=f"{about['cores']} cores ({about['processor']}), {about['memory_gb']} GB, Linux {about['kernel']}, "
        f"Python {about['python']}",
    )
    text += f"{remark}\n\n" if remark else ""
    text += "| what | unit | ours | Apache Kafka | ratio | aim | floor | verdict |\n"
    text += "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
    for line in table:
        measure = line.measure
        text += (
            f"| {measure.title} | {measure.unit} | {spread(line.ours)} | {spread(line.apache)} | {line.ratio:.2f} "
            f"| {bound(measure, measure.aim)} | {bound(measure, measure.floor)} | {line.verdict} |\n"
        )
    return text + NOTES


def write(ours: Rounds, apache: Rounds, version: str, directory: Path = DOCS, remark: str = "") -> str:
    """Write both files; returns the table as text. The remark stands above the table."""
    table = lines(ours, apache)
    text = markdown(table, version, len(ours), remark)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "benchmarks.md").write_text(text)
    document = {
        "apache_kafka": version,
        "machine": machine(),
        "remark": remark,
        "measures": [
            {
                "key": line.measure.key,
                "title": line.measure.title,
                "unit": line.measure.unit,
                "ours": list(line.ours),
                "apache": list(line.apache),
                "ratio": round(line.ratio, 3),
                "aim": line.measure.aim,
                "floor": line.measure.floor,
                "verdict": line.verdict.strip("*"),
            }
            for line in table
        ],
    }
    (directory / "benchmarks.json").write_text(json.dumps(document, indent=2) + "\n")
    return text
