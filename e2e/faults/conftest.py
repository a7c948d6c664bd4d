"""Clusters of the broker under test, for the tests that break them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import BROKERS
from tests.support.broker_process import BrokerProcess


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> Callable[[Path], BrokerProcess]:
    """The broker under test: ours, or with `--broker apache` the control."""
    return BROKERS[request.config.getoption("--broker")]
