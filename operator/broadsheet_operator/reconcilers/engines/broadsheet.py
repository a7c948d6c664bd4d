"""Broadsheet's own broker as an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broadsheet_operator.api import Cluster, engine_versions
from broadsheet_operator.api.engine import EngineType
from broadsheet_operator.api.engine_versions import Levels
from broadsheet_operator.reconcilers.place import Place

FIRST_VOTERS = "broadsheet.initial.controllers"


@dataclass(frozen=True, slots=True)
class Broadsheet:
    """It formats its own directory: what that needs is among its properties."""

    type = EngineType.BROADSHEET
    version = ""
    title = "Broadsheet"
    image = ""
    containers = "containers-broadsheet.yaml.j2"

    @property
    def knows(self) -> Mapping[str, Levels]:
        """The levels of Kafka 4.3."""
        return engine_versions.BROADSHEET

    def properties(self, place: Place) -> Mapping[str, str]:
        """The cluster's id, its first voters while there is no quorum, and what the place has for it."""
        first = {FIRST_VOTERS: place.first_voters} if place.first_voters else {}
        return {"cluster.id": place.cluster_id, **place.broadsheet, **first}

    def refuses(self, key: str) -> str:
        """It says itself what it refuses, at its start."""
        return ""

    def files(self, cluster: Cluster, place: Place, agent_image: str) -> Mapping[str, str]:
        """None."""
        return {}

    def started_with(self, cluster: Cluster) -> Mapping[str, Any]:
        """Nothing: brokers must not restart because an operator knows more engines."""
        return {}

    def values(self, cluster: Cluster, agent_image: str) -> Mapping[str, Any]:
        """It has its own metrics."""
        return {"agent_image": ""}
