"""Properties of the coordinators: consumer groups and their offsets."""

from __future__ import annotations

from broadsheet_broker.config.internal_topics import SHARE_STATE_TOPIC, TRANSACTION_STATE_TOPIC
from broadsheet_broker.config.key import INT, LIST, LONG, SHORT, Key, Kind, at_least, some_of


def _state_topic(prefix: str, topic: str, min_isr: Kind) -> tuple[Key, ...]:
    """How the topic of a coordinator that is not built yet is created, should a client ask for it."""
    return (
        Key(f"{prefix}.num.partitions", INT, "50", f"Partitions of {topic}. Fixed once it exists.", at_least(1)),
        Key(f"{prefix}.replication.factor", SHORT, "3", f"Replicas of {topic}.", at_least(1)),
        Key(f"{prefix}.segment.bytes", INT, "104857600", f"Segment size of {topic}.", at_least(1)),
        Key(f"{prefix}.min.isr", min_isr, "2", f"min.insync.replicas of {topic}.", at_least(1)),
    )


COORDINATOR_KEYS = (
    Key(
        "group.coordinator.rebalance.protocols", LIST, "classic,consumer,streams", "",
        some_of("consumer", "classic", "share", "streams"),
        no_effect="only the classic protocol is built yet",
    ),
    Key("group.min.session.timeout.ms", INT, "6000", "Shortest session timeout (ms) of a member."),
    Key("group.max.session.timeout.ms", INT, "1800000", "Longest session timeout (ms) of a member."),
    Key("group.initial.rebalance.delay.ms", INT, "3000",
        "How long (ms) a group waits for further members after the first."),
    Key("group.max.size", INT, "2147483647", "Maximum members of one group.", at_least(1)),
    Key("offset.metadata.max.bytes", INT, "4096", "Maximum bytes of the text that is committed with an offset."),
    Key("offsets.commit.timeout.ms", INT, "5000", "How long (ms) a commit waits for replication.", at_least(1)),
    Key(
        "offsets.retention.minutes", INT, "10080",
        "Age (minutes) at which offsets of an empty group are deleted.", at_least(1),
    ),
    Key(
        "offsets.retention.check.interval.ms", LONG, "600000",
        "How often (ms) the age of offsets is checked.", at_least(1),
    ),
    Key("offsets.load.buffer.size", INT, "5242880", "", at_least(1), no_effect="groups are loaded batch by batch"),
    Key(
        "offsets.topic.num.partitions", INT, "50",
        "Partitions of __consumer_offsets. Fixed once it exists.", at_least(1),
    ),
    Key("offsets.topic.replication.factor", SHORT, "3", "Replicas of __consumer_offsets.", at_least(1)),
    Key("offsets.topic.segment.bytes", INT, "104857600", "Segment size of __consumer_offsets.", at_least(1)),
    *_state_topic("transaction.state.log", TRANSACTION_STATE_TOPIC, INT),
    *_state_topic("share.coordinator.state.topic", SHARE_STATE_TOPIC, SHORT),
)  # fmt: skip
