"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.simulated_loop import Simulation

# A shell that starts a job in the background has it ignore SIGINT, and programs started by it ignore it too: Ctrl-C in
# a test would reach nobody.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long says something about the machine, not about what is tested: hypothesis would fail a test
# after 200 ms, and complain of slow inputs, whenever something else keeps the cores busy.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

SLOW_FOLDERS = ("tests/simulation/", "tests/wire_clients/")
"""All tests in these are marked `slow`; elsewhere a module or a test is marked where it stands."""


COMPILED = os.environ.get("BROADSHEET_CODE") == "compiled"
"""`make test-compiled`: the tests run on the compiled modules."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    pure = [item for item in items if COMPILED and item.get_closest_marker("pure")]
    if pure:
        config.hook.pytest_deselected(items=pure)
        items[:] = [item for item in items if item not in pure]
    for item in items:
        if item.nodeid.startswith(SLOW_FOLDERS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def simulate() -> Iterator[Callable[[int], Simulation]]:
    """Makes simulations from seeds, which end with the test."""
    made: list[Simulation] = []

    def make(seed: int) -> Simulation:
        made.append(Simulation(seed))
        return made[-1]

    yield make
    for simulation in made:
        simulation.end()
