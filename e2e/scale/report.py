"""The curves as tables: docs/scale.md for people, docs/scale.json for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
Row = Mapping[str, float]

LINES: Mapping[str, Mapping[str, str]] = {
    "operator": {
        "topics": "Topics over 20 Clusters",
        "applied_s": "applying what is new takes, s",
        "ready_after_s": "from the last apply until all are Ready, s",
        "cpu_ms_a_topic": "CPU of the operator for each new Topic, ms",
        "peak_mb": "resident memory meanwhile, highest, MB",
        "rest_mb": "resident memory at rest, MB",
        "rest_cpu": "CPU at rest, of one core, %",
        "rest_writes": "writes at rest, in 75 s",
    },
    "brokers": {
        "topics": "topics (each of 3 partitions, 3 replicas)",
        "create_ms": "creating a topic, until the last one is in sync, ms each",
        "create_cpu_ms": "CPU of all brokers for it, ms each",
        "rest_mb": "resident memory of all three at rest, MB",
        "rest_cpu": "CPU of all three at rest, of one core, %",
        "metadata_ms": "a Metadata answer with all topics, ms",
        "change_ms": "a new topic, until each broker knows its leader, ms",
        "controller_s": "active controller killed, until the next change, s",
        "leaders_s": "the same, until every partition has a leader, s",
        "start_s": "the killed broker starts, until it serves, s",
        "in_sync_s": "the same, until every replica is in sync, s",
        "groups": "groups of one member each",
        "groups_join_s": "all of them join, sync and commit, s",
        "groups_join_cpu_ms": "CPU of all three for it, ms a group",
        "groups_mb": "memory of all three for them, MB",
        "groups_rest_cpu": "CPU of all three for their heartbeats, of one core, %",
        "connections": "idle connections to one broker",
        "connections_s": "opening them and one request on each, s",
        "connections_cpu_ms": "CPU of the broker for it, ms a connection",
        "connections_mb": "memory of the broker for them, MB",
        "connections_rest_cpu": "CPU of the broker with them at rest, of one core, %",
    },
}
TITLES = {"operator": "One operator", "brokers": "Three brokers"}
NOTES = {
    "operator": (
        "An etcd and an API server without nodes; each Cluster is `external` and is a real broker. Each column adds "
        "Topics to those of the column before. In the last column a new operator has started and has found everything "
        "as it should be: its CPU is all that it used from its start to the end of the rest."
    ),
    "brokers": (
        "Processes on one machine, all voters of the metadata quorum; each column adds topics to those of the column "
        "before. Groups and connections come when all topics are there."
    ),
}
HEAD = """# Scale

Written by `make scale`: how far one operator and three brokers go on one machine, and where the curves bend. It takes
about half an hour, and is no part of CI.
"""


def table(part: str, rows: Sequence[Row]) -> str:
    """A line for each figure, a column for each size."""
    lines = []
    for key, title in LINES[part].items():
        figures = [_figure(row.get(key)) for row in rows]
        if any(figures):
            lines.append(f"| {title} | {' | '.join(figures)} |")
    ruler = f"| --- |{' ---: |' * len(rows)}"
    return "\n".join([lines[0], ruler, *lines[1:]]) + "\n"


def write(part: str, rows: Sequence[Row]) -> None:
    """Put a part's figures in the place of those that are there; the other part stays as it is."""
    path = DOCS / "scale.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[part] = {"rows": [dict(row) for row in rows], "machine": _machine()}
    path.write_text(json.dumps(known, indent=1) + "\n")
    text = [HEAD]
    for name in (name for name in LINES if name in known):
        rows, machine = known[name]["rows"], known[name]["machine"]
        text.append(f"## {TITLES[name]}\n\n{NOTES[name]}\n\n{machine}.\n\n{table(name, rows)}")
    (DOCS / "scale.md").write_text("\n".join(text))


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    if value == int(value) and value < 1e6:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load of the machine afterwards {load:.1f}"
