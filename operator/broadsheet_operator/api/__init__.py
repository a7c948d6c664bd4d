"""The contract: pydantic models of Cluster, Topic and ConsumerGroup. The CRDs are generated from them."""

from broadsheet_operator.api.cluster import Cluster, ClusterSpec, ClusterStatus
from broadsheet_operator.api.consumer_group import ConsumerGroup, ConsumerGroupSpec, ConsumerGroupStatus
from broadsheet_operator.api.meta import API_VERSION, Condition, ObjectMeta, Resource, Status
from broadsheet_operator.api.topic import Topic, TopicSpec, TopicStatus

__all__ = [
    "API_VERSION",
    "Cluster",
    "ClusterSpec",
    "ClusterStatus",
    "Condition",
    "ConsumerGroup",
    "ConsumerGroupSpec",
    "ConsumerGroupStatus",
    "ObjectMeta",
    "Resource",
    "Status",
    "Topic",
    "TopicSpec",
    "TopicStatus",
]
