"""Cluster metadata: records of the metadata log, and the immutable picture of the cluster that they add up to."""

from broadsheet_broker.metadata.cache import MetadataCache
from broadsheet_broker.metadata.delta import MetadataDelta, TopicDelta
from broadsheet_broker.metadata.image import (
    BrokerInfo,
    ClusterImage,
    ConfigResource,
    PartitionImage,
    ResourceType,
    TopicImage,
)

__all__ = [
    "BrokerInfo",
    "ClusterImage",
    "ConfigResource",
    "MetadataCache",
    "MetadataDelta",
    "PartitionImage",
    "ResourceType",
    "TopicDelta",
    "TopicImage",
]
