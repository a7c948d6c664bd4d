"""What lies between two images that no list of records connects: a snapshot took the place of a part of the log."""

from __future__ import annotations

from broadsheet_broker.metadata.delta import MetadataDelta, TopicDelta
from broadsheet_broker.metadata.image import ClusterImage


def difference(old: ClusterImage, new: ClusterImage) -> MetadataDelta:
    """A delta for subscribers that know `old` and are about to see `new`. It is published, never applied."""
    delta = MetadataDelta(old)
    for topic_id, topic in old.topics_by_id.items():
        if topic_id not in new.topics_by_id:
            delta.deleted_topics[topic_id] = topic
    for topic_id, topic in new.topics_by_id.items():
        before = old.topics_by_id.get(topic_id)
        if before == topic:
            continue
        changed = delta.changed_topics[topic_id] = TopicDelta(topic.name, topic_id, before)
        for index, partition in enumerate(topic.partitions):
            if changed.before(index) != partition:
                changed.changed[index] = partition
    for resource in (*old.configs, *new.configs):
        if old.configs.get(resource) != new.configs.get(resource):
            delta.changed_configs[resource] = None
    for broker_id in (*old.brokers, *new.brokers):
        if old.brokers.get(broker_id) != new.brokers.get(broker_id):
            delta.changed_brokers[broker_id] = None
    delta.note_features(new.features)
    return delta
