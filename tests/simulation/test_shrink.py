"""The shortest schedule that still fails."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.__main__ import shrunk
from tests.simulation.cluster import Node
from tests.simulation.faults import Fault, Faults
from tests.simulation.scenario import run
from tests.simulation.shrink import shrink


@given(st.integers(1, 14), st.data())
def test_what_is_left_is_what_it_takes(count: int, data: st.DataObject) -> None:
    needed = set(data.draw(st.sets(st.integers(0, count - 1))))
    tried: list[Sequence[int]] = []

    def fails(kept: Sequence[int]) -> bool:
        tried.append(kept)
        return needed <= set(kept)

    assert shrink(range(count), fails) == sorted(needed)
    assert len(tried) <= 2 * count * count


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
def test_a_run_that_fails_is_reported_with_the_faults_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that loses half of a log with a killed process: one kill is enough, the other faults are left out."""

    def kill(self: Faults, fault: Fault, node: Node) -> None:
        node.kill()
        for path, file in node.files.nodes.items():
            if "/orders-" in path and path.endswith(".log"):
                del file.data[len(file.data) // 2 :]

    monkeypatch.setattr(Faults, "kill", kill)
    failed = next(result for result in map(run, itertools.count(1)) if not result.good and len(result.schedule) > 3)
    left = shrunk(failed)
    assert [fault.kind for fault in left.schedule] == ["kill"]
    assert left.complaints
    assert str(left.schedule[0]) in left.report()
