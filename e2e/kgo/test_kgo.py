"""franz-go's own tests of its client, those listed in tests.allow, against the broker under test."""

from __future__ import annotations

import pytest

from e2e.kgo.suite import ALLOWED, run_suite
from tests.support.broker_process import BrokerProcess


@pytest.fixture(scope="module")
def outcome(broker: BrokerProcess) -> tuple[dict[str, str], str]:
    """One run of the suite: its tests run in parallel, as franz-go's own CI runs them."""
    return run_suite(broker.bootstrap, ALLOWED)


@pytest.mark.parametrize("name", ALLOWED)
def test_kgo(outcome: tuple[dict[str, str], str], name: str) -> None:
    results, output = outcome
    result = results.get(name, "did not end")
    assert result == "PASS", f"{name}: {result}\n{told_about(name, output)}"


def told_about(name: str, output: str) -> str:
    """The part of the output that begins where the test last spoke, cut to what one can read."""
    return output[max(output.rfind(f"--- FAIL: {name}"), 0) :][:3000]
