"""The interface of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from broadsheet_operator.api import Cluster
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

    @property
    def image(self) -> str:
        """Its image where the Cluster names none; empty where the operator chooses one."""

    @property
    def containers(self) -> str:
        """The template of the containers of a broker's pod."""

    def properties(self, place: Place) -> Mapping[str, str]:
        """Broker properties at this place that only it knows; the Cluster cannot set them."""

    def refuses(self, key: str) -> str:
        """Why it does not take this broker property; empty when it does."""

    def files(self, cluster: Cluster, place: Place, agent_image: str) -> Mapping[str, str]:
        """Files of the ConfigMap beside server.properties, by name."""

    def started_with(self, cluster: Cluster) -> Mapping[str, Any]:
        """What its pods are started with beside the inputs that every engine has: a change of it restarts them."""

    def values(self, cluster: Cluster, agent_image: str) -> Mapping[str, Any]:
        """Values for its template. `agent_image`: the image that brings the agent of Java's metrics; empty: none."""
