"""The figures at saturation as a document for programs and as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.bench.core.part import SIZES, Result
from e2e.bench.core.rows import MEMORY_AIM, P99_AIM, ROWS, Row
from e2e.bench.core.sides import Side
from e2e.bench.formats import figure, spread

HEADINGS = {
    "core": "## At saturation: one broker",
    "core-three": "## At saturation: three brokers",
}

INTRODUCTION = {
    "core": """
Prebuilt requests from `e2e/bench/core`, a generator that decodes nothing and takes a fraction of the CPU that a client
library takes, so that the broker is what is measured. A closed loop keeps requests in flight on three connections (or
the number in the row) to three partitions; all brokers run at the same time, but those that are not measured are
stopped by SIGSTOP. Batches have real contents, timestamps and checksums, and no producer id. Error codes and
correlation ids of all answers are checked, and the end offset and the last batch of each partition are compared with
what was acknowledged. MB are 10^6 bytes of batches.
""",
    "core-three": """
As above, with three brokers, three replicas, `min.insync.replicas=2` and acks=all. Each broker leads one partition, and
each connection goes to the leader of its partition.
""",
}

LATENCY = """
An open loop at half of the rate that the slowest reached: each request is sent when it is due, and its latency counts
from then until its answer (coordinated omission corrected). Milliseconds.
"""

SURROUNDINGS = """
How these figures were taken: the generator's own CPU, and what else used the machine, in percent of all cores (median
of all rounds and brokers; highest in brackets).
"""


@dataclass(frozen=True)
class Table:
    """One line of a table compares one figure of a row."""

    title: str
    key: str
    unit: str
    aim: Callable[[Row], float | None]
    more_is_better: bool
    wanted: Callable[[Row], bool] = lambda row: True
    key_of_requests: str = ""
    """Of rows that are counted in requests; empty: the same."""
    unit_of_requests: str = ""

    def key_of(self, row: Row) -> str:
        return self.key_of_requests if row.in_requests and self.key_of_requests else self.key

    def unit_of(self, row: Row) -> str:
        return self.unit_of_requests if row.in_requests and self.unit_of_requests else self.unit


RATE = Table("what", "mbs", "MB/s", lambda row: row.aim, True, key_of_requests="rate", unit_of_requests="requests/s")
CPU = Table(
    "CPU of the brokers",
    "cpu",
    "s per GB",
    lambda row: row.cpu_aim,
    False,
    key_of_requests="cpu_request",
    unit_of_requests="µs a request",
)
LATENCIES = tuple(
    Table(name, key, "ms", lambda row, aim=aim: aim, False, lambda row: row.latency)  # type: ignore[misc]
    for name, key, aim in (("p50", "p50", None), ("p99", "p99", P99_AIM), ("p99.9", "p999", None))
)


def document(
    sides: Sequence[Side], results: Sequence[Result], rounds: int, remark: str, machine: Mapping[str, Any]
) -> dict[str, Any]:
    """What benchmarks.json keeps of a part."""
    return {
        "rounds": rounds,
        "machine": dict(machine),
        "remark": remark,
        "sides": [{"name": side.name, "label": side.label} for side in sides],
        "rows": [result.document() for result in results],
    }


def markdown(name: str, part: Mapping[str, Any], machine: str) -> str:
    """The section of a part, out of its document."""
    known = {row.key: row for row in ROWS[name]}
    rows = [(known[row["key"]], row) for row in part["rows"] if row["key"] in known]
    names = [side["name"] for side in part["sides"]]
    rounds = "One round" if part["rounds"] == 1 else f"{part['rounds']} rounds"
    text = f"\n{HEADINGS[name]}\n{INTRODUCTION[name]}\n{rounds} of each in turn, on {machine}. "
    text += "What ran:\n\n"
    for side in part["sides"]:
        text += f"- {_title(side['name'])}: {side['label'].partition(', ')[2] or 'as released, from Maven Central'}\n"
    text += f"\n{part['remark']}\n" if part["remark"] else ""
    text += _table(RATE, names, rows) + _table(CPU, names, rows)
    if any(row.latency for row, _ in rows):
        text += LATENCY
        for table in LATENCIES:
            text += _table(table, names, rows)
    text += _memory(names, rows) + SURROUNDINGS + _surroundings(rows)
    failures = [f"- {row.title}: {failure}\n" for row, found in rows for failure in found["failures"]]
    return text + ("\nNot measured:\n\n" + "".join(failures) if failures else "")


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """What is divided by what: Broadsheet by each release of Apache Kafka, its other builds by the first of those."""
    releases = [name for name in names if name.startswith("kafka")]
    return [(names[0], name) for name in releases] + [
        (name, release) for name in names[1:] if name not in releases for release in releases[:1]
    ]


def _ratios(values: Mapping[str, Sequence[float] | None], names: Sequence[str]) -> dict[tuple[str, str], float]:
    found = {}
    for pair in _pairs(names):
        above, below = values.get(pair[0]), values.get(pair[1])
        if above and below:
            found[pair] = _median(above) / max(_median(below), 1e-9)
    return found


def _columns(title: str, names: Sequence[str]) -> list[str]:
    ratios = (f"{_short(above)} to {_short(below)}".strip() for above, below in _pairs(names))
    return [title, "unit", *map(_title, names), *ratios, "aim", ""]


def _compared(
    title: str,
    unit: str,
    values: Mapping[str, Sequence[float] | None],
    names: Sequence[str],
    aim: float | None,
    more_is_better: bool,
) -> str:
    """A line of a table: the figures, their ratios, and whether the aim is met."""
    ratios = _ratios(values, names)
    return _line(
        title,
        unit,
        *(spread(found) if (found := values.get(name)) else "" for name in names),
        *(f"{ratios[pair]:.2f}" if pair in ratios else "" for pair in _pairs(names)),
        "" if aim is None else f"{'≥' if more_is_better else '≤'} {aim:.2f}",
        verdict(aim, more_is_better, [ratio for pair, ratio in ratios.items() if pair[0] == names[0]]),
    )


def _table(table: Table, names: Sequence[str], rows: Sequence[tuple[Row, Mapping[str, Any]]]) -> str:
    text = _head(_columns(table.title, names))
    for row, found in rows:
        values = {name: found["figures"].get(name, {}).get(table.key_of(row)) for name in names}
        if table.wanted(row) and values[names[0]]:
            title = row.title + (f", {found['rate']:,.0f} requests/s" if table in LATENCIES else "")
            text += _compared(title, table.unit_of(row), values, names, table.aim(row), table.more_is_better)
    return text


def verdict(aim: float | None, more_is_better: bool, ratios: Sequence[float]) -> str:
    """Whether the aim is met beside every release of Apache Kafka that was measured."""
    if aim is None or not ratios:
        return ""
    met = min(ratios) >= aim if more_is_better else max(ratios) <= aim
    return "meets aim" if met else "**short**"


def _memory(names: Sequence[str], rows: Sequence[tuple[Row, Mapping[str, Any]]]) -> str:
    """The highest resident memory after any of these rows."""
    taken = {
        name: [value for _, found in rows for value in found["figures"].get(name, {}).get("memory", [])]
        for name in names
    }
    highest = {name: [max(values)] if values else None for name, values in taken.items()}
    title = "resident, the highest after any of these rows"
    return _head(_columns("memory", names)) + _compared(title, "MB", highest, names, MEMORY_AIM, False)


def _surroundings(rows: Sequence[tuple[Row, Mapping[str, Any]]]) -> str:
    text = _head(["what", "generator, s per GB", "other load, %", "steal, %"])
    for row, found in rows:
        cells = []
        for key in ("own", "other", "steal"):
            values = [value for figures in found["figures"].values() for value in figures.get(key, [])]
            cells.append(f"{figure(_median(values))} ({figure(max(values))})" if values else "")
        text += _line(row.title, *cells)
    return text


def _head(cells: Sequence[str]) -> str:
    """The head of a table: words to the left, figures to the right."""
    rules = ("---" if not number or cell in ("unit", "") else "---:" for number, cell in enumerate(cells))
    return "\n" + _line(*cells) + _line(*rules)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _title(name: str) -> str:
    return (
        name.replace("kafka-", "Apache Kafka ")
        .replace("broadsheet-", "Broadsheet, ")
        .replace("broadsheet", "Broadsheet")
    )


def _short(name: str) -> str:
    return name.removeprefix("kafka-").removeprefix("broadsheet-").replace("broadsheet", "ratio")


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def parts_of(document_parts: Mapping[str, Any]) -> Iterator[str]:
    """The names of the parts at saturation in benchmarks.json, in order."""
    yield from (name for name in SIZES if name in document_parts)


def summary(result: Result, names: Sequence[str]) -> str:
    """One line for a terminal."""
    key = RATE.key_of(result.row)
    told = []
    ours = result.median(names[0], key)
    for name in names:
        value = result.median(name, key)
        ratio = f" ({ours / value:.2f})" if value and ours and name != names[0] else ""
        told.append(f"{name} {figure(value) if value else '-'}{ratio}")
    return f"{result.row.key:>12} {RATE.unit_of(result.row):<10} {'  '.join(told)}"
