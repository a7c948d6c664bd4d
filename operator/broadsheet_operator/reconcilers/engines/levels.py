"""Which finalized features an engine cannot read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broadsheet_operator.api.engine_versions import shown
from broadsheet_operator.reconcilers.engines.engine import Engine


class Unreadable(NamedTuple):
    """A feature that is finalized at a level which an engine does not know."""

    name: str
    level: int
    low: int
    high: int
    """The levels that the engine knows; 0 for none."""

    def show(self, level: int) -> str:
        """A level of this feature as Kafka's tools show it."""
        return shown(self.name, level)


def unreadable(engine: Engine, finalized: Mapping[str, int]) -> list[Unreadable]:
    """The finalized levels that this engine does not know, by name. Level 0 of any feature is that it is not used."""
    levels = ((name, level, *engine.knows.get(name, (0, 0))) for name, level in sorted(finalized.items()))
    found = (Unreadable(name, level, low, high) for name, level, low, high in levels)
    return [each for each in found if each.level and not each.low <= each.level <= each.high]
