"""Turns eligible leader replicas on and off, and applies a new `min.insync.replicas` to them (KIP-966).

Which replicas are eligible is decided with each change of a partition (`partition_change`). It depends on leader and
controller using the same `min.insync.replicas`. So the property belongs to the cluster as long as the feature is on,
and a replica that was eligible by the old value is no longer eligible when the value changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from broadsheet_broker.metadata.image import NO_LEADER, ClusterImage, PartitionImage, ResourceType, TopicImage
from broadsheet_broker.wire.messages.clear_elr_record import ClearElrRecord
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord

FEATURE: Final = "eligible.leader.replicas.version"
MIN_ISR: Final = "min.insync.replicas"


def is_on(image: ClusterImage) -> bool:
    """Whether this cluster keeps eligible leader replicas."""
    return bool(image.features.get(FEATURE))


def agree_on_min_isr(image: ClusterImage, min_insync_replicas: int) -> list[ConfigRecord]:
    """Records to write before the feature is on: one value for the whole cluster, and none for a single broker.

    `min_insync_replicas`: what the active controller's own configuration says; it becomes the cluster's.
    """
    records = []
    if MIN_ISR not in image.config(ResourceType.BROKER, ""):
        records.append(min_isr_of_cluster(min_insync_replicas))
    for resource, values in image.configs.items():
        if resource.type == ResourceType.BROKER and resource.name and MIN_ISR in values:
            records.append(
                ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=MIN_ISR, value=None)
            )
    return records


def min_isr_of_cluster(value: int) -> ConfigRecord:
    """`min.insync.replicas` of every broker."""
    return ConfigRecord(resource_type=ResourceType.BROKER, resource_name="", name=MIN_ISR, value=str(value))


def follow_configuration(image: ClusterImage, min_insync_replicas: int) -> list[Any]:
    """Records that make what the active controller's configuration says the cluster's, where the feature is on."""
    if not is_on(image) or image.config(ResourceType.BROKER, "").get(MIN_ISR) == str(min_insync_replicas):
        return []
    change = min_isr_of_cluster(min_insync_replicas)
    return [change, *forget_eligible(image, [change])]


def do_without(image: ClusterImage) -> Iterator[PartitionChangeRecord]:
    """Records to write when the feature is turned off, so that no partition has eligible replicas.

    An ISR may be empty only while the feature is on. A replica that could have led becomes the ISR's member again, and
    leads when its broker is back. (Apache Kafka leaves such a partition as it is; when only the last known leader was
    left, no leader is ever elected again.)
    """
    for topic, index, partition in _tracked(image.topics_by_id.values()):
        record = PartitionChangeRecord(
            partition_id=index, topic_id=topic.id, eligible_leader_replicas=[], last_known_elr=[]
        )
        if not partition.isr:
            record.isr = list(partition.elr or partition.last_known_elr)
        yield record


def forget_eligible(image: ClusterImage, changes: Iterable[ConfigRecord]) -> list[Any]:
    """Records that follow changes of configurations: below another `min.insync.replicas` others are eligible.

    Nothing is committed while a partition has no leader, so there the eligible replicas stay; without them the
    partition could no longer be led. (Apache Kafka clears these as well.)
    """
    affected: dict[str, None] = {}
    for change in changes:
        if change.name == MIN_ISR:
            affected[change.resource_name if change.resource_type == ResourceType.TOPIC else ""] = None
    if "" in affected:
        affected = {"": None}
        topics = list(image.topics_by_id.values())
    else:
        topics = [image.topics_by_name[name] for name in affected]
    kept = list(_tracked(topics))
    if not is_on(image) and not kept:
        return []
    records: list[Any] = [ClearElrRecord(topic_name=name) for name in affected]
    records += [
        PartitionChangeRecord(
            partition_id=index,
            topic_id=topic.id,
            eligible_leader_replicas=list(partition.elr),
            last_known_elr=list(partition.last_known_elr),
        )
        for topic, index, partition in kept
        if partition.leader == NO_LEADER
    ]
    return records


def _tracked(topics: Iterable[TopicImage]) -> Iterator[tuple[TopicImage, int, PartitionImage]]:
    """The partitions for which eligible replicas or a last leader are known."""
    for topic in topics:
        for index, partition in enumerate(topic.partitions):
            if partition.elr or partition.last_known_elr:
                yield topic, index, partition
