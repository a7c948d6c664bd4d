"""The rows of the benchmark, briefly on our broker: they run, are checked, and leave nothing behind; and the tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.bench import five
from e2e.bench.core import tables
from e2e.bench.core.measurement import Prepared, Times
from e2e.bench.core.part import Result
from e2e.bench.core.rows import ONE, THREE, Row
from e2e.bench.core.sides import Side, sides

SHORT = Times(0.1, 0.3, 0.1, 0.6)
ROWS = {row.key: row for row in ONE}


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    (broker,) = sides([Path(sys.executable)], ["pure"], [])
    broker.start(1, tmp_path_factory.mktemp("bench"))
    try:
        yield broker
    finally:
        broker.close()


@pytest.mark.parametrize("key", ["p1-all", "p1-c1000", "p16k", "zstd", "f64k", "f1m"])
def test_a_row_is_measured_and_leaves_no_topic(side: Side, key: str) -> None:
    prepared = Prepared(ROWS[key], side, SHORT)
    figures = prepared.saturation()
    prepared.close()
    assert figures["rate"] > 0
    assert figures["mbs"] > 0
    assert figures["memory"] > 0
    assert not list(side.brokers[0].log_dir.glob("bench*")), "its files are removed"


def test_an_open_loop_keeps_its_rate(side: Side) -> None:
    prepared = Prepared(ROWS["p1"], side, SHORT)
    figures = prepared.latency(500.0)
    prepared.close()
    assert 0 < figures["p50"] <= figures["p99"] <= figures["p999"]


def test_every_row_has_a_key_of_its_own() -> None:
    for rows in (ONE, THREE):
        assert len({row.key for row in rows}) == len(rows)


def _result(row: Row, **mbs: float) -> Result:
    result = Result(row)
    for name, value in mbs.items():
        result.add(name.replace("_", "-").replace("kafka-43", "kafka-4.3.0").replace("kafka-44", "kafka-4.4.0"),
                   {"mbs": value, "cpu": 1.0, "memory": 40.0, "own": 0.2, "other": 3.0, "steal": 0.0})  # fmt: skip
    return result


@pytest.mark.parametrize(("kafka_44", "verdict"), [(100.0, "meets aim"), (150.0, "**short**")])
def test_the_aim_is_to_be_met_beside_every_release(kafka_44: float, verdict: str) -> None:
    result = _result(ROWS["p16k"], broadsheet=210.0, broadsheet_pure=105.0, kafka_43=100.0, kafka_44=kafka_44)
    names = ["broadsheet", "broadsheet-pure", "kafka-4.3.0", "kafka-4.4.0"]
    part = {
        "rounds": 1,
        "remark": "",
        "sides": [{"name": name, "label": f"{name}, as it is"} for name in names],
        "rows": [result.document()],
    }
    page = tables.markdown("core", part, "two cores")
    (line,) = [line for line in page.splitlines() if "batches of 16 KiB" in line and "MB/s" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:6] == ["210", "105", "100", f"{kafka_44:.0f}"]
    assert cells[6:9] == ["2.10", f"{210 / kafka_44:.2f}", "1.05"]
    assert cells[-1] == verdict


def test_the_lines_for_the_readme_have_measured_figures_only() -> None:
    result = Result(ROWS["p64k"])
    for name, mbs in (("broadsheet", 800.0), ("kafka-4.3.0", 400.0)):
        result.add(name, {"mbs": mbs, "cpu": 160 / mbs})
    part = {"sides": [{"name": "broadsheet"}, {"name": "kafka-4.3.0"}], "rows": [result.document()]}
    (line,) = five.lines({"core": part})
    assert "800 MB/s in batches of 64 KiB (400 MB/s), at 0.20 s of CPU per GB (0.40 s)" in line
