"""The five figures that a user cares about, as the lines of the README, out of what `make bench` has measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from e2e.bench.formats import figure

Parts = Mapping[str, Any]


def lines(parts: Parts) -> Iterator[str]:
    """One line for each figure that was measured, with the command that measures it again."""
    one, three = parts.get("one"), parts.get("three")
    if one and (start := _client(one, "start")) and (memory := _client(one, "memory_idle")):
        yield (
            f"- one broker starts and acknowledges its first record in {start[0]} s ({start[1]} s), and takes "
            f"{memory[0]} MB of memory when idle ({memory[1]} MB): `make bench ARGS='one --only start'`;"
        )
    if found := _core(parts, "core", "p1", "rate", "cpu_request"):
        yield (
            f"- it takes {found[0]} produce requests of one record of 1 KiB per second ({found[1]}), at {found[2]} µs "
            f"of CPU each ({found[3]} µs): `make bench ARGS='core --only p1'`;"
        )
    if found := _core(parts, "core", "p64k", "mbs", "cpu"):
        yield (
            f"- it takes {found[0]} MB/s in batches of 64 KiB ({found[1]} MB/s), at {found[2]} s of CPU per GB "
            f"({found[3]} s): `make bench ARGS='core --only p64k'`;"
        )
    if found := _core(parts, "core", "f1m", "mbs", "cpu"):
        yield (
            f"- it sends {found[0]} MB/s to consumers that fetch 1 MiB at a time ({found[1]} MB/s), at {found[2]} s of "
            f"CPU per GB ({found[3]} s): `make bench ARGS='core --only f1m'`;"
        )
    if three and (kill := _client(three, "three_kill")):
        yield (
            f"- three brokers are without writes for {kill[0]} s when a leader is killed ({kill[1]} s): "
            "`make bench ARGS='three --only failover'`."
        )


def _client(part: Mapping[str, Any], key: str) -> tuple[str, str] | None:
    """Medians of ours and Apache Kafka's in `one` or `three`."""
    row = next((row for row in part["measures"] if row["key"] == key), None)
    return row and (figure(statistics.median(row["ours"])), figure(statistics.median(row["apache"])))


def _core(parts: Parts, name: str, key: str, *figures: str) -> list[str]:
    """For each figure of a row, our median and that of the first release of Apache Kafka."""
    part = parts.get(name)
    row = next((row for row in part["rows"] if row["key"] == key), None) if part else None
    if part is None or row is None:
        return []
    sides = [side["name"] for side in part["sides"]]
    pair = [sides[0], *[side for side in sides if side.startswith("kafka")][:1]]
    found = [row["figures"].get(side, {}).get(wanted) for wanted in figures for side in pair]
    return [figure(statistics.median(values)) for values in found] if len(pair) == 2 and all(found) else []
