"""The engine of the Clusters under test: `--engine apache-kafka` runs the same tests on Apache Kafka's brokers.

A test that needs Apache Kafka whatever the option says takes the fixture `apache_kafka`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from e2e.operator import apache_image, images

Body = dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """What differs between the engines for a test."""

    name: str
    image: str
    """That the brokers run unless a Cluster names another one."""
    spec: Body | None
    """spec.engine of a Cluster."""
    resources: Body
    """spec.brokers.resources: small, since many brokers share one machine."""
    configuration: str
    """The directory of server.properties in a broker's container."""
    patience: float
    """How many times longer than for our broker a test waits: a JVM takes 10 to 20 s to start on a busy machine."""

    def apply_to(self, spec: Body) -> Body:
        """The spec of a Cluster with this engine; what it says of resources stays."""
        brokers = {"resources": self.resources, **spec["brokers"]}
        return {**spec, "brokers": brokers, **({"engine": self.spec} if self.spec else {})}


BROADSHEET = Engine(
    name="broadsheet",
    image=images.BROKER,
    spec=None,
    resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
    configuration="/etc/kafka",
    patience=1.0,
)


def apache_kafka(version: str = apache_image.VERSIONS[0]) -> Engine:
    """Apache Kafka of a version, with the smallest heap that three brokers of these tests get along with."""
    return Engine(
        name="apache-kafka",
        image=apache_image.reference(version),
        spec={"type": "apache-kafka", "version": version, "jvm": {"heap": "256Mi"}},
        resources={"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"memory": "768Mi"}},
        configuration="/etc/kafka/broadsheet",
        patience=3.0,
    )


ENGINES = {engine.name: engine for engine in (BROADSHEET, apache_kafka())}
