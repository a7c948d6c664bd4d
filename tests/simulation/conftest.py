"""Simulations that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.simulation.simulated_loop import Simulation


@pytest.fixture
def simulate() -> Iterator[Callable[[int], Simulation]]:
    """Makes simulations from seeds."""
    made: list[Simulation] = []

    def make(seed: int) -> Simulation:
        made.append(Simulation(seed))
        return made[-1]

    yield make
    for simulation in made:
        simulation.end()
