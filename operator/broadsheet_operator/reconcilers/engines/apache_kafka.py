"""Apache Kafka as an engine, in the layout of its official image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broadsheet_operator.api import engine_versions
from broadsheet_operator.api.engine import NO_PROPERTIES_OF_OURS, EngineType
from broadsheet_operator.api.engine_versions import Levels
from broadsheet_operator.reconcilers.place import Place


@dataclass(frozen=True, slots=True)
class ApacheKafka:
    """A directory is formatted by kafka-storage.sh, so its properties are those of server.properties alone."""

    version: str
    type = EngineType.APACHE_KAFKA

    @property
    def title(self) -> str:
        """With the version."""
        return f"Apache Kafka {self.version}"

    @property
    def knows(self) -> Mapping[str, Levels]:
        """The levels of its version."""
        return engine_versions.VERSIONS[engine_versions.minor_of(self.version)]

    def properties(self, place: Place) -> Mapping[str, str]:
        """None beside Kafka's own."""
        return {}

    def refuses(self, key: str) -> str:
        """Properties of our own brokers."""
        return NO_PROPERTIES_OF_OURS if key.startswith("broadsheet.") else ""
