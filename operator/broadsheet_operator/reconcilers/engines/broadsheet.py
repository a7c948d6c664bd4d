"""Broadsheet's own broker as an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broadsheet_operator.api import engine_versions
from broadsheet_operator.api.engine import EngineType
from broadsheet_operator.api.engine_versions import Levels
from broadsheet_operator.reconcilers.place import Place


@dataclass(frozen=True, slots=True)
class Broadsheet:
    """It formats its own directory: what that needs is among its properties."""

    type = EngineType.BROADSHEET
    version = ""
    title = "Broadsheet"

    @property
    def knows(self) -> Mapping[str, Levels]:
        """The levels of Kafka 4.3."""
        return engine_versions.BROADSHEET

    def properties(self, place: Place) -> Mapping[str, str]:
        """The cluster's id, and what the place has for it."""
        return {"cluster.id": place.cluster_id, **place.broadsheet}

    def refuses(self, key: str) -> str:
        """It says itself what it refuses, at its start."""
        return ""
