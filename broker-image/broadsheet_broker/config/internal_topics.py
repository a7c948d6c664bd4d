"""The topics that Kafka keeps for itself (org.apache.kafka.common.internals.Topic): one table.

Clients see these topics flagged as internal and may not write to them. A topic comes into being when it is first
needed, with what its row says; a coordinator of its own (`coordinators/runtime`) keeps its state there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broadsheet_broker.config.broker import BrokerConfig

CLUSTER_METADATA_TOPIC: Final = "__cluster_metadata"
"""The quorum's log. It has directories and segments as topics have, and is not one: the metadata never lists it."""

GROUP_METADATA_TOPIC: Final = "__consumer_offsets"
TRANSACTION_STATE_TOPIC: Final = "__transaction_state"
SHARE_STATE_TOPIC: Final = "__share_group_state"


@dataclass(frozen=True, slots=True)
class InternalTopic:
    """How one of these topics is created. Keys are those of the broker's configuration."""

    name: str
    coordinator: str
    """Whose state it holds, for messages: `consumer groups`."""
    partitions_key: str
    replication_factor_key: str
    fixed: Mapping[str, str]
    """Topic properties that Kafka gives it whatever the configuration says."""
    configured: Mapping[str, str] = field(default_factory=dict)
    """Topic properties, and the key of the broker that has the value."""

    def topic_configs(self, config: BrokerConfig) -> dict[str, str]:
        """The properties to create the topic with."""
        return {**self.fixed, **{name: str(config.get_int(key)) for name, key in self.configured.items()}}


INTERNAL_TOPICS: Final[Mapping[str, InternalTopic]] = {
    topic.name: topic
    for topic in (
        InternalTopic(
            GROUP_METADATA_TOPIC,
            "consumer groups",
            "offsets.topic.num.partitions",
            "offsets.topic.replication.factor",
            {"cleanup.policy": "compact", "compression.type": "producer"},
            {"segment.bytes": "offsets.topic.segment.bytes"},
        ),
        InternalTopic(
            TRANSACTION_STATE_TOPIC,
            "transactions",
            "transaction.state.log.num.partitions",
            "transaction.state.log.replication.factor",
            {
                "cleanup.policy": "compact",
                "compression.type": "uncompressed",
                "unclean.leader.election.enable": "false",
            },
            {
                "min.insync.replicas": "transaction.state.log.min.isr",
                "segment.bytes": "transaction.state.log.segment.bytes",
            },
        ),
        InternalTopic(
            SHARE_STATE_TOPIC,
            "share groups",
            "share.coordinator.state.topic.num.partitions",
            "share.coordinator.state.topic.replication.factor",
            {"cleanup.policy": "delete", "compression.type": "producer", "retention.ms": "-1"},
            {
                "min.insync.replicas": "share.coordinator.state.topic.min.isr",
                "segment.bytes": "share.coordinator.state.topic.segment.bytes",
            },
        ),
    )
}
"""By name. A further coordinator adds a row, and nothing elsewhere."""


def is_internal(name: str) -> bool:
    """Whether Kafka keeps this topic for itself."""
    return name in INTERNAL_TOPICS
