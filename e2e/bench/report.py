"""The figures of all rounds as tables: docs/benchmarks.md for people, docs/benchmarks.json for programs.

A run may measure one part alone; the other part's figures stay as they are in benchmarks.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.bench.core import tables
from e2e.bench.formats import spread
from e2e.bench.table import ONE_BROKER, THREE_BROKERS, Measure

DOCS = Path(__file__).parents[2] / "docs"
JSON = "benchmarks.json"
PARTS: Mapping[str, Sequence[Measure]] = {"one": ONE_BROKER, "three": THREE_BROKERS}
Rounds = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Part:
    """What was measured of one part: a mapping from key to figure for each round, ours and Apache Kafka's."""

    ours: Rounds
    apache: Rounds
    remark: str = ""


@dataclass(frozen=True)
class Line:
    """One measure with the medians of both brokers."""

    measure: Measure
    ours: Sequence[float]
    apache: Sequence[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / max(statistics.median(self.apache), 1e-9)

    @property
    def verdict(self) -> str:
        if self.measure.aim is None or self.measure.floor is None:
            return ""
        if self._reaches(self.measure.aim):
            return "meets aim"
        return "meets floor" if self._reaches(self.measure.floor) else "**short**"

    def _reaches(self, bound: float) -> bool:
        return self.ratio >= bound if self.measure.more_is_better else self.ratio <= bound


def lines(measures: Sequence[Measure], ours: Rounds, apache: Rounds) -> list[Line]:
    """One line for each measure that both have."""
    found = []
    for measure in measures:
        pair = [[figures[measure.key] for figures in rounds if measure.key in figures] for rounds in (ours, apache)]
        if all(pair):
            found.append(Line(measure, *pair))
    return found


def bound(measure: Measure) -> str:
    """What was aimed at, and in brackets the floor where that is another."""
    if measure.aim is None or measure.floor is None:
        return ""
    aim = f"{'≥' if measure.more_is_better else '≤'} {measure.aim:.2f}"
    return aim if measure.aim == measure.floor else f"{aim} ({measure.floor:.2f})"


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
---
hide:
  - toc
---

# Benchmarks

Written by `make bench`. Broadsheet and Apache Kafka take turns on the same machine, with the same disk and the same
clients. Apache Kafka runs with the heap (1 GB per broker) and the flags of its own start script. Both are warmed up
before anything is measured. Topics have three partitions, and no broker waits for the disk (Kafka's default).

Figures are medians, with the lowest and the highest round in brackets where they differ. A ratio is Broadsheet's
figure divided by Apache Kafka's. An aim is a bound on that ratio; **short** marks one that is missed.
"""

JAVA = """
## What a Java client sees

The tables below are measured with Kafka's own tools and with librdkafka, beside Apache Kafka {version}. Each round
starts with empty directories, and records are 1 KiB. These clients share the machine's cores with the brokers and take
most of them, so a ratio understates what a broker does alone. An aim has its floor in brackets, and **short** marks a
missed floor.
"""

HEADINGS = {
    "one": """
### One broker

{rounds} of each, on {machine}. Topics have one replica.
""",
    "three": """
### Three brokers

{rounds} of each, on {machine}.
Every broker is also a voter of the metadata quorum. Topics have three replicas and `min.insync.replicas=2`. All
timeouts are Kafka's defaults; "short timeouts" are these:

{short}
""",
}

NOTES = {
    "one": """
Produce and single-record rates come from ProducerPerformance after its own warm-up. Consume comes from
ConsumerPerformance, from the first fetch on, out of the page cache. Requests of one record are made with `batch.size=1`
on one partition. Latency at a steady rate is measured by an open loop with librdkafka at both ends and acks=all, from
the time when a record is due to its receipt; EndToEndLatency sends the next record when the last one has arrived. CPU
is the broker process's user and system time, memory its VmRSS. A client's own CPU includes the start of its JVM; where
the client takes most of the machine, no broker can raise the rate much. The start uses an existing directory and is
measured from the call to the first acknowledged record.
""",
    "three": """
The killed or silent broker leads the measured partition. In the last repetition it is also the active controller, so
the longest time contains two elections. After the loss, every surviving broker is asked repeatedly (acks=all), so no
client's own time-outs count. A silent leader is stopped with SIGSTOP: its connections stay open and its port still
accepts. The broker that starts with 1 GB behind was stopped cleanly. The next change after the loss of the active
controller is a change of a topic's configuration.
""",
}


def markdown(document: Mapping[str, Any], short_timeouts: Mapping[str, str]) -> str:
    """The page, out of what benchmarks.json holds."""
    text = INTRODUCTION
    for name in tables.parts_of(document["parts"]):
        part = document["parts"][name]
        text += tables.markdown(name, part, _in_words(part["machine"]))
    if any(name in document["parts"] for name in PARTS):
        text += JAVA.format(version=document["apache_kafka"])
    short = "\n".join(f"- `{key}={value}`" for key, value in short_timeouts.items())
    for name, measures in PARTS.items():
        part = document["parts"].get(name)
        if part is None:
            continue
        figures = {row["key"]: row for row in part["measures"]}
        rounds = "One round" if part["rounds"] == 1 else f"{part['rounds']} rounds"
        text += HEADINGS[name].format(rounds=rounds, machine=_in_words(part["machine"]), short=short)
        text += f"\n{part['remark']}\n" if part["remark"] else ""
        text += "\n| what | unit | Broadsheet | Apache Kafka | ratio | aim | |\n"
        text += "| --- | --- | ---: | ---: | ---: | ---: | --- |\n"
        for measure in measures:
            if measure.key in figures:
                row = figures[measure.key]
                text += _row(Line(measure, row["ours"], row["apache"]))
        text += NOTES[name]
    return text


def _in_words(about: Mapping[str, str | int]) -> str:
    return (
        f"{about['cores']} cores ({about['processor']}), {about['memory_gb']} GB, Linux {about['kernel']}, "
        f"Python {about['python']}"
    )


def _row(line: Line) -> str:
    measure = line.measure
    return (
        f"| {measure.title} | {measure.unit} | {spread(line.ours)} | {spread(line.apache)} | {line.ratio:.2f} "
        f"| {bound(measure)} | {line.verdict} |\n"
    )


def _part_document(name: str, part: Part) -> dict[str, Any]:
    return {
        "rounds": len(part.ours),
        "machine": machine(),
        "remark": part.remark,
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
            for line in lines(PARTS[name], part.ours, part.apache)
        ],
    }


def write(
    parts: Mapping[str, Part],
    core: Mapping[str, Mapping[str, Any]],
    version: str,
    short_timeouts: Mapping[str, str],
    directory: Path = DOCS,
) -> str:
    """Write both files; returns the page as text. Parts that were not measured are kept as they were.

    `core` are the documents of the parts at saturation.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / JSON
    kept = json.loads(path.read_text())["parts"] if path.exists() else {}
    document = {
        "apache_kafka": version,
        "parts": {**kept, **core, **{name: _part_document(name, part) for name, part in parts.items()}},
    }
    text = markdown(document, short_timeouts)
    (directory / "benchmarks.md").write_text(text)
    path.write_text(json.dumps(document, indent=2) + "\n")
    return text
