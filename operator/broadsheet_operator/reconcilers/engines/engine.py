"""The interface of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from broadsheet_operator.api.engine import EngineType
from broadsheet_operator.api.engine_versions import Levels
from broadsheet_operator.reconcilers.place import Place


class Engine(Protocol):
    """A program that brokers run, at one version."""

    @property
    def type(self) -> EngineType:
        """Which program."""

    @property
    def version(self) -> str:
        """Its version, as `4.3.0`; empty where the image alone says it."""

    @property
    def title(self) -> str:
        """As people say it: `Apache Kafka 4.3.0`."""

    @property
    def knows(self) -> Mapping[str, Levels]:
        """The features that it knows, and their levels: it cannot start on a cluster beyond them."""

    def properties(self, place: Place) -> Mapping[str, str]:
        """Broker properties at this place that only it knows; the Cluster cannot set them."""

    def refuses(self, key: str) -> str:
        """Why it does not take this broker property; empty when it does."""
