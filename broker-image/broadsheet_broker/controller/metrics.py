"""What a controller exports of the cluster, by the names that Kafka's KafkaController and ControllerStats have.

Every controller reports the cluster as its metadata have it, and whether it is the active one, as Kafka's do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from broadsheet_broker.metadata.image import NO_LEADER, PartitionImage

if TYPE_CHECKING:
    from broadsheet_broker.metadata.delta import MetadataDelta
    from broadsheet_broker.metadata.image import ClusterImage
    from broadsheet_broker.seams.metrics import Metrics

_PREFIX: Final = "kafka_controller_kafkacontroller"

ACTIVE: Final = (f"{_PREFIX}_activecontrollercount", "1 on the active controller, 0 on the others.")

GAUGES: Final[tuple[tuple[str, str, Callable[[ClusterImage], float]], ...]] = (
    (
        f"{_PREFIX}_activebrokercount",
        "Brokers that are not fenced.",
        lambda image: sum(not broker.fenced for broker in image.brokers.values()),
    ),
    (
        f"{_PREFIX}_fencedbrokercount",
        "Brokers that are registered and fenced: stopped, silent, or not ready.",
        lambda image: sum(broker.fenced for broker in image.brokers.values()),
    ),
    (f"{_PREFIX}_globaltopiccount", "Topics of the cluster.", lambda image: len(image.topics_by_id)),
    (
        f"{_PREFIX}_globalpartitioncount",
        "Partitions of the cluster.",
        lambda image: sum(len(topic.partitions) for topic in image.topics_by_id.values()),
    ),
    (
        f"{_PREFIX}_offlinepartitionscount",
        "Partitions without a leader.",
        lambda image: sum(partition.leader == NO_LEADER for partition in _partitions(image)),
    ),
    (
        f"{_PREFIX}_preferredreplicaimbalancecount",
        "Partitions that are not led by their first replica.",
        lambda image: sum(partition.replicas[:1] != (partition.leader,) for partition in _partitions(image)),
    ),
    (
        f"{_PREFIX}_lastappliedrecordoffset",
        "Offset of the last metadata record in the picture that this controller has of the cluster.",
        lambda image: image.offset,
    ),
)
"""Name, help, value."""

UNCLEAN: Final = (
    "kafka_controller_controllerstats_uncleanleaderelections_total",
    "Leaders elected that were neither in sync nor eligible: committed records may be lost.",
)
ELIGIBLE: Final = (
    "kafka_controller_controllerstats_electionfromeligibleleaderreplicas_total",
    "Leaders elected from the eligible leader replicas (KIP-966).",
)


def register(metrics: Metrics, image: Callable[[], ClusterImage], is_active: Callable[[], bool]) -> None:
    """Add the metrics of a controller to the registry of its process."""
    metrics.gauge(*ACTIVE, lambda: int(is_active()))
    for name, help, measure in GAUGES:
        metrics.gauge(name, help, _value(image, measure))
    Elections(metrics)  # so that they are exported before there is the first


class Elections:
    """Counts what the active controller decides; the sum over all controllers is that of the cluster."""

    def __init__(self, metrics: Metrics) -> None:
        self._unclean = metrics.counter(*UNCLEAN)
        self._eligible = metrics.counter(*ELIGIBLE)

    def count(self, delta: MetadataDelta) -> None:
        """Look at one change of the metadata."""
        for topic in delta.changed_topics.values():
            for index, after in topic.changed.items():
                before = topic.before(index)
                if before is not None:
                    self._count(before, after)

    def _count(self, before: PartitionImage, after: PartitionImage) -> None:
        leader = after.leader
        if leader in (NO_LEADER, before.leader) or leader in before.isr:
            return
        (self._eligible if leader in before.elr else self._unclean).value += 1


def _value(image: Callable[[], ClusterImage], measure: Callable[[ClusterImage], float]) -> Callable[[], float]:
    return lambda: measure(image())


def _partitions(image: ClusterImage) -> Iterator[PartitionImage]:
    for topic in image.topics_by_id.values():
        yield from topic.partitions
